"""The translator for timm: `translate` has the table of its transforms, `ops` the operations of its policies."""

from .translate import TimmErase, from_string, translate

__all__ = ["TimmErase", "from_string", "translate"]
