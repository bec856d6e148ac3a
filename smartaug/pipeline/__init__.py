"""What happens to a batch when it is handed over: augment, then reweight, in the main process.

| file | holds |
|---|---|
| `pipeline` | the order of it all; targets, counts, state |
| `stages` | what users hand over as stages, checked |
| `inputs` | the inputs of a batch, and what would move with them |
| `augmenting` | the augmenting half |
| `weighing` | the reweighting half |
| `selection` | which samples a coreset selects in an epoch |
| `epochs` | numbers the passes over the data |
| `plain` | what is left of the stages where nothing is augmented |
"""

from .pipeline import Pipeline

__all__ = ["Pipeline"]
