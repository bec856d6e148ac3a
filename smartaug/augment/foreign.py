"""Kornia modules, torchvision v2 transforms and any callable on a batch, as stages of their own.

What: runs a callable on the whole batch, between two plans. When: for an augmentation that smartaug has no operation
for. Cost: that of the callable, plus about 0.05 ms for forking the random generators. Kornia modules get floats in
[0, 1] and return floats; other callables get the batch as it is.

While the callable runs, the random generators (torch's of the CPU and of the batch's device, `random`, NumPy's) are
seeded from (seed, epoch, view, indices), and they are put back afterwards: the program's own random numbers do not
change, and a replay gives the same batch.
"""

from __future__ import annotations

import copy
import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from numpy.random import mtrand
from torch import Tensor, nn

from .. import draws

_SPARE = np.random.MT19937(0)
_NEEDS_LABELS = {"MixUp": "MixUp", "CutMix": "CutMix", "RandomMixUpV2": "MixUp", "RandomCutMixV2": "CutMix"}


class Foreign:
    """One foreign stage: ``Foreign(callable)(images, key)`` with images (B, C, H, W) and key (B,) as in `draws`."""

    moves_pixels = True  # unknown, so assumed

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        name = type(function).__name__
        origin = type(function).__module__.partition(".")[0]
        if origin in ("kornia", "torchvision") and name in _NEEDS_LABELS:
            ours = _NEEDS_LABELS[name]
            raise TypeError(
                f"{origin}'s {name} needs the labels, which stages do not see; write augment=smartaug.{ours}()"
            )
        self.function = function
        self.name = name if name not in ("function", "builtin_function_or_method") else function.__name__
        self.wants_unit_floats = origin == "kornia"
        self._moved: dict[torch.device, Callable[[Tensor], Tensor]] = {}

    def __call__(self, images: Tensor, key: Tensor) -> Tensor:
        """The function's result on ``images``, or on rows (B, F) or (B, T, F).

        Raises TypeError unless it is a tensor of as many dimensions and rows: (B, C', H', W').
        """
        channels_last = images.is_contiguous(memory_format=torch.channels_last) and not images.is_contiguous()
        result = self._run(images, key)
        if not isinstance(result, Tensor) or result.ndim != images.ndim or len(result) != len(images):
            shape = tuple(result.shape) if isinstance(result, Tensor) else type(result).__name__
            wanted, what = {2: ("(B, F)", "rows"), 3: ("(B, T, F)", "sequences")}.get(
                images.ndim, ("(B, C, H, W)", "images")
            )
            raise TypeError(
                f"{self.name} must return a tensor {wanted} for {what} {tuple(images.shape)}, it returned {shape}"
            )
        result = result.as_subclass(Tensor)
        return result.contiguous(memory_format=torch.channels_last) if channels_last else result

    def _run(self, images: Tensor, key: Tensor) -> object:
        if self.wants_unit_floats and images.dtype == torch.uint8:
            images = images.to(torch.float32) / 255.0
        with forked_rng(key, images.device):
            return self._on(images.device)(images)

    def _on(self, device: torch.device) -> Callable[[Tensor], Tensor]:
        """The function, or a copy of the module whose tensors are on ``device``; the user's own is never moved."""
        if not isinstance(self.function, nn.Module):
            return self.function
        if device not in self._moved:
            tensors = [*self.function.parameters(), *self.function.buffers()]
            stays = all(tensor.device == device for tensor in tensors)
            self._moved[device] = self.function if stays else copy.deepcopy(self.function).to(device)
        return self._moved[device]

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_moved": {}}

    def __repr__(self) -> str:
        return f"Foreign({self.name})"


class Keyed(Foreign):
    """A function ``(images, key) -> images`` that draws each row from its own key (see `draws`), without `forked_rng`.

    name: its name in tables and errors. moves_pixels: whether it moves pixels, so that masks would have to move too.
    """

    def __init__(self, function: Callable[..., Tensor], name: str, *, moves_pixels: bool = True) -> None:
        super().__init__(function)
        self.name, self.moves_pixels = name, moves_pixels

    def _run(self, images: Tensor, key: Tensor) -> object:
        keyed: Callable[..., Any] = self.function
        return keyed(images, key)


_depth = 0


def forked() -> bool:
    """Whether this code runs inside `forked_rng`."""
    return _depth > 0


def _seed_of(key: Tensor | int) -> int:
    """A seed from the stream keys (B,), or from one as an int."""
    word = key if isinstance(key, int) else int(key.sum(dtype=torch.int64))
    return draws.mix(word) >> 1  # 63 bits: what torch's generators take


@contextmanager
def forked_torch(key: Tensor | int) -> Iterator[None]:
    """As `forked_rng` on the CPU, for code that draws from torch's global generator only: an eighth of the time."""
    global _depth
    cpu = torch.get_rng_state()
    _depth += 1
    try:
        torch.default_generator.manual_seed(_seed_of(key))
        yield
    finally:
        _depth -= 1
        torch.set_rng_state(cpu)


@contextmanager
def forked_rng(key: Tensor | int, device: torch.device) -> Iterator[None]:
    """Seed torch (CPU and ``device``), `random` and NumPy from the stream keys (B,); restore all states afterwards."""
    global _depth
    seed = _seed_of(key)
    python, cpu = random.getstate(), torch.get_rng_state()
    legacy, bits = np.random.get_state(legacy=False), mtrand.get_bit_generator()
    module = None if device.type == "cpu" else torch.get_device_module(device)
    own = module.get_rng_state(device) if module else None
    _depth += 1
    try:
        random.seed(seed)
        mtrand.set_bit_generator(_SPARE)  # ten times quicker than copying the user's 2.5 kB there and back
        np.random.seed(seed & 0xFFFFFFFF)
        torch.default_generator.manual_seed(seed)
        if module:
            with module.device(device):
                module.manual_seed(seed)
        yield
    finally:
        _depth -= 1
        random.setstate(python)
        mtrand.set_bit_generator(bits)
        if legacy["has_gauss"]:  # a swap forgets the second of a pair of normal draws
            np.random.set_state(legacy)
        torch.set_rng_state(cpu)
        if module:
            module.set_rng_state(own, device)
