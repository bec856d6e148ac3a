"""The derivative of a model's logits along a direction: forward mode, two reverse passes, or a difference.

Forward mode costs least and is exact; two reverse passes stand in where an operation has no forward-mode rule or a
wrapper drops tangents; a difference, which needs no derivative at all, stands in where these fail, too, as for
`nn.EmbeddingBag`. See `grads.benefit`.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable, Iterable, Mapping
from typing import Literal
from weakref import WeakKeyDictionary, WeakSet

import torch
import torch.autograd.forward_ad as forward_ad
from torch import Tensor, nn

from .._base import ranks
from .._base.contrastive import ContrastiveLoss
from .logits import wide
from .model_call import Direction, ModelInputs, call_model, device_of
from .pairs import read_as_pairs
from .untouched import generator_state, same_state, set_generator_state, untouched

Method = Literal["jvp", "difference"]

_log = logging.getLogger("smartaug")
_reverse_only: WeakSet[nn.Module] = WeakSet()  # models without forward mode: two VJPs instead
_difference_only: WeakSet[nn.Module] = WeakSet()  # models without a second reverse pass either: a difference
_checked: WeakSet[nn.Module] = WeakSet()  # models whose forward mode agreed with reverse mode once
_given_logits: WeakKeyDictionary[nn.Module, int] = WeakKeyDictionary()  # number of calls with logits
_other_logits: WeakSet[nn.Module] = WeakSet()  # models whose given logits were not their own


def push(
    module: nn.Module,
    inputs: ModelInputs,
    values: Direction,
    direction: Mapping[str, Tensor],
    method: Method,
    training: bool | None,
    logits: Tensor | None,
    pairs: ContrastiveLoss | None = None,
) -> tuple[Tensor, Tensor]:
    """Raw logits z and their derivative along ``direction``; parameters that it does not name stay fixed.

    pairs: a contrastive loss, which reads the model's output as logits of pairs, or None.
    """
    device = device_of(inputs)
    tangents = {name: part.to(values[name].dtype) for name, part in direction.items()}
    # logits that depend on other ranks' rows: all ranks must take the same way
    total = ranks.total if pairs is not None and pairs.gather else _own
    with read_as_pairs(module, pairs):
        if method == "difference" or module in _difference_only:
            return _difference(module, inputs, values, tangents, training, device, logits, total)
        why = ""
        if module not in _reverse_only:
            try:
                with untouched(module, training, device):
                    z, h = _forward_mode(module, inputs, values, tangents)
            except (NotImplementedError, RuntimeError) as error:
                if not any(words in str(error) for words in ("forward AD", "forward mode AD", "jvp")):
                    raise
                why = str(error).splitlines()[0]
            else:
                if module in _checked or _agrees(module, inputs, values, tangents, h, training, device, total):
                    _checked.add(module)
                    return z, h
                why = "its forward mode disagrees with reverse mode (a reentrant checkpoint?)"
        try:
            with untouched(module, training, device), torch.enable_grad():
                made = _two_reverse(module, inputs, values, tangents)
        except (NotImplementedError, RuntimeError) as error:
            if not any(words in str(error) for words in ("is not implemented", "once_differentiable")):
                raise
            _fall_back(_difference_only, module, "a difference, which is not exact", str(error).splitlines()[0])
            return _difference(module, inputs, values, tangents, training, device, None, total)
        if why:
            _fall_back(_reverse_only, module, "two reverse passes, about twice the cost", why)
        return made


def _fall_back(models: WeakSet[nn.Module], module: nn.Module, what: str, why: str) -> None:
    models.add(module)
    _log.warning("benefit of %s uses %s: %s", type(module).__name__, what, why)


def _own(values: Tensor) -> Tensor:
    """The sum over this rank alone."""
    return values


def _forward_mode(
    module: nn.Module, inputs: ModelInputs, values: Direction, tangents: Direction
) -> tuple[Tensor, Tensor]:
    with torch.no_grad(), warnings.catch_warnings(), forward_ad.dual_level():
        # torch scripts its own forward-mode rules at their first use, and warns that scripting is deprecated
        warnings.filterwarnings("ignore", message=".*torch.jit.script", category=FutureWarning)
        duals = {name: forward_ad.make_dual(values[name], part) for name, part in tangents.items()}
        unpacked = forward_ad.unpack_dual(call_model(module, {**values, **duals}, inputs))
        z, h = unpacked.primal.detach(), unpacked.tangent
        return z, torch.zeros_like(z) if h is None else h.detach()


def _two_reverse(
    module: nn.Module, inputs: ModelInputs, values: Direction, tangents: Direction
) -> tuple[Tensor, Tensor]:
    """J t as the derivative of ⟨Jᵀu, t⟩ in u: the double-backward trick."""
    leaves = {name: values[name].detach().requires_grad_() for name in tangents}
    z = call_model(module, {**values, **leaves}, inputs)
    u = torch.zeros_like(z, requires_grad=True)  # Jᵀu is linear in u, so any point will do
    pulled = torch.autograd.grad(z, list(leaves.values()), u, create_graph=True, allow_unused=True)
    pairs = [(part, tangents[name]) for name, part in zip(leaves, pulled, strict=True) if part is not None]
    inner = sum(((part * tangent).sum() for part, tangent in pairs), torch.zeros((), device=z.device))
    (h,) = torch.autograd.grad(inner, u) if pairs else (torch.zeros_like(z),)
    return z.detach(), h.detach()


def _agrees(
    module: nn.Module,
    inputs: ModelInputs,
    values: Direction,
    tangents: Direction,
    h: Tensor,
    training: bool | None,
    device: torch.device,
    total: Callable[[Tensor], Tensor],
) -> bool:
    """Whether ⟨u, J t⟩ = ⟨Jᵀu, t⟩ for one u, checked once a model: some wrappers drop tangents without an error."""
    if bool(total(torch.isfinite(h).logical_not().sum())) or h.numel() == 0:
        return True  # not finite: says nothing about the rules, and the caller sees it
    leaves = {name: values[name].detach().requires_grad_() for name in tangents}
    with untouched(module, training, device), torch.enable_grad():
        z = call_model(module, {**values, **leaves}, inputs)
        u = h / h.norm() if bool(h.norm() > 0) else torch.ones_like(h)
        pulled = torch.autograd.grad(z, list(leaves.values()), u.to(z.dtype), allow_unused=True)
    pairs = [(part, tangents[name]) for name, part in zip(leaves, pulled, strict=True) if part is not None]
    reverse = sum(float((part * tangent).sum()) for part, tangent in pairs)
    forward = float((u * h).sum())
    scale = sum(float(part.norm() * tangent.norm()) for part, tangent in pairs)
    reverse, forward, scale = total(h.new_tensor([reverse, forward, scale], dtype=wide(h.dtype))).tolist()
    # the two sides are sums in another order: float32 agrees to 1e-3, narrower types to a tenth; where terms cancel,
    # rounding is relative to the terms (scale), not to their sum
    near = 1e-3 if h.dtype in (torch.float32, torch.float64) and not torch.is_autocast_enabled(device.type) else 0.1
    return abs(reverse - forward) <= near * max(abs(forward), 1e-3 * scale)


def _difference(
    module: nn.Module,
    inputs: ModelInputs,
    values: Direction,
    tangents: Direction,
    training: bool | None,
    device: torch.device,
    logits: Tensor | None,
    total: Callable[[Tensor], Tensor],
) -> tuple[Tensor, Tensor]:
    eps = max(torch.finfo(values[name].dtype).eps for name in tangents)
    if eps > torch.finfo(torch.float32).eps:
        raise ValueError(
            "a difference needs parameters of at least float32, in which a small step can be seen; write "
            'method="jvp", and where the model has layers that only a difference can take, keep it in float32'
        )
    # 1e-30: a direction of zeros gives a finite step
    size = _norm(values[name] for name in tangents) / _norm(tangents.values()).clamp_min(1e-30)
    step = eps**0.5 / 5 * size  # δ = √eps / 5 of the parameters' norm; why so small: see `grads.benefit`
    with untouched(module, training, device), torch.no_grad(), torch.autocast(device.type, enabled=False):
        state = generator_state(device)

        def moved(sign: float) -> Tensor:
            set_generator_state(device, state)
            there = {
                name: torch.addcmul(values[name], part, (sign * step).to(part.dtype)) for name, part in tangents.items()
            }
            made = call_model(module, {**values, **there}, inputs)
            return made.to(wide(made.dtype))

        up = moved(1.0)
        if logits is not None and same_state(state, generator_state(device)):
            z = logits.detach().to(up.dtype)
            if _are_own(module, z, up, logits, lambda: moved(0.0), total):
                return z, (up - z) / step
        down = moved(-1.0)
    return (up + down) / 2, (up - down) / (2 * step)


def _are_own(
    module: nn.Module,
    z: Tensor,
    up: Tensor,
    logits: Tensor,
    own: Callable[[], Tensor],
    total: Callable[[Tensor], Tensor],
) -> bool:
    """Whether z are the model's logits, to within a tenth of what the step changed; checked ever more rarely."""
    if module in _other_logits or logits.shape != up.shape or logits.dtype != up.dtype:
        return False
    calls = _given_logits[module] = _given_logits.get(module, 0) + 1
    if calls & (calls - 1):
        return True
    made = own()
    off, moved, unknown = total(
        torch.stack([(z - made).square().sum(), (up - made).square().sum(), torch.isfinite(z).logical_not().sum()])
    ).tolist()
    if unknown or off <= 0.01 * moved:
        return True  # what is not finite says nothing; the caller sees it
    _other_logits.add(module)
    _log.warning(
        "the logits given for %s are not its own to the precision that a difference needs (autocast? a softmax or a "
        "scale behind the model?); two passes of our own stand in",
        type(module).__name__,
    )
    return False


def _norm(parts: Iterable[Tensor]) -> Tensor:
    return torch.linalg.vector_norm(torch.stack([torch.linalg.vector_norm(part.float()) for part in parts]))
