"""`AugmentedDataset`: its transform runs sample by sample, with draws of its own for each sample, epoch and repetition.

| file | holds |
|---|---|
| `dataset` | `AugmentedDataset` |
| `per_sample` | how a transform is called on one sample |
| `repeats` | counting the repetitions of a sample within a pass |
| `shared_epoch` | the epoch under torch's loader, agreed on by all worker processes |
"""
