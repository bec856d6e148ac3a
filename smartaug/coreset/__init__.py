"""Which samples an epoch trains on: `Coreset` says how many and how often, a criterion which. One file a criterion.

| criterion | what it selects |
|---|---|
| `AugmentationVariance` | samples whose loss the augmentation moves most, more often: a diagnostic |
| `Uniform` | a fresh random subset each time: the baseline that every other must beat |
"""

from .augmentation_variance import AugmentationVariance
from .schedule import Coreset
from .uniform import Uniform

__all__ = ["AugmentationVariance", "Coreset", "Uniform"]
