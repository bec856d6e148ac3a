"""The call of the user's model with other parameter values, copies of its buffers, and images in a faster layout."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from weakref import WeakSet

import torch
from torch import Tensor, nn
from torch.func import functional_call

from .logits import logits_of
from .untouched import generator_state, set_generator_state

Direction = dict[str, Tensor]
ModelInputs = Tensor | tuple[Any, ...] | Mapping[str, Any]  # one argument, several, or keywords: the user's own

_contiguous_only: WeakSet[nn.Module] = WeakSet()  # models that could not take channels-last images


def trainable_values(module: nn.Module, at: Mapping[str, Tensor] | None, needed: bool = True) -> Direction:
    """The parameters that require a gradient, each once, by name; ``at`` in their place where it has the name."""
    found = {name: value.detach() for name, value in module.named_parameters() if value.requires_grad}
    if needed and not found:
        raise ValueError(
            "the model has no parameter that requires a gradient, so no sample can help it; unfreeze some: "
            "model.requires_grad_(True)"
        )
    return found if at is None else {name: at.get(name, value) for name, value in found.items()}


def call_model(module: nn.Module, values: Mapping[str, Tensor], inputs: ModelInputs) -> Tensor:
    """The raw logits (B, K) or (B,) with ``values`` as parameters and copies of the buffers.

    Convolutions on the CPU get their images in channels-last layout: half the time of a forward pass (measured on
    ResNet-9, benchmarks/reweight.py). A model whose own ``view`` cannot take that is called as it is from then on.
    """
    faster = _relaid(module, inputs)
    if faster is None:
        return _call_as_is(module, values, inputs)
    state = generator_state(device_of(inputs))
    try:
        return _call_as_is(module, values, faster)
    except RuntimeError as error:
        if "view" not in str(error):
            raise
        _contiguous_only.add(module)
        set_generator_state(device_of(inputs), state)
        return _call_as_is(module, values, inputs)


def _call_as_is(module: nn.Module, values: Mapping[str, Tensor], inputs: ModelInputs) -> Tensor:
    frozen = {name: part.detach() for name, part in module.named_parameters() if name not in values}
    buffers = {name: part.clone() for name, part in module.named_buffers()}
    args: tuple = (inputs,)
    kwargs: dict[str, Any] = {}
    if isinstance(inputs, Mapping):
        args, kwargs = (), dict(inputs)
    elif isinstance(inputs, tuple):
        args = inputs
    try:
        return logits_of(functional_call(module, {**buffers, **frozen, **values}, args, kwargs))
    except TypeError as error:
        if "missing" in str(error) and "positional argument" in str(error):
            raise TypeError(
                f"{error}; a model of several inputs gets those that inputs= names: inputs=['first', 'second'] in the "
                "loader, and tuples or dicts of them in val_set="
            ) from error
        raise


def _relaid(module: nn.Module, inputs: ModelInputs) -> Tensor | None:
    """The images in channels-last layout; None where that would not be faster, or would fail.

    torch 2.6's GroupNorm has no forward-mode rule in that layout, and its backward pass reads memory out of bounds
    where the layers before it are frozen.
    """
    if not isinstance(inputs, Tensor) or inputs.ndim != 4 or inputs.device.type != "cpu" or module in _contiguous_only:
        return None
    parts = list(module.modules())
    if not any(isinstance(part, nn.Conv2d) for part in parts) or any(isinstance(part, nn.GroupNorm) for part in parts):
        return None
    return inputs.contiguous(memory_format=torch.channels_last)


def device_of(inputs: ModelInputs) -> torch.device:
    """The device of the first tensor among a model's inputs; the CPU without one."""
    parts = inputs.values() if isinstance(inputs, Mapping) else inputs if isinstance(inputs, tuple) else (inputs,)
    return next((part.device for part in parts if isinstance(part, Tensor)), torch.device("cpu"))
