"""Rules that give each sample of a batch a weight and a soft label, one file a rule.

| rule | what |
|---|---|
| `Uniform` | leaves every batch as it is: the control |
"""

from .uniform import Uniform

__all__ = ["Uniform"]
