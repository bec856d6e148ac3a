"""The operations that a sample received, in words: name, magnitude with its unit, partner."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from ...augment import Augmentation, AugMix, ColorJitter, Sharpness
from ...augment.mixing import Paste, PasteObjects, Tiles
from ...augment.ops.compose import Several
from ...augment.ops.policy import Policy
from ...augment.ops.space import FACTORS
from ...augment.plan import Mix, Plan
from ...pipeline.stages import flattened

_UNITS = {
    "Rotate": "{:.3g}°",
    "Affine": "{:.3g}°",
    "ShearX": "{:.2f} px a row",
    "ShearY": "{:.2f} px a column",
    "TranslateX": "{:.3g} px",
    "TranslateY": "{:.3g} px",
    "Posterize": "to {:.0f} bits",
    "Solarize": "from {:.0f}",
    "GaussianBlur": "σ {:.2f} px",
    "PadCrop": "{:.3g} px off centre",
    "Crop": "{:.3g} px off centre",
}
_SHARES = {"RandomResizedCrop": "area", "Erase": "area", "CutMix": "own", "MixUp": "own", "Mosaic": "own"}


def makers(step: Augmentation, shape: Sequence[int]) -> list[Augmentation]:
    """For each column in the trace of ``step``, its augmentation. shape: of the images, (B, C, H, W)."""
    found: list[Augmentation] = []
    size = (1, *shape[1:])
    for part in flattened([step]):
        plan = part.sample(size, torch.zeros(1, dtype=torch.int64))
        found += [part] * plan.trace.ops.shape[1]
        size = plan.output_shape
    return found


def received(plan: Plan, row: int, columns: Sequence[Augmentation], index: Sequence[int]) -> list[str]:
    """The operations of one sample of a plan, in order; empty where it is unchanged.

    columns: the result of `makers` for the step. index: the dataset index of each row of the batch, to name partners.
    """
    words = []
    for column, (op, magnitude) in enumerate(
        zip(plan.trace.ops[row].tolist(), plan.trace.magnitudes[row].tolist(), strict=True)
    ):
        name = plan.trace.names[op]
        if name.startswith("Identity"):
            continue
        maker = columns[column] if column < len(columns) else None
        words.append(" ".join(filter(None, (name, _partner(name, plan, row, index), amount(name, magnitude, maker)))))
    return words


def amount(name: str, magnitude: float, maker: object = None) -> str:
    """A magnitude with its unit; empty where the operation has none. maker: the augmentation that drew it."""
    magnitude += 0.0  # -0.0 becomes 0.0
    if name in FACTORS:
        drawing = [one for one in _inside(maker) if isinstance(one, (Policy, AugMix, ColorJitter, Sharpness))]
        differences = {isinstance(one, (Policy, AugMix)) for one in drawing}
        if differences == {True}:
            return f"×{1.0 + magnitude:.2f}"  # the magnitudes of policies are differences from 1, the unchanged image
        if differences == {False}:
            return f"×{magnitude:.2f}"
    if name == "Hue":
        return f"{360 * magnitude:.0f}°"
    if name in _SHARES:
        return f"{100 * magnitude:.0f} % {_SHARES[name]}"
    if name in _UNITS:
        return _UNITS[name].format(magnitude)
    return f"{magnitude:.3g}" if magnitude else ""


def _inside(maker: object) -> list[object]:
    """The augmentations inside a combinator; ``maker`` itself for any other."""
    return [one for part in maker for one in _inside(part)] if isinstance(maker, Several) else [maker]


def _partner(name: str, plan: Plan, row: int, index: Sequence[int]) -> str:
    for segment in plan.segments:
        if isinstance(segment, Mix) and name == ("MixUp" if segment.boxes is None else "CutMix"):
            return f"with sample {index[int(segment.partner[row])]},"
        if isinstance(segment, Tiles) and name == "Mosaic":
            return f"with samples {', '.join(str(index[other]) for other in segment.row[row, 1:].tolist())},"
        if isinstance(segment, (PasteObjects, Paste)) and name == "CopyPaste":
            return f"of sample {index[int(segment.partner[row])]}"
    return ""
