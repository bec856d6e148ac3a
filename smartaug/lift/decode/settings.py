"""`Lift`: what ``lift=`` may do to the pictures of a dataset."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

Decode = Literal["exact", "scaled", "region", "batch", "user"]


@dataclass(frozen=True)
class Lift:
    """The settings of ``DataLoader(lift=...)``; ``lift=True`` is ``lift=Lift()``.

    * `decode`: who decodes JPEG files that the dataset opens with Pillow. "exact": the fastest installed library whose
      pixels are Pillow's (simplejpeg, torchvision), else Pillow; bilinear crops and resizes of torchvision and timm
      that stay in the workers are then done on uint8, within one grey level of Pillow's. "scaled": the same, but a file
      that such a transform crops and shrinks to half or less is decoded at 1/2, 1/4 or 1/8 of its size, never below the
      size wanted. The pixels are then others than the dataset's: smoothed differently, the edges of the crop moved by
      up to half a pixel of the result. Needs simplejpeg. "region": as "exact", with the same pixels, but of a file that
      is cropped before anything else asks for its pixels only that part is decoded; progressive and damaged files are
      decoded whole. Needs nvidia-nvimgcodec-cu12, which runs without a GPU, and Linux or Windows. "batch": as "region",
      but workers hand on files, and where the picture was cropped and resized to, and the loader decodes, crops and
      resizes the batch on its device: on CUDA by nvJPEG, whose pixels differ from Pillow's by a few grey levels (what
      was measured is in `explain`); on the CPU in as many threads as torch has, with the pixels of "exact". Only of
      pictures that the transform is given alone, without boxes or masks; the others are decoded as by "region". On CUDA
      it needs nvJPEG, too: nvidia-nvimgcodec-cu13[nvjpeg]. "user": Pillow does all of it, as in the dataset.
    """

    decode: Decode = "exact"

    def __post_init__(self) -> None:
        if self.decode not in get_args(Decode):
            known = " or ".join(f'"{word}"' for word in get_args(Decode))
            raise ValueError(f'decode must be {known}, got {self.decode!r}; write lift=smartaug.Lift(decode="user")')
