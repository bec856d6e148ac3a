"""Which samples an epoch trains on: `Coreset` says how many and how often, a criterion which. One file a criterion.

| criterion | what it selects |
|---|---|
| `AugmentationVariance` | samples whose loss the augmentation moves most, more often: a diagnostic |
| `RandomSubset` (`Uniform`) | a new random subset at each selection: the baseline for all other criteria |
| `FacilityLocation` | medoids of the last-layer gradients, weighted by how many samples they represent |
| `MaxLoss` | the largest losses, or the smallest |
| `OrderDP` | the largest losses within a random subset |
| `JEST` | not a criterion but a coreset: hands out a part of each batch of pairs, by what they are worth together |
| `InfoBatch` | not a criterion but a coreset: leaves out a random part of the samples below the mean loss |
| `RePB` | as `InfoBatch`, with the mean of a sample's own batch, and weights by how often it was drawn |
| `AlignPrune` | as `InfoBatch`, by whether a sample's loss falls as that of clean samples: for wrong labels |

| file | holds |
|---|---|
| `coreset` | `Coreset`: a budget, a criterion, and what the selection is for |
| `schedule` | the number of samples of an epoch, and in which epochs a new selection is made |
| `use` | what is done with a selection |
| `samples`, `record`, `embed` | labels and embeddings of the samples, from observed outputs or a pass of the model |
| `greedy/` | the greedy algorithm of `FacilityLocation`, by numba and by torch |
| `pick`, `shares` | the selection within each class; the split of the budget over the classes |
| `pruning` | what `InfoBatch`, `RePB` and `AlignPrune` share |
| `originals` | the random subset whose originals are trained on beside augmented copies of the selection |
| `checks` | checks of the embedding and the budget |
| `remembered` | the last selections, for late batches and for workers |

A criterion is any ``(embedding, budget, generator) -> (indices, weights)``; `embed_pass` makes the embedding of a
dataset by one pass of the model.
"""

from .align_prune import AlignPrune
from .augmentation_variance import AugmentationVariance
from .coreset import Coreset
from .embed import embed_pass
from .facility_location import FacilityLocation
from .info_batch import InfoBatch
from .jest import JEST
from .max_loss import MaxLoss
from .order_dp import OrderDP
from .random_subset import RandomSubset, Uniform
from .repb import RePB

__all__ = [
    "JEST",
    "AlignPrune",
    "AugmentationVariance",
    "Coreset",
    "FacilityLocation",
    "InfoBatch",
    "MaxLoss",
    "OrderDP",
    "RandomSubset",
    "RePB",
    "Uniform",
    "embed_pass",
]
