"""The augment stage on one batch: takes its images out, runs the steps on them, and puts the results back.

The steps themselves are run by `augmenting.Augmenting`, which knows nothing of the user's structure.
"""

from __future__ import annotations

import dataclasses
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor

from ..._base import leaves
from ..._base.unequal_images import UnequalImages, stacked
from ...augment.targets.kinds import FORMATS, Boxes, Kind, Mask, kind_of
from ...lift import Lifted
from ...lift.deferred.collecting import Unfinished
from ...lift.joint import Joint
from ...warnings import warn
from ..following.addresses import Address, find, of_every_row
from ..following.followers import find_followers, staying
from ..following.moving import Following, Found, Moving, MovingTogether, word_of
from ..following.objects.moving import retyped
from ..following.pictures import Pictures
from ..following.places import Place, Places, find_places, is_label
from ..inputs import (
    Inputs,
    check_mixed_alone,
    draws_shared,
    refuse_others,
    refuse_sample_labels,
    refuse_unmixed,
    repeated,
)
from ..settings import Settings
from . import image_lists
from .augmenting import Augmented, Augmenting, Samples
from .result_rows import ResultRows


class AugmentedBatch(NamedTuple):
    """A batch after the augment stage.

    data: the batch, in the user's structure; made: its views and plans; samples: the dataset index (int64) of each row;
    followed: the leaves that moved with the images, and were mixed with them.
    """

    data: leaves.Structure
    made: Augmented
    samples: Tensor
    followed: tuple[leaves.Path, ...]


