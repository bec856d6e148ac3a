"""Kinds of targets: what ``follow=`` takes, as a word or as settings.

| word | settings | what it is |
|---|---|---|
| "xyxy", "xywh", "cxcywh", "yolo" | `Boxes` | boxes (N, 4); "yolo" is cxcywh in fractions of the image's sides |
| "xywhr", "cxcywhr", "xyxyxyxy" | `Boxes` | torchvision's rotated boxes, (N, 5) or (N, 8) |
| "keypoints" | `Keypoints` | points (N, 2), (N, K, 2), or with a column of visibility (N, 3), (N, K, 3) |
| "mask" | `Mask` | classes of pixels (B, H, W) or one mask a channel (B, N, H, W) |
| "heatmap" | `Heatmap` | maps of values that are interpolated (B, N, H, W) |
| "flow" | `Flow` | x and y of motion in pixels (B, 2, H, W) |
| "disparity" | `Disparity` | disparity of a stereo pair in pixels (B, H, W) or (B, 1, H, W) |
| "image" | `Image` | a further image (B, C, H, W) that moves, and keeps its values |
| "object" | `Object` | one row an object, such as its class: repeated and dropped as the boxes are |
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ..._base.names import did_you_mean

UPRIGHT = ("xyxy", "xywh", "cxcywh", "yolo")
ROTATED = ("xywhr", "cxcywhr", "xyxyxyxy")
FORMATS = (*UPRIGHT, *ROTATED)
COORDINATES = ("index", "continuous")
OF_DISPARITY = ("nearest", "bilinear")


@dataclass(frozen=True)
class Boxes:
    """Boxes that move with their images, which are dropped where too little of them is left.

    format: one of `FORMATS`. min_size: least width and height in pixels; min_area: least area in square pixels;
    min_visibility: least share of the moved box's area that lies in the image, in [0, 1]. A box that meets its bound
    stays. valid: for boxes (B, N, 4) padded to one number a sample, the leaf (B, N) bool that says which are boxes.
    """

    format: str = "xyxy"
    min_size: float = 1.0
    min_area: float = 0.0
    min_visibility: float = 0.0
    valid: Any = None

    def __post_init__(self) -> None:
        if self.format not in FORMATS:
            near = did_you_mean(str(self.format), FORMATS)
            raise ValueError(f"format must be one of {', '.join(FORMATS)}, got {self.format!r}{near}")
        for name in ("min_size", "min_area", "min_visibility"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, (int, float)) or not value >= 0:
                raise ValueError(f"{name} must be a number ≥ 0, got {value!r}; write {name}=0")
        if self.min_visibility > 1:
            raise ValueError(
                f"min_visibility is a share in [0, 1], got {self.min_visibility!r}; write min_visibility=0.3"
            )


@dataclass(frozen=True)
class Keypoints:
    """Points that move with their images.

    coordinates: "index", where (0, 0) is the centre of the first pixel (COCO, OpenCV, albumentations and torchvision's
    flips), or "continuous", where it is that pixel's outer corner, as in boxes. visible: whether the last of three
    columns says how visible a point is, as in COCO; None: it does where there are three. It becomes 0 for a point that
    leaves the image. swap: pairs of points (left, right) among the K of an object that are exchanged in samples that
    are mirrored.
    """

    coordinates: str = "index"
    visible: bool | None = None
    swap: tuple[tuple[int, int], ...] | None = None

    def __post_init__(self) -> None:
        if self.coordinates not in COORDINATES:
            raise ValueError(f'coordinates must be "index" or "continuous", got {self.coordinates!r}')


@dataclass(frozen=True)
class Mask:
    """Classes of pixels, or masks of objects, in any integer, bool or float type, moved by the nearest pixel.

    fill: the value outside the image; None: the ``mask_fill`` of the augmentation, 0 where it has none.
    """

    fill: float | None = None


@dataclass(frozen=True)
class Heatmap:
    """Maps of values (B, N, H, W) in floats or uint8, moved by bilinear interpolation. fill: the value outside."""

    fill: float = 0.0


@dataclass(frozen=True)
class Flow:
    """Motion (B, 2, H, W) in pixels of the map, x and y, in floats: moved, and its vectors turned and scaled.

    Both frames must have moved alike. Outside the image there is no motion, 0.
    """


@dataclass(frozen=True)
class Disparity:
    """Disparity of a rectified stereo pair (B, H, W) or (B, 1, H, W), in pixels of the map, in floats.

    It moves with its pictures, both of which must move alike, and its values are scaled as these are along x. Stages
    that turn the lines of the pair, shear them upwards or mirror left and right are refused. interpolation: "nearest",
    which keeps edges and missing values, or "bilinear", for maps with a value everywhere. missing: the value that says
    there is none, which is not scaled; outside the image there is none either.
    """

    interpolation: str = "nearest"
    missing: float = 0.0

    def __post_init__(self) -> None:
        if self.interpolation not in OF_DISPARITY:
            raise ValueError(f'interpolation must be "nearest" or "bilinear", got {self.interpolation!r}')


@dataclass(frozen=True)
class Image:
    """A further image (B, C, H, W) that moves as the augmented one, by its interpolation, and keeps its values.

    fill: the value outside.
    """

    fill: float = 0.0


@dataclass(frozen=True)
class Object:
    """One row an object, such as its class or score: repeated and dropped as the boxes ``of`` are, and not changed.

    of: the leaf of those boxes or points; None: the only one there is.
    """

    of: Any = None


Kind = Boxes | Keypoints | Mask | Heatmap | Flow | Disparity | Image | Object
MapKind = Mask | Heatmap | Flow | Disparity | Image

WORDS: dict[str, Kind] = {
    **{name: Boxes(name) for name in FORMATS},
    "keypoints": Keypoints(),
    "mask": Mask(),
    "heatmap": Heatmap(),
    "flow": Flow(),
    "disparity": Disparity(),
    "image": Image(),
    "object": Object(),
}
"""What each word means."""


def kind_of(given: object) -> Kind:
    """The settings that ``given`` names, or ``given`` itself; raises ValueError on anything else."""
    if isinstance(given, Kind):
        return given
    if isinstance(given, str) and given in WORDS:
        return WORDS[given]
    near = did_you_mean(given, WORDS) if isinstance(given, str) else ""
    raise ValueError(
        f"a kind of target is one of {', '.join(WORDS)}, or settings such as smartaug.Boxes(), got {given!r}{near}"
    )
