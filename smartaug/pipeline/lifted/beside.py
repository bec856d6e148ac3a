"""What ``follow=`` names and the dataset's transform was not given, beside a batch whose lifted transforms run first.

What: it moves under the lifted stages as under those of ``augment=``; what the transform was given moves as the
library moves it. When: ``follow=`` with ``lift=True``. Cost: that of moving it.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ..._base import leaves
from ...augment.targets.kinds import Object, kind_of
from ...lift import Lifted
from ...lift.joint import Joint
from ..following.addresses import find
from ..following.followers import find_followers, staying
from ..following.moving import Following
from ..following.pictures import Pictures
from ..settings import Settings


def beside(
    data: leaves.Structure,
    joint: Joint,
    settings: Settings,
    device: torch.device | None,
    seen: dict[object, bool],
) -> Following | None:
    """What follows the images of the batch ``data`` and is not in ``joint``; None: nothing.

    seen: cache of one loader, see `find_followers`. Raises ValueError where it cannot be found.
    """
    if not settings.follow:
        return None
    place = joint.images[0] if joint.stacked else joint.parent
    if not place:
        raise ValueError(
            "follow= names leaves of a batch, and this one is a list of samples; let the collate function give the "
            "images as a list or tensor of their own, and the targets beside them: tuple(zip(*samples))"
        )
    pictures = Pictures.of(data, [place])
    given = {path for sample in joint.samples for _, path in sample.places}
    named = {}
    for spec, kind in settings.follow.items():
        if given.isdisjoint(find(data, spec, pictures.rows, "follow").paths(pictures.rows)):
            named[spec] = kind
    if all(isinstance(kind_of(kind), Object) for kind in named.values()):  # they go with what the transform was given
        return None
    still = (*staying(data, settings.still, pictures.rows), *given)
    return Following(data, lambda: find_followers(data, pictures, named, still, {}, seen, others=False), device)


def check_all_lifted(following: Following, joint: Joint) -> None:
    """Raise a ValueError where samples got their whole pipeline, with which nothing beside their images moved."""
    if len(joint.rows) < joint.length:
        row = min(set(range(joint.length)) - set(joint.rows))
        raise _left_behind(following.found.all[0].shown, f"in row {row} of the batch")


def check_none_left_behind(lifted: Lifted, settings: Settings, images: leaves.Structure) -> None:
    """The same for a batch of which every sample got its whole pipeline, where the transform takes images alone."""
    recipe, follow = lifted.recipe, settings.follow or {}
    image = images[0] if isinstance(images, (list, tuple)) and len(images) else images
    named = [leaf for leaf, kind in follow.items() if not isinstance(kind_of(kind), Object)]
    if not named or recipe is None or recipe.state.targets or not isinstance(image, Tensor) or image.ndim < 3:
        return
    if lifted.moves_pixels(image.shape[-3:]):
        raise _left_behind(f"{named[0]!r}, which follow= names,", "in this batch")


def _left_behind(what: str, where: str) -> ValueError:
    return ValueError(
        f"{what} follows the images, but {where} it stayed behind: the dataset's transform moved the image where it "
        "was loaded, and was not given what lies in it; give the transform both, or let the dataset return its image "
        "untouched, so that it is lifted"
    )
