"""timm: `translate` is the table of its transforms, `ops` its policies' operations."""

from .translate import TimmErase, from_string, translate

__all__ = ["TimmErase", "from_string", "translate"]
