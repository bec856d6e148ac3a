"""timm: `translate` is the table of its transforms, `ops` its policies' operations."""

from .translate import from_string, translate

__all__ = ["from_string", "translate"]
