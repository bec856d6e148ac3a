"""An existing pipeline, compiled: `lift` and what it gives. One module per library, imported when it is met."""

from .datasets import lift
from .lifted import Lifted

__all__ = ["Lifted", "lift"]
