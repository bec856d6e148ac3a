"""What happens to a batch when it is handed over: augment, then reweight, in the main process.

| file | holds |
|---|---|
| `pipeline` | the order of it all; targets, counts, state |
| `settings` | the loader's keywords |
| `stages` | what users hand over as stages, checked |
| `inputs` | the inputs of a batch, and which of them are augmented |
| `places` | what else lies in the pictures, and is refused where it would not move with them |
| `augmenting` | the augmenting half |
| `weighing` | the reweighting half |
| `lifted_share` | how many samples were lifted, and what is said where (nearly) none were |
| `readers` | whether anybody reads the weights and soft labels |
| `criterion_arguments` | which of a criterion's arguments are the output and the target |
| `selection` | which samples a coreset selects in an epoch |
| `epochs` | numbers the passes over the data |
| `plain` | what is left of the stages where nothing is augmented |
"""

from .pipeline import Pipeline

__all__ = ["Pipeline"]
