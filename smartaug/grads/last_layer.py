"""The last linear layer of a model: it is found as the layer whose output is the logits."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

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
        """(B, d) the layer's input in the pass that gave ``logits``; None where its output was another tensor."""
        if self._seen is None:
            return None
        given, made = self._seen
        same = made.data_ptr() == logits.data_ptr() and made.numel() == logits.numel() and made.dtype == logits.dtype
        return given if same and given.ndim == 2 else None

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
    """Record input and output of linear layers in ``seen`` while the model runs; only: the name of the one recorded."""
    handles = []
    if active:
        for name, part in module.named_modules():
            if isinstance(part, nn.Linear) and (only is None or name == only):

                def note(_: nn.Module, args: tuple, output: Tensor, name: str = name) -> None:
                    seen[name] = (args[0], output)

                handles.append(part.register_forward_hook(note))
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def find_head(module: nn.Module, seen: dict[str, tuple[Tensor, Tensor]], raw: Tensor, head: str | None) -> str:
    """The name of the linear layer whose output is the logits ``raw``; ValueError with candidates if none is."""
    for name, (given, made) in reversed(seen.items()):
        fits = given.ndim == 2 and made.numel() == raw.numel()
        if fits and torch.equal(made.detach().reshape(raw.shape).to(raw.dtype), raw):
            _heads[module] = name
            return name
    outputs = raw.shape[1] if raw.ndim == 2 else 1
    linear = {name: part for name, part in module.named_modules() if isinstance(part, nn.Linear)}
    likely = [name for name, part in linear.items() if part.out_features == outputs] or list(linear)
    what = "no linear layer makes" if head is None else f"head={head!r} is not the linear layer that makes"
    raise ValueError(
        f"{what} the logits; candidates: {', '.join(map(repr, likely[-8:])) or 'none'}. Name the classifier with "
        'head=, or use scope="full"'
    )


def head_names(module: nn.Module, head: str) -> list[str]:
    """The names of the layer's parameters: weight and, where it has one, bias."""
    names = ["weight", "bias"] if module.get_submodule(head).bias is not None else ["weight"]
    return [f"{head}.{name}".lstrip(".") for name in names]
