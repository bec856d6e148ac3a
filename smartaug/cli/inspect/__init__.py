"""``smartaug inspect``: what a pipeline does to images. `command` takes pipelines as text, `own` the user's own."""

from .command import run

__all__ = ["run"]
