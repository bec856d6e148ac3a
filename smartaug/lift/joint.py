"""Batches whose samples have boxes, keypoints or lists of images: what travels from the worker to the hand-over.

What: for each row the sample as the worker's transforms left it, and where its parts lie in the user's batch. At
hand-over the plans of the lifted transforms move the targets (`Following`), and the transforms of the pipeline's end
that change targets only (`Lifted.tail`) run on each sample as the user wrote them. When: joint pipelines of detection,
keypoints, instance masks. Cost: a few operations on all boxes of the batch for each operation, and the tail per sample.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol

from torch import Tensor

from .._base import leaves
from ..augment.plan import Plan


class JointSample(NamedTuple):
    """One row. made: what the worker's transforms made of the sample, None in place of the image.

    image: path of the image in ``made``. several: whether the pipeline is called with the parts of ``made`` as several
    arguments. places: for each deferred leaf but the image its path in ``made`` and in the batch. as_image: whether the
    user's image is a tv_tensors.Image.
    """

    made: leaves.Structure
    image: leaves.Path
    several: bool
    places: tuple[tuple[leaves.Path, leaves.Path], ...]
    as_image: bool = False

    def typed(self, image: Tensor) -> Tensor:
        """A finished image in the type that the user's pipeline gives it."""
        if not self.as_image:
            return image
        from torchvision import tv_tensors

        return tv_tensors.Image(image)


class Joint(NamedTuple):
    """Where a batch's images and targets are. samples: in the order of their rows.

    images: the path of the stack (B, C, H, W), or the paths of the B images, if they are not stacked. stacked: whether
    they are. stacks: paths of targets of which the batch has a stack, one row a sample. rows: of the batch's ``length``
    rows those of the samples; the others are of samples that got their whole pipeline.
    """

    samples: tuple[JointSample, ...]
    images: tuple[leaves.Path, ...]
    stacked: bool
    stacks: frozenset[leaves.Path]
    rows: tuple[int, ...]
    length: int

    def in_samples(self, path: leaves.Path) -> bool:
        """Whether a leaf of the batch belongs to one sample, so that its length is not that of the batch."""
        if path in self.stacks:
            return False
        listed = not self.stacked and not self.parent  # a list of samples
        return listed or any(path == place for sample in self.samples for _, place in sample.places)

    @property
    def given(self) -> set[leaves.Path]:
        """Paths of the targets that the transform was given."""
        return {path for sample in self.samples for _, path in sample.places}

    @property
    def parent(self) -> leaves.Path:
        """The path of the list of the images; () if they do not have one of their own."""
        parent = self.images[0][:-1]
        listed = all(path == (*parent, row) for row, path in zip(self.rows, self.images, strict=True))
        return parent if listed else ()


class Following(Protocol):
    """The targets of some samples whose images have one size, on their way through the plans of their images."""

    def follow(self, plan: Plan) -> None:
        """Move the targets as ``plan``, which has a row a sample, moves the images."""

    def finished(self, images: Sequence[Tensor]) -> list[leaves.Structure]:
        """Each sample as the user's pipeline would have returned it. images: those of the samples, finished."""


class NoTargets:
    """A `Following` for samples that are an image alone."""

    def __init__(self, samples: Sequence[JointSample]) -> None:
        self.samples = samples

    def follow(self, plan: Plan) -> None:
        """Nothing moves with the images."""

    def finished(self, images: Sequence[Tensor]) -> list[leaves.Structure]:
        """The images in their places."""
        pairs = zip(self.samples, images, strict=True)
        return [leaves.put(sample.made, sample.image, image) for sample, image in pairs]
