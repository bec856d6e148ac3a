"""Around torch's loader: `DataLoader`, `wrap`, `Collate`, samplers and `AugmentedDataset`.

| file | holds |
|---|---|
| `dataloader` | `DataLoader`, a thin shell around torch's loader and the `Pipeline` |
| `wrap` | `wrap`: the same around any iterable of batches |
| `collate` | `Collate` and `Pending`: the hand-over of a batch to the stages |
| `iterator`, `copy_ahead` | opening batches as they are handed out; copying the next one to the device meanwhile |
| `order`, `resume` | the order of the samples; saving a position in it and resuming from it |
| `state` | what a saved state depends on, and whether it fits another loader |
| `plain` | passes for evaluation, which are not augmented and do not count as epochs |
| `keywords/` | how ``lift=`` and ``coreset=`` replace the dataset and the sampler |
| `fetch` | how the samples of a lifted dataset are asked for: whole batches, or one by one |
| `whole_batches` | datasets whose batches can be fetched by one indexing operation |
| `row_samples` | which sample each row of a batch was made from, where the user's own function collated it |
| `small_tensors` | boxes and labels of samples between processes, by value |
| `samplers/` | `CoresetSampler`; a given share of generated samples in every batch |
| `generated` | real and generated samples in one dataset |
| `augmented/` | `AugmentedDataset`, whose transform runs sample by sample |
| `nested` | the datasets inside a dataset |
| `renamed` | names of modules that moved, for pickles with the old ones |
| `pictures/` | pictures of batches, `loader.show()` |
"""