class AugmentStage:
    """Augments batches of the user's structure. settings: the loader's keywords; lifted: see `Pipeline`."""

    def __init__(self, settings: Settings, lifted: Lifted | None) -> None:
        self.settings, self.lifted = settings, lifted
        self._views_warned = False
        self._followers: list[tuple[str, str]] | None = None  # of the last batch
        self._looked: dict[object, bool] = {}  # what `find_places` and `find_followers` saw in earlier batches

    def run(
        self,
        augmenting: Augmenting,
        data: leaves.Structure,
        inputs: Inputs,
        labels: list[leaves.Path],
        samples: Samples,
        rows: ResultRows | None,
        device: torch.device | None,
        unfinished: Unfinished | None,
        joint: Joint | None = None,
    ) -> AugmentedBatch:
        """The batch after ``augmenting``.

        rows: of the result; None: those of the batch, all augmented. joint: of lifted transforms that ran already.
        """
        if self.lifted is not None and unfinished is not None:
            refuse_others(unfinished, inputs)
            self.lifted.check([leaves.get(data, path) for path in inputs.augmented])
        views, frames = _views(data, inputs, device)
        label = leaves.get(data, labels[0]) if labels and augmenting.reads_labels else None
        samples = dataclasses.replace(samples, labels=label) if isinstance(label, Tensor) else samples
        shared = not inputs.listed and self._share_draws(augmenting, data, inputs, views, unfinished)
        several = 1 if shared or inputs.listed else len(views)
        following, places = self._following(data, inputs, device, unfinished, joint, several)
        order = torch.arange(len(samples.index), device="cpu") if rows is None else rows.source
        parts: list[tuple[Moving, Tensor]] = []

        def follows(chosen: Tensor, becomes: Tensor, size: tuple[int, int] | None = None) -> Moving:
            own = size or ((views[0].shape[-2], views[0].shape[-1]) if views else (0, 0))
            parts.append((following.of(chosen, own), becomes))
            return parts[-1][0]

        if inputs.listed:
            together = partial(MovingTogether, following)
            results, made = image_lists.augmented(
                augmenting, views, samples, places, rows, follows, together, device=device
            )
        elif rows is None:
            made = augmenting.all_rows(views, samples, places, follows(order, order), shared=shared)
        else:
            made = augmenting.some_rows(views, samples, places, rows, follows, shared=shared)
        if len(order) > len(samples.index):
            data = repeated(data, inputs.augmented, labels[0] if labels else None, order, len(samples.index))
        data = following.put(data, parts, order)
        if any(plan.mixes for plan in made.plans):
            stays = staying(data, self.settings.still, len(order))
            refuse_sample_labels(data, len(order), following.found.all, (*stays, *labels, *inputs.parts))
            still = (*stays, *following.paths())
            check_mixed_alone(data, inputs, still)
            if self.settings.inputs is None and self.settings.target is None:
                refuse_unmixed(data, inputs, labels, still)  # else the user said what belongs together
        data = _put_listed(data, inputs, results, order) if inputs.listed else _put(data, inputs, made.views, frames)
        return AugmentedBatch(stacked(data), made, samples.index[order], following.paths())

    def explain(self) -> list[tuple[str, str, str]]:
        """Rows (what follows, where, what it is) for the table of stages; of the last batch, once there was one."""
        named = [(repr(leaf), word_of(kind_of(kind))) for leaf, kind in (self.settings.follow or {}).items()]
        rows = named if self._followers is None else self._followers
        return [(f"follows: {leaf}", "with images", what) for leaf, what in rows]

    def _refuse_unknown_draws(self, count: int) -> None:
        """Raise a ValueError for several pictures a sample of a dataset of which no sample was read before (a stream).

        Of others it is known that they do not seed the generators before each picture, so that all are drawn alike.
        """
        if self.lifted is not None and self.lifted.kind is None:
            raise ValueError(
                f"lift=True met {count} pictures a sample of an IterableDataset, and whether they were drawn alike is "
                'not known; write views="independent" if each has its own draw (contrastive views), or views="same" if '
                "they share one (frames, stereo)"
            )

    def _share_draws(
        self,
        augmenting: Augmenting,
        data: leaves.Structure,
        inputs: Inputs,
        views: list[Tensor],
        unfinished: Unfinished | None,
    ) -> bool:
        """Whether the views of a sample share one draw; warns once where ``views=`` is not given."""
        if len(views) < 2 or not augmenting.steps:
            return False
        if unfinished is not None and self.settings.augment is None and self.settings.views is None:
            self._refuse_unknown_draws(len(views))
            return False  # the dataset called its transform for each view, which drew for each
        shared = draws_shared(data, inputs, views, self.settings.views)
        if shared is None and augmenting.draws and not self._views_warned:
            self._views_warned = True
            warn(
                f"each of the {len(views)} pictures of a sample is augmented with draws of its own; write "
                'views="independent" if that is meant (contrastive views), or views="same" for one draw for all '
                "(frames of a clip, stereo)",
            )
        return bool(shared)

    def _following(
        self,
        data: leaves.Structure,
        inputs: Inputs,
        device: torch.device | None,
        unfinished: Unfinished | None,
        joint: Joint | None,
        views: int,
    ) -> tuple[Following, Places]:
        """What follows the images of a batch, and what may have to; both are searched for when a stage moves pixels.

        views: how many images of a sample have draws of their own.
        """
        if not inputs.augmented or not (inputs.listed or leaves.get(data, inputs.augmented[0]).ndim >= 4):
            return Following(data), Places()
        settings = self.settings
        pictures = Pictures.of(data, inputs.augmented)

        def find() -> Found:
            lifted = self._lifted(data, unfinished, joint, pictures.rows)
            still = staying(data, settings.still, pictures.rows)
            found = find_followers(data, pictures, settings.follow, still, lifted, self._looked)
            self._followers = found.described()
            return found

        def find_unknown() -> dict[leaves.Path, Place]:
            known = staying(data, settings.still, pictures.rows)
            labels = leaves.find_parts(data, settings.target, "target")
            known += tuple(path for path in labels if is_label(data, path))
            followers = {path for address in following.found.all for path in address.paths(pictures.rows)}
            return find_places(data, pictures, known, followers, self._looked)

        following = Following(data, find, device, views)
        return following, Places(find_unknown)

    def _lifted(
        self, data: leaves.Structure, unfinished: Unfinished | None, joint: Joint | None, rows: int
    ) -> dict[Address, Kind]:
        """The leaves of which the lifted pipeline says what they are: masks, and boxes with their format."""
        made: dict[Address, Kind] = {Address(path): Mask() for path in (() if unfinished is None else unfinished.masks)}
        if self.lifted is None or joint is None or len(joint.rows) < joint.length:
            return made
        formats, still = self.lifted.box_formats(), staying(data, self.settings.still, rows)
        said = [find(data, spec, rows, "follow") for spec in self.settings.follow or ()]
        for inside, path in (place for sample in joint.samples for place in sample.places if place[0] in formats):
            address = of_every_row(data, path, rows)
            if address in (*made, *said) or leaves.starts_with(next(iter(address.paths(rows))), still):
                continue
            if _have_columns(address.read(data), 4):
                made[address] = _boxes(address, formats[inside])
        return made


