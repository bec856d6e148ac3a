"""Kernels for CUDA.

| file | holds |
|---|---|
| `run` | what the backend takes, and running it |
| `program` | a plan as a list of kernel launches |
| `launch` | a segment as launches: which kernel, on which samples, with which parameters |
| `unequal` | images of unequal size, resized to one size by one launch |
| `warp`, `tone`, `pixels`, `resample`, `memory` | the kernels, and how they read and write |
| `device` | the device that kernels are launched on |
"""
