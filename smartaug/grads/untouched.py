"""Calling the user's model without side effects: unwrapping it, and a context that restores its state."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.parameter import is_lazy

Mode = bool | Literal["statistics"] | None


def unwrapped(model: object) -> nn.Module:
    """The module inside DistributedDataParallel, DataParallel and `torch.compile`; names are then the user's own.

    Raises TypeError when ``model`` is no module, is sharded (FSDP), or has lazy parameters that no batch has shaped.
    """
    while isinstance(model, nn.Module):
        inner = getattr(model, "_orig_mod", None)  # torch.compile
        if inner is None and isinstance(model, (nn.parallel.DistributedDataParallel, nn.DataParallel)):
            inner = model.module
        if not isinstance(inner, nn.Module):
            break
        model = inner
    if not isinstance(model, nn.Module):
        raise TypeError(
            f"model must be a torch.nn.Module, got {type(model).__name__}; pass the network that the loop trains"
        )
    sharded = any("FSDP" in base.__name__ or base.__name__ == "FullyShardedDataParallel" for base in type(model).mro())
    if sharded or any(type(parameter).__name__ == "DTensor" for parameter in model.parameters()):
        raise TypeError(
            "the model is sharded (FSDP or DTensor parameters), and per-sample gradients need whole parameters; train "
            "with DistributedDataParallel, or leave reweight= out"
        )
    if any(is_lazy(parameter) for parameter in model.parameters()):
        raise TypeError(
            "the model has lazy parameters without a shape; call model(example_inputs) once before training"
        )
    return model


@contextmanager
def untouched(module: nn.Module, training: Mode, device: torch.device) -> Iterator[None]:
    """Call ``module`` inside; afterwards its attributes and modes, and the global generators, are what they were.

    Parameters and buffers are not restored: callers pass copies (functional_call). training: the mode inside; None is
    the module's own; "statistics" is evaluation, but layers in training mode that keep running statistics (BatchNorm)
    stay in it: no dropout, and the normalisation of a training step. Inside, attention is computed by plain matrix
    products, because the fused kernels have no forward-mode derivative, and modules compiled in place run uncompiled.
    """
    # shallow copies: weight_norm writes its product, models cache features, and train(False) writes ``training``
    before = [(part, dict(part.__dict__)) for part in module.modules()]
    python, arrays = random.getstate(), np.random.get_state()
    fast_path = torch.backends.mha.get_fastpath_enabled()
    devices = [] if device.type == "cpu" else [device]
    kind = device.type if devices else "cuda"
    with ExitStack() as stack:
        stack.enter_context(torch.inference_mode(False))
        stack.enter_context(torch.random.fork_rng(devices, device_type=kind))
        stack.enter_context(sdpa_kernel(SDPBackend.MATH))
        if torch.is_autocast_enabled(device.type):
            # its cache of cast weights would still be there in the user's own passes
            dtype = torch.get_autocast_dtype(device.type)
            stack.enter_context(torch.autocast(device.type, dtype=dtype, cache_enabled=False))
        try:
            torch.backends.mha.set_fastpath_enabled(False)
            for part, _ in before:
                if part.__dict__.get("_compiled_call_impl") is not None:
                    part.__dict__["_compiled_call_impl"] = None
            if training is not None:
                normalising = [part for part, _ in before if part.training and hasattr(part, "running_mean")]
                module.train(training is True)
                for part in normalising if training == "statistics" else ():
                    part.training = True
            yield
        finally:
            torch.backends.mha.set_fastpath_enabled(fast_path)
            for part, attributes in before:
                if part.__dict__.keys() != attributes.keys() or any(
                    part.__dict__[name] is not value for name, value in attributes.items()
                ):
                    part.__dict__.clear()
                    part.__dict__.update(attributes)
            random.setstate(python)
            np.random.set_state(arrays)


def generator_state(device: torch.device) -> tuple[Tensor, Tensor | None]:
    """The states of torch's generators on the CPU and on ``device``, to give two passes the same dropout."""
    own = None if device.type == "cpu" else torch.get_device_module(device).get_rng_state(device)
    return torch.get_rng_state(), own


def set_generator_state(device: torch.device, state: tuple[Tensor, Tensor | None]) -> None:
    """Put back what `generator_state` gave."""
    torch.set_rng_state(state[0])
    if state[1] is not None:
        torch.get_device_module(device).set_rng_state(state[1], device)


def same_state(one: tuple[Tensor, Tensor | None], other: tuple[Tensor, Tensor | None]) -> bool:
    """Whether nothing was drawn between two states of `generator_state`."""
    own = one[1] is None or other[1] is None or torch.equal(one[1], other[1])
    return own and torch.equal(one[0], other[0])
