"""The last linear layer of a model: it is found as the layer whose output is the logits; of maps, a convolution."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any
from weakref import WeakKeyDictionary

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

_CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
_heads: WeakKeyDictionary[nn.Module, str] = WeakKeyDictionary()


def found_head(module: nn.Module) -> str | None:
    """The name of the last linear layer, if `find_head` has found it; else None."""
    return _heads.get(module)


class Listener:
    """A forward hook that keeps the input of a model's last linear layer; pickles do not hold what it keeps."""

    def __init__(self) -> None:
        self._handle: RemovableHandle | None = None
        self._seen: tuple[Tensor, Tensor] | None = None

    def start(self, module: nn.Module, head: str | None) -> None:
        """Put the hook on the layer ``head``; None is the one found before, and without it no hook is put."""
        name = found_head(module) if head is None else head
        if self._handle is None and name is not None:
            self._handle = module.get_submodule(name).register_forward_hook(self)

    def stop(self) -> None:
        """Remove the hook, and what it kept."""
        if self._handle is not None:
            self._handle.remove()
        self._handle = self._seen = None

    def feature(self, logits: Tensor) -> Tensor | None:
        """(B, d, ...) the layer's input in the pass that gave ``logits``; None where its output was another tensor."""
        if self._seen is None:
            return None
        given, made = self._seen
        same = made.data_ptr() == logits.data_ptr() and made.numel() == logits.numel() and made.dtype == logits.dtype
        return given if same and given.ndim == max(2, logits.ndim) else None

    def __call__(self, _: nn.Module, args: tuple, output: object) -> None:
        """The hook."""
        if args and isinstance(args[0], Tensor) and isinstance(output, Tensor):
            self._seen = (args[0].detach(), output.detach())

    def __getstate__(self) -> dict[str, None]:
        return {"_handle": None, "_seen": None}


@contextmanager
def watched(
    module: nn.Module, seen: dict[str, tuple[Tensor, Tensor]], active: bool, only: str | None
) -> Iterator[None]:
    """Record input and output of linear layers, and of the last convolution, in ``seen`` while the model runs.

    only: the name of the one that is recorded.
    """
    handles = []
    if active:
        for name, part in module.named_modules():
            if isinstance(part, (nn.Linear, *_CONVOLUTIONS)) and (only is None or name == only):

                def note(layer: nn.Module, args: tuple, output: Tensor, name: str = name) -> None:
                    if isinstance(layer, _CONVOLUTIONS):  # their inputs are large: those before need not be kept
                        for other in [one for one, (given, _) in seen.items() if given.ndim > 2]:
                            del seen[other]
                    seen[name] = (args[0], output)

                handles.append(part.register_forward_hook(note))
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def find_head(
    module: nn.Module, seen: dict[str, tuple[Tensor, Tensor]], raw: Tensor, head: str | None, exact: bool = True
) -> str:
    """The name of the layer whose output is the logits ``raw``; ValueError with candidates if none is.

    exact=False: of maps also the layer ``head``, behind which they are resized.
    """
    for name, (given, made) in reversed(seen.items()):
        fits = given.ndim == max(2, raw.ndim) and made.numel() == raw.numel()
        if fits and torch.equal(made.detach().reshape(raw.shape).to(raw.dtype), raw):
            _heads[module] = name
            return name
        if not exact and name == head and given.ndim == raw.ndim > 2:
            return name
    outputs, kinds = raw.shape[1] if raw.ndim > 1 else 1, _CONVOLUTIONS if raw.ndim > 2 else (nn.Linear,)
    layers = {name: part for name, part in module.named_modules() if isinstance(part, kinds)}
    likely = [name for name, part in layers.items() if _outputs_of(part) == outputs] or list(layers)
    kind = "convolution" if raw.ndim > 2 else "linear layer"
    what = f"no {kind} makes" if head is None else f"head={head!r} is not the {kind} that makes"
    raise ValueError(
        f"{what} the logits; candidates: {', '.join(map(repr, likely[-8:])) or 'none'}. Name the classifier with "
        'head=, or use scope="full"'
    )


def _outputs_of(layer: nn.Module) -> int:
    return int(getattr(layer, "out_features", getattr(layer, "out_channels", 0)))


def pushed(module: nn.Module, head: str, direction: Mapping[str, Tensor], feature: Tensor, raw: Tensor) -> Tensor:
    """The change of the raw logits along a direction of the layer ``head``, from its inputs (B, d) or (B, d, ...)."""
    feature = feature.to(torch.promote_types(feature.dtype, torch.float32))
    parts = [direction[name].to(feature.dtype) for name in head_names(module, head)]
    return _applied(module.get_submodule(head), feature, parts).reshape(raw.shape)


def pulled(module: nn.Module, head: str, cotangent: Tensor, feature: Tensor) -> tuple[Tensor, ...]:
    """Σ cotangent · ∂ logits / ∂ (weight, bias) of the layer ``head``, for a cotangent of the logits' shape."""
    if feature.ndim == 2:
        own = cotangent.reshape(len(cotangent), -1).to(feature.dtype)
        return own.T @ feature, own.sum(0)
    layer = module.get_submodule(head)
    parts = [getattr(layer, name.rpartition(".")[2]) for name in head_names(module, head)]
    leaves = [part.detach().to(feature.dtype).requires_grad_() for part in parts]
    with torch.enable_grad():
        made = _applied(layer, feature, leaves)
    return torch.autograd.grad(made, leaves, cotangent.to(made.dtype))


def _applied(layer: Any, feature: Tensor, parts: Sequence[Tensor]) -> Tensor:
    """The layer with ``parts`` as its weight and bias, in which it is linear; its hooks do not run."""
    weight, bias = parts[0], parts[1] if len(parts) > 1 else None
    if feature.ndim == 2:
        return F.linear(feature, weight, bias)
    return layer._conv_forward(feature, weight, bias)  # torch's own, which knows padding and stride


def head_names(module: nn.Module, head: str) -> list[str]:
    """The names of the layer's parameters: weight and, where it has one, bias."""
    names = ["weight", "bias"] if module.get_submodule(head).bias is not None else ["weight"]
    return [f"{head}.{name}".lstrip(".") for name in names]
