"""What several rooms stand on and none owns.

| file | holds |
|---|---|
| `protocols` | what each keyword takes, told apart by how it is called |
| `compiled` | code that numba compiles: kept on disk, mended where it is damaged, given up where it cannot run |
"""
