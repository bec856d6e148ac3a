"""``smartaug demo``: the same small CNN trained through torch's loader, then with two lines changed.

| file | holds |
|---|---|
| `command` | the training runs and the subcommand |
| `task` | the images, the network and the augmentation of both runs |
| `picture` | the picture that it writes |
"""

from .command import run

__all__ = ["run"]
