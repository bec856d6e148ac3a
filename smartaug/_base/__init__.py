"""What several rooms stand on and none owns.

| file | holds |
|---|---|
| `leaves` | where inputs and labels are in the user's batch |
| `labels` | which kind of labels a tensor holds; the labels that a dataset keeps |
| `ranks` | this process among those of `torch.distributed` |
| `torch_fetch` | the one private door into torch's loader: which samples a collate call is for, and in which pass |
| `protocols` | what each keyword takes, told apart by how it is called |
| `compiled` | code that numba compiles: kept on disk, mended where it is damaged, given up where it cannot run |
"""
