"""``smartaug bench`` and `smartaug.bench`: the user's own loader against smartaug's with ``lift=True``.

| file | holds |
|---|---|
| `command` | `bench` and the subcommand |
| `measurement` | the measurement, phase by phase |
| `report` | the results as text, as plain values and as a picture |
| `rebuilt` | the user's loader made anew with other numbers of workers |
| `parity` | whether lifted transforms give the same images as the dataset's own |
| `step` | the training step of a model that is measured, too |
| `machine` | what the figures were measured on |
"""

from .command import bench, run

__all__ = ["bench", "run"]
