"""Compiled for the CPU.

| file | holds |
|---|---|
| `run` | what the backend takes, and running it |
| `encode` | a plan's segments as arrays |
| `ahead` | the process that compiles into the cache on the disk |
| `codes` | what the numbers in those arrays mean |
| `program` | the compiled loop over samples and segments |
| `unequal` | the compiled loop over images of unequal size |
| `warp`, `bilinear`, `cubic`, `resample`, `tone`, `clahe`, `noise` | what the loops call for each kind of segment |
| `vectors` | what LLVM does not find in loops: transposing, and sums of pairs of products |
| `memory` | compiler options, and arrays without the costs that numba adds to them |

Only `program`, `unequal` and what they call are compiled; they are imported when a plan is first executed. Two things
keep their loops fast, and are done throughout: indices are unsigned (`memory.U`), since numba checks signed ones for
being negative, which stops a loop from being vectorised; and sums in int32 are cast at every step, since numba widens
them to 64 bits, which halves the values a vector instruction holds.
"""
