"""What a target carries for its rows: weights, soft labels, dataset indices, and the samples of mixed rows.

| file | holds |
|---|---|
| `tensor` | a tensor with extras of its rows, checked |
| `mixed` | `Mixed`, the samples of mixed rows; the makers of targets |
| `carried`, `joined` | which operations of torch carry the extras, and how; joins of several targets |
| `calls` | arguments of a torch call, as ``__torch_function__`` receives them |
"""
