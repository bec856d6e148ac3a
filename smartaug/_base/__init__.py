"""Modules that several folders of smartaug use: reading batches and datasets, labels, ranks, torch's loader.

| file | holds |
|---|---|
| `leaves` | reads and replaces parts of the user's batch, by path |
| `input_leaves`, `target_leaves` | which parts of a batch are the inputs, and which the labels |
| `row_extras` | weights, soft labels and indices that a target carries for its rows |
| `labels` | which kind of labels a tensor holds: classes, distributions, values |
| `table_dataset` | data frames, arrays and sparse matrices as a dataset |
| `dataset_labels` | the labels and the number of classes that a dataset stores |
| `real_samples` | which samples of a dataset are real, and not weighed |
| `selections` | the indices and weights that an epoch selects |
| `original` | the dataset of the user behind a copy that a loader reads |
| `arriving` | tensors on their way from a device to the CPU, which nobody waits for |
| `ranks` | sums, maxima, broadcasts and gathers over the ranks of `torch.distributed`; rows that ranks saw last |
| `contrastive` | `ContrastiveLoss`, the loss over the pairs of a batch |
| `torch_fetch` | all use of the private parts of torch's loader: the indices of the batch being loaded, and its pass |
| `global_draws` | whether loading a batch in a worker used the global random generators |
| `protocols` | what each keyword of a loader accepts, and the errors for anything else |
| `names` | the nearest name for a mistyped one, keywords included |
| `compiled` | the disk cache of code that numba compiles, and the fallback where numba cannot run |
| `background` | compiling that code in a process of its own, while batches run on torch |
| `unequal_images` | images of unequal size where torch's collate function wants to stack them |
| `threads` | the rows of a batch, shared among threads |
| `text_tables` | tables as text |
"""
