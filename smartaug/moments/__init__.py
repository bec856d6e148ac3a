"""What an augmentation does to images, losses and models, without sampling.

What: the mean and covariance of each image under an augmentation, the mean and variance of a model's loss, how many
random draws estimate them, how much of the loss's gradient lies where the augmentation changes the image, and training
on the expected loss. When: to choose an augmentation's strength, to see which operations hurt a trained model,
to know how many views a test-time average needs. Cost: one transform of the image for each node (162 for CIFAR's padded
crop and flip), for losses one forward pass each. Reference: Balestriero, Misra & LeCun, "A Data-Augmentation Is Worth A
Thousand Samples", NeurIPS 2022. Difference: finite sets are enumerated and continuous parameters integrated over for
any chain of plan-based augmentations, where the paper derives kernels for single ones.

| name | what |
|---|---|
| `of`, `Moments`, `mixture` | mean image, variance image, covariance factor, eigen-images |
| `loss_moments`, `report`, `Report` | mean and variance of the loss, per sample and over a dataset |
| `samples_needed` | how many draws estimate a mean loss to 1 % |
| `saliency_alignment` | how much of the loss's gradient lies in the directions that the augmentation changes |
| `ExpectedLoss`, `ridge`, `squared_error` | training without sampling |

| file | holds |
|---|---|
| `nodes` | the distribution of an augmentation as plans with probabilities |
| `source` | augmented images from nodes or from draws, by blocks |
| `image`, `analytic` | moments of images; closed forms |
| `loss`, `expected` | moments of losses; expected losses |
"""

from .expected import ExpectedLoss, ridge, squared_error
from .image import Error, Moments, mixture, of
from .loss import Report, loss_moments, report, saliency_alignment, samples_needed
from .nodes import Nodes, nodes

__all__ = [
    "Error",
    "ExpectedLoss",
    "Moments",
    "Nodes",
    "Report",
    "loss_moments",
    "mixture",
    "nodes",
    "of",
    "report",
    "ridge",
    "saliency_alignment",
    "samples_needed",
    "squared_error",
]
