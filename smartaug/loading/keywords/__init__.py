"""The keywords that replace parts of a loader: `lift` the dataset by a copy, `coreset` the sampler."""
