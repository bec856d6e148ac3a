"""Rules that give each sample of a batch a weight and a soft label, one file a rule.

| rule | what |
|---|---|
| `ByRule` | weights and labels by your own `Rule`, a function of the benefits |
| `LearningToReweight` | weights by agreement with the validation gradient |
| `LiLAW` | weights by three learned numbers, for easy, moderate and hard samples |
| `MetaAugment` | weights by features and operations; learns how often each pair of operations is drawn |
| `MetaWeightNet` | weights by a learned function of the loss |
| `SAFLEX` | weights and soft labels that lower the validation loss most |
| `SoftAugmentation` | labels softened by how much of the image is hidden; needs no model |
| `UniformWeights` (`Uniform`) | leaves every batch as it is: the baseline |

| file | holds |
|---|---|
| `protocols` | what a method is: a `Rule` or a `Learner` |
| `pair_table` | how often MetaAugment draws each sequence of operations |
| `learned`, `meta` | base class of methods that learn from validation data, and of those that train a network |
| `batch_gradients`, `waiting` | gradients of one batch, on demand; batches between the loader and the loss |
| `validation` | batches of validation data; the split into training and validation data |
| `worker_reads` | reading a dataset in a worker process |
| `other_transform` | a dataset whose samples go through another transform |
| `judge` | validation samples that are trained on, too, and whether they are learned by heart |
| `memory`, `figures`, `weights` | the last weight of each sample; statistics; checks and scaling to mean 1 |
| `checks` | checks of arguments |
| `shared_samples` | how many samples two datasets have in common |
"""

from .by_rule import ByRule
from .learned import Reweighting
from .learning_to_reweight import LearningToReweight
from .lilaw import LiLAW
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
    "LiLAW",
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
