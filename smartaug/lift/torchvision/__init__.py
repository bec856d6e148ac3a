"""torchvision, first and second generation.

| file | holds |
|---|---|
| `translate` | containers, conversions, policies, and the table of all |
| `geometry`, `values` | translators of what moves pixels, and of what changes values |
| `perspective` | RandomPerspective, which `augment` does not have |
"""

from .translate import parts, translate

__all__ = ["parts", "translate"]
