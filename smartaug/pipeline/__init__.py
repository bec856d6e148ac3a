"""The stages that run on each collated batch in the main process: augment, then choose rows, then reweight.

| file | holds |
|---|---|
| `pipeline` | the order of the stages; targets, counts, state |
| `existing` | a pipeline found by its key, by a target it made, or of the loader that is built again |
| `settings` | the loader's keywords |
| `stages` | validates what users pass as stages, and groups it |
| `inputs` | the inputs of a batch, and which of them are augmented |
| `following/` | what moves with the images: `follow=`, types, names |
| `augmenting/` | the augmenting half: steps on images, on tables, and on lists of images of unequal size |
| `lifted/` | lifted transforms on whole structures, and the share of samples that they reach |
| `decoded_files` | counts of the JPEG files that `lift.decode` decoded |
| `labelling` | which leaves of a batch are its labels; has `augment.labels` mix them where samples were mixed |
| `weighing` | the reweighting half |
| `magnitudes` | the sources of magnitudes that the stages hold |
| `losses/` | the user's criterion: its losses by sample, and their weighted mean |
| `readers` | the warning where no code reads the weights and soft labels |
| `hand_over` | puts the targets back into the user's structure |
| `report` | `stats()` and `explain()` |
| `selection` | which samples a coreset selects in an epoch |
| `choosing` | which rows of a batch a coreset chooses to hand out |
| `epochs` | the epoch of a batch, and how often its samples occurred before |
| `plain` | the pipeline of `loader.plain()`, without augmentation |
"""

from .pipeline import Pipeline

__all__ = ["Pipeline"]
