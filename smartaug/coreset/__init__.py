"""Which samples an epoch trains on: `Coreset` says how many and how often, a criterion which. One file a criterion.

| criterion | what it selects |
|---|---|
| `AugmentationVariance` | samples whose loss the augmentation moves most, more often: a diagnostic |
| `RandomSubset` (`Uniform`) | a fresh random subset each time: the baseline that every other must beat |
| `FacilityLocation` | medoids of the last-layer gradients, weighted by how many samples they stand for |
| `MaxLoss` | the largest losses, or the smallest |
| `InfoBatch` | a coreset of its own: all but a random part of the samples below the mean loss |

| file | holds |
|---|---|
| `coreset` | `Coreset`: a budget, a criterion, and what the selection is for |
| `schedule` | how much of the data an epoch takes, and when it is chosen anew |
| `samples`, `record`, `embed` | what is known of each sample: labels, observed outputs, a pass of the model |
| `pick`, `shares` | which samples, given a budget; how much of it a class gets |
| `remembered` | the last selections, for late batches and for workers |

A criterion is any ``(embedding, budget, generator) -> (indices, weights)``; `embed_pass` makes the embedding of a
dataset by one pass of the model.
"""

from .augmentation_variance import AugmentationVariance
from .coreset import Coreset
from .embed import embed_pass
from .facility_location import FacilityLocation
from .info_batch import InfoBatch
from .max_loss import MaxLoss
from .random_subset import RandomSubset, Uniform

__all__ = [
    "AugmentationVariance",
    "Coreset",
    "FacilityLocation",
    "InfoBatch",
    "MaxLoss",
    "RandomSubset",
    "Uniform",
    "embed_pass",
]
