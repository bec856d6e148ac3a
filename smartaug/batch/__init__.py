"""What travels between stages, and what a loader hands to the training loop.

| file | holds |
|---|---|
| `records` | `Batch`, `Mixed`, `Embedding` |
| `target` | `Target`, the user's labels with weights, soft labels and indices |
| `extras` | those extras of the rows, and their checks |
| `carried`, `joined` | which operations of torch carry them, and how; joins of several targets |
| `calls` | arguments of a torch call, as ``__torch_function__`` receives them |
"""

from .records import Batch, Embedding, Maker, Mixed, makers
from .target import Target
from .target import _rebuild as _rebuild  # the name of it in files

__all__ = ["Batch", "Embedding", "Maker", "Mixed", "Target", "makers"]
