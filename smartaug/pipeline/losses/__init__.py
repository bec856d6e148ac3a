"""The user's criterion: its losses by sample, and their weighted mean.

| file | holds |
|---|---|
| `arguments` | which of a criterion's arguments are the output and the target |
| `rows` | a criterion's losses by sample, and their weighted sum or mean |
| `unknown` | the losses by sample of a criterion that is not torch's |
"""