def _boxes(address: Address, word: str) -> Boxes:
    """Boxes in the format that the lifted pipeline says. Raises ValueError where ``follow=`` has none."""
    if word in FORMATS:
        return Boxes(word)
    raise ValueError(
        f"{address.shown} has boxes in the format {word!r} of the lifted pipeline, corners in fractions of the image's "
        "sides, for which follow= has no word; write BboxParams(format='pascal_voc') and give it boxes in pixels, or "
        f"still={address.step!r} if they must stay as they are"
    )


def _have_columns(value: object, count: int) -> bool:
    """Whether a leaf, or that of every sample, is a tensor or an array whose rows are ``count`` numbers."""
    parts = value if isinstance(value, list) else [value]
    return all(getattr(part, "shape", ())[-1:] == (count,) for part in parts)


def _views(data: leaves.Structure, inputs: Inputs, device: torch.device | None) -> tuple[list[Tensor], list[int]]:
    """The images to augment: tensors (B, C, H, W) with the number of each input's, 0 unless it is a clip; or a list.

    Tensors are on ``device``.
    """
    found = [leaves.get(data, path) for path in inputs.augmented]
    if inputs.listed:
        return list(found[0]), []
    # the values alone: what types of other libraries say of a picture, such as its affine, is not true of the new one
    found = [leaf.as_subclass(Tensor).to(device, non_blocking=True) for leaf in found]
    found = [leaf[:, None] if leaf.ndim == 1 else leaf for leaf in found]  # a table of one column
    frames = [leaf.shape[1] if leaf.ndim == 5 else 0 for leaf in found]
    views = [view for leaf in found for view in (leaf.unbind(1) if leaf.ndim == 5 else [leaf])]
    return views, frames


def _put(data: leaves.Structure, inputs: Inputs, views: list[Tensor], frames: list[int]) -> leaves.Structure:
    """The batch with the augmented ``views`` in it, the frames of clips together again."""
    rest = iter(views)
    for path, count in zip(inputs.augmented, frames, strict=True):
        made = torch.stack([next(rest) for _ in range(count)], 1) if count else next(rest)
        data = leaves.put(data, path, made[:, 0] if leaves.get(data, path).ndim == 1 else made)
    return data


def _put_listed(
    data: leaves.Structure, inputs: Inputs, images: Tensor | list[Tensor], order: Tensor
) -> leaves.Structure:
    """The batch with the augmented ``images``, made from the rows ``order``, in a list of the type that it had."""
    given = leaves.get(data, inputs.parts[0])
    if isinstance(given, UnequalImages) and isinstance(images, Tensor):
        return leaves.put(data, inputs.parts[0], images)
    typed = [retyped(made, given[row], (0, 0)) for made, row in zip(images, order.tolist(), strict=True)]
    return leaves.put(data, inputs.parts[0], type(given)(typed))
