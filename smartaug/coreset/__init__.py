"""Which samples an epoch trains on: `Coreset` says how many and how often, a criterion which. One file a criterion.

| criterion | what it selects |
|---|---|
| `Uniform` | a fresh random subset each time: the baseline that every other must beat |
"""

from .schedule import Coreset
from .uniform import Uniform

__all__ = ["Coreset", "Uniform"]
