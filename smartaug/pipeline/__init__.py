"""The stages that run on each collated batch in the main process: augment, then reweight.

| file | holds |
|---|---|
| `pipeline` | the order of the stages; targets, counts, state |
| `settings` | the loader's keywords |
| `stages` | validates what users pass as stages, and groups it |
| `inputs` | the inputs of a batch, and which of them are augmented |
| `pictures` | where the images are, and how large |
| `image_lists` | images in lists, one a sample, of several sizes |
| `addresses` | where leaves lie, those of each sample in a list included |
| `followers` | which leaves follow the images: `follow=`, types, names |
| `object_leaves`, `object_rows` | leaves with a row for each object, such as boxes and their labels |
| `object_values` | boxes and points that are none, or of another format |
| `following` | what follows the images of a batch: read, moved by plans, put back |
| `moving_maps`, `moving_objects` | masks and other maps; boxes, keypoints and what goes with them |
| `places` | what may lie in the images and is not known to follow: an error where a stage moves pixels |
| `labelling` | the labels of a batch, also after samples were mixed |
| `augment_stage` | the augment stage on a batch of the user's structure |
| `augmenting` | the augmenting half: steps on images |
| `weighing` | the reweighting half |
| `magnitudes` | the sources of magnitudes that the stages hold |
| `lifted_joint` | lifted transforms on batches with boxes, keypoints or images in lists |
| `lifted_share` | the share of samples that were lifted, and the warning where it is (nearly) 0 |
| `readers` | the warning where no code reads the weights and soft labels |
| `criterion_arguments` | which of a criterion's arguments are the output and the target |
| `unknown_criteria` | the losses by sample of a criterion that is not torch's |
| `row_losses` | a criterion's losses by sample, and their weighted sum or mean |
| `hand_over` | puts the targets back into the user's structure |
| `report` | `stats()` and `explain()` |
| `selection` | which samples a coreset selects in an epoch |
| `epochs` | the epoch of a batch, and how often its samples occurred before |
| `plain` | the pipeline of `loader.plain()`, without augmentation |
"""

from .pipeline import Pipeline

__all__ = ["Pipeline"]
