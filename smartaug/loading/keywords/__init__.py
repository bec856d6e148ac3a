"""What replaces parts of a loader: `lift` the dataset by a copy, `coreset` the sampler; `training_set` adds to it."""
