"""`Policy`: augmentations that draw each sample's operations from a table of operations and signed magnitudes."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any

from torch import Tensor

from ..augmentation import Augmentation
from ..checks import Fill, Interpolation, check_colours, check_fill, interpolation_name
from ..plan import Plan, per_channel
from .space import Entry, Space, space


class Policy(Augmentation):
    """What policies share: a table of entries, which of them each sample draws, and how warps are done.

    interpolation: "nearest" or "bilinear", or torchvision's InterpolationMode. fill: value outside the image in its own
    units (0–255 for uint8), one or one per channel; None is 0. mask_fill: that of a mask. exact: keep operations in the
    order drawn; False composes a sample's geometric operations into one warp behind its other operations, which changes
    about every fifth sample at N = 2, M = 9, by 3 to 4 grey levels in the mean (0.6 to 0.8 over all samples, on
    photographs), and saves up to a tenth of the time. backend: "torch", "numba", "triton" or None for the fastest.
    """

    mask_fill: float = 0.0  # also where a pickle of a former version has none

    def __init__(
        self, interpolation: Interpolation, fill: Fill | None, exact: bool, backend: str | None, mask_fill: float
    ) -> None:
        super().__init__(backend=backend)
        self.interpolation = interpolation_name(interpolation)
        self.fill = per_channel(0 if fill is None else fill, "fill")
        self.exact = bool(exact)
        self.mask_fill = float(mask_fill)
        self._tables: dict[tuple[Any, ...], Space] = {}

    _SETTINGS = ("magnitude", "num_magnitude_bins", "policy")  # what entries depend on

    @abstractmethod
    def entries(self, height: int, width: int) -> tuple[Entry, ...]:
        """The (operation, signed magnitude) pairs to draw from, for images of that size."""

    @abstractmethod
    def draw(self, key: Tensor) -> Tensor:
        """Which entries the samples with stream keys (B,) receive, in order: (B, N) int64."""

    def table(self, height: int, width: int) -> Space:
        """The entries worked out for images of that size; kept, since it takes longer than a draw."""
        settings = (*(value for name, value in vars(self).items() if name in self._SETTINGS), height, width)
        if settings not in self._tables:
            self._tables[settings] = space(self.entries(height, width), height, width)
        return self._tables[settings]

    def sample(self, shape: Sequence[int], key: Tensor) -> Plan:
        """Draw the operations of images (B, C, H, W); raises ValueError unless C is 1 or 3."""
        return self.sampled(shape, key)[0]

    def sampled(self, shape: Sequence[int], key: Tensor) -> tuple[Plan, Tensor]:
        """The plan of `sample`, and the entries (B, N) that were drawn for it."""
        check_colours(shape[1], type(self).__name__)
        check_fill(self.fill, shape[1])
        table, entries = self.table(shape[2], shape[3]), self.draw(key)
        plan = table.plan(
            shape,
            entries,
            interpolation=self.interpolation,
            fill=self.fill,
            mask_fill=self.mask_fill,
            exact=self.exact,
        )
        return plan, entries
