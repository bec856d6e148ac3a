"""albumentations.

| file | holds |
|---|---|
| `translate` | containers, conversions, and the table of all |
| `geometry`, `values` | translators of what moves pixels, and of what changes values |
| `geometry_ops`, `tone_ops` | its operations that `augment` does not have |
| `worker_half` | what stays of a pipeline in the workers |
"""

from .translate import head, parts, translate

__all__ = ["head", "parts", "translate"]
