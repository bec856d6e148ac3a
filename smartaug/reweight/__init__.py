"""Rules that give each sample of a batch a weight and a soft label, one file a rule.

| rule | what |
|---|---|
| `ByRule` | a `Rule` of your own on the benefits |
| `LearningToReweight` | weights by agreement with the validation gradient |
| `MetaAugment` | weights by features and operations, and how often each pair of operations is drawn |
| `MetaWeightNet` | weights by a learned function of the loss |
| `SAFLEX` | weights and soft labels that lower the validation loss most |
| `SoftAugmentation` | labels softened by how much of the image is left; no model |
| `UniformWeights` (`Uniform`) | leaves every batch as it is: the control |

| file | holds |
|---|---|
| `protocols` | what a method is: a `Rule` or a `Learner` |
| `learned`, `meta` | the shell around any method; the shell of those that own a network |
| `batch_gradients`, `waiting` | gradients of one batch, on demand; batches between the loader and the loss |
| `validation` | batches of validation data, and the split that keeps some |
| `memory`, `figures`, `weights` | last weights of samples; statistics of weights; their check and scaling to mean 1 |
| `shared_samples` | how many samples two datasets have in common |
"""

from .learned import ByRule, Reweighting
from .learning_to_reweight import LearningToReweight
from .meta import MetaLearner
from .meta_augment import MetaAugment
from .meta_weight_net import MetaWeightNet
from .protocols import Gradients, Learner, Rule
from .saflex import SAFLEX
from .soft_augmentation import SoftAugmentation
from .uniform_weights import Uniform, UniformWeights
from .validation import split_validation

__all__ = [
    "SAFLEX",
    "ByRule",
    "Gradients",
    "Learner",
    "LearningToReweight",
    "MetaAugment",
    "MetaLearner",
    "MetaWeightNet",
    "Reweighting",
    "Rule",
    "SoftAugmentation",
    "Uniform",
    "UniformWeights",
    "split_validation",
]
