"""The greedy algorithm of `FacilityLocation`: costs between points, and the same selection by numba and by torch.

| file | holds |
|---|---|
| `costs` | the points of an embedding, and the cost of one standing for another |
| `numba`, `torch` | exact and sampled selections; which point stands for which |
"""
