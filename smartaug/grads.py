"""First-order effects of training samples on the validation loss: the only module that calls the user's model.

With logits z(x; w), p = softmax(z) and g = ∇_w L_val, the *benefit*

    B[i, k] = −⟨∇_w log p_k(x_i), g⟩ = −(h[i, k] − Σ_j p[i, j] h[i, j]),   h = ∂z/∂w · g,

is what training on (x_i, label k) does: a step of size α down −log p_k(x_i) lowers L_val by α B[i, k] to first order.
One forward-mode pass gives all of B; Σ_k p[i, k] B[i, k] = 0 in every row, and Σ_k y[i, k] B[i, k] = ⟨∇ℓ_i, g⟩ for a
label y. SAFLEX, MetaAugment, Learning to Reweight and Meta-Weight-Net are contractions of it.

What: `direction` is g, `benefit` is B, `embeddings` are the factors of last-layer gradients, `Pass` is one forward pass
that can be pulled back. When: inside reweighters; directly, to see which samples help. Cost, in forward passes of the
batch (a training step is 3): direction 3 of the validation batch; benefit by "jvp" 2 where every operation has a fused
forward-mode kernel (4 and more with BatchNorm and max-pooling), by "difference" 2, or 1 with the loop's own logits;
head scope 1 each, or none with its features. Reference: Ding et al., "SAFLEX", ICLR 2024, §3; the forward-mode form is
ours.

The user's parameters, buffers, ``.grad``, generators and train/eval mode are what they were, bit for bit. Hooks that
the user put on the model do run.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable, Mapping
from typing import Any, Literal
from weakref import WeakKeyDictionary, WeakSet

import torch
import torch.autograd.forward_ad as forward_ad
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call

from .batch import Embedding
from .head import find_head, found_head, head_names, watched
from .logits import Criterion, centred, columns, distributions, logits_of, mean_loss, wide
from .untouched import Mode, generator_state, same_state, set_generator_state, untouched, unwrapped

Direction = dict[str, Tensor]
Method = Literal["jvp", "difference"]
Scope = Literal["full", "head"]

_log = logging.getLogger("smartaug")
_reverse_only: WeakSet[nn.Module] = WeakSet()  # models without forward mode: two VJPs instead
_checked: WeakSet[nn.Module] = WeakSet()  # models whose forward mode agreed with reverse mode once
_relayable: WeakSet[nn.Module] = WeakSet()  # models that took channels-last images
_contiguous_only: WeakSet[nn.Module] = WeakSet()  # models that could not
_given_logits: WeakKeyDictionary[nn.Module, int] = WeakKeyDictionary()  # how often logits came with the call
_other_logits: WeakSet[nn.Module] = WeakSet()  # models whose given logits were not their own


@torch.inference_mode(False)
def direction(
    model: nn.Module,
    inputs: Any,
    target: Tensor,
    criterion: Criterion | None = None,
    *,
    scope: Scope = "full",
    head: str | None = None,
    training: Mode = None,
    at: Mapping[str, Tensor] | None = None,
) -> Direction:
    """g = ∇_w L(z(inputs), target): parameter name -> gradient, for parameters that require one.

    inputs: a tensor, a tuple of arguments or a dict of keywords. target: (B,) class indices or (B, K) distributions;
    whatever ``criterion`` takes when one is given. criterion: ``(logits, target) -> loss``, a mean or (B,) values whose
    mean is taken; it sees what the model returns; None is cross entropy, and binary cross entropy for a single logit.
    scope: "head" is the gradient of the last linear layer alone, in closed form from one forward pass. training: the
    mode of the pass; None is the model's own, "statistics" is evaluation but for layers that normalise by the
    statistics of their batch (BatchNorm in training mode), which go on doing so. at: values to use in place of the
    model's parameters, by name. Raises ValueError for an empty batch, labels that the model has no output for, and
    models with nothing to train.
    """
    if len(target) == 0:
        raise ValueError("direction needs at least one validation sample, got 0; pass validation data")
    done = Pass(model, inputs, training=training, at=at, scope=scope, head=head)
    raw = done.raw.detach().requires_grad_()
    with torch.enable_grad():
        loss = mean_loss(raw, target.to(raw.device), criterion)
        (cotangent,) = torch.autograd.grad(loss, raw)
    return done.pull_raw(cotangent)


@torch.inference_mode(False)
def benefit(
    model: nn.Module,
    inputs: Any,
    direction: Mapping[str, Tensor],
    method: Method = "jvp",
    *,
    training: bool | None = None,
    at: Mapping[str, Tensor] | None = None,
    logits: Tensor | None = None,
    feature: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """``(log_p, B)``, both (B, K): log-probabilities and benefits of each label, from the same pass.

    direction: what `direction` gave; one of scope "head" makes the benefit closed-form, from one forward pass. A model
    with a single logit has K = 2: column 1 is the logit's class.

    method: "jvp" is exact (where an operation has no forward-mode rule, two reverse passes stand in; that is logged
    once). "difference" is (z(w + εg) − z(w − εg)) / 2ε, two forward passes without a graph, with ε‖g‖ = δ‖w‖ and δ =
    √eps / 5 of the parameters' type (7e-5 in float32, 3e-9 in float64). Its error is of order δ² for smooth networks,
    of order δ where ReLU or max-pooling switch inside the step, plus rounding of order eps / δ: kinks ask for a δ far
    below the eps^(1/3) that smooth functions do best with (a δ of 5e-3 gave cosines to the exact benefit down to 0.15
    on a ResNet-18). Seen in float32: relative error in Frobenius norm up to 5e-2, cosine of Σ_k y_k B_k to the exact
    one above 0.998; in float64 error below 1e-4 (tests/test_grads.py, benchmarks/reweight.py). Its passes run without
    autocast, in the parameters' type.

    logits: what the model gave for these inputs with these parameters and in this mode, such as the training loop's own
    output. "difference" then is (z(w + εg) − z(w)) / ε, one forward pass; where that pass draws random numbers
    (dropout), or the logits are not the model's own to within a tenth of the difference (autocast, log-softmax),
    which is looked at in calls 1, 2, 4, 8, ..., it makes both passes all the same. feature: (B, d) what the last linear
    layer was given beside these logits: a direction of scope "head" then needs no pass.

    Raises ValueError for directions with unknown names, for "difference" with parameters narrower than float32, where
    rounding swamps it, and for logits with method "jvp", which has no use for them.
    """
    if method not in ("jvp", "difference"):
        raise ValueError(f'method must be "jvp" or "difference", got {method!r}; write method="jvp"')
    module = unwrapped(model)
    head = found_head(module)
    of_head = head is not None and set(direction) == set(head_names(module, head))
    if logits is not None and method == "jvp" and not of_head:
        raise ValueError('logits= saves a pass of method="difference"; write that, or leave logits= out')
    if of_head and head is not None and logits is not None and feature is not None:
        z, h = logits.detach(), pushed(head_names(module, head), direction, feature.detach(), logits)
    elif of_head:
        done = Pass(model, inputs, training=training, scope="head")
        z, h = done.raw, done.push_head(direction)
    else:
        trainable = _values(module, at)
        unknown = sorted(set(direction) - set(trainable))
        if unknown:
            raise ValueError(
                f"the direction names {unknown[:4]}, which the model has no trainable parameter for; make it from this "
                "model: smartaug.grads.direction(model, inputs, target)"
            )
        z, h = _push(module, inputs, trainable, direction, method, training, logits)
    return centred(columns(z), columns(h))


@torch.inference_mode(False)
def embeddings(
    model: nn.Module, inputs: Any, target: Tensor, *, head: str | None = None, training: bool | None = None
) -> Embedding:
    """Last-layer gradients of the samples, factored: residual (B, K) = p − y and feature (B, d); and loss (B,), the
    cross entropy. All in float32 or wider.

    target: (B,) class indices or (B, K) distributions. head: the name of the last linear layer, None finds it. Raises
    ValueError naming the candidates when it is not found.
    """
    done = Pass(model, inputs, training=training, scope="head", head=head)
    if done.feature is None:
        raise RuntimeError("a pass of head scope has features")
    log_p = done.log_p
    labels = distributions(target.to(log_p.device), log_p.shape[1]).to(log_p.dtype)
    return Embedding(log_p.exp() - labels, done.feature, -torch.where(labels == 0, 0.0, labels * log_p).sum(1))


class Pass:
    """One forward pass of the user's model, that can be pulled back to parameters.

    raw: the model's own logits, detached. log_p: (B, K) log-probabilities (K = 2 for a single logit), at least float32.
    feature: (B, d) input of the last linear layer, or None unless asked for by ``features`` or scope "head". scope
    "full" keeps the graph until `pull` or the end of the object.
    """

    def __init__(
        self,
        model: nn.Module,
        inputs: Any,
        *,
        training: Mode = None,
        at: Mapping[str, Tensor] | None = None,
        scope: Scope = "full",
        head: str | None = None,
        features: bool = False,
        graph: bool = True,
    ) -> None:
        if scope not in ("full", "head"):
            raise ValueError(f'scope must be "full" or "head", got {scope!r}; write scope="full"')
        module = unwrapped(model)
        self.feature: Tensor | None = None
        self._scope = scope
        graph = graph and scope == "full"
        values = _values(module, at, needed=graph)
        self._leaves = {name: value.detach().requires_grad_(graph) for name, value in values.items()}
        seen: dict[str, tuple[Tensor, Tensor]] = {}
        watch = scope == "head" or features
        with (
            untouched(module, training, _device(inputs)),
            torch.set_grad_enabled(graph),
            watched(module, seen, watch, found_head(module) if head is None else head),
        ):
            logits = _call(module, self._leaves, inputs)
        self._logits: Tensor | None = logits
        self.raw = logits.detach()
        if watch:
            found = find_head(module, seen, self.raw, head)
            self._head_names = head_names(module, found)
            self.feature = seen[found][0].detach().to(wide(self.raw.dtype))

    @property
    def log_p(self) -> Tensor:
        """(B, K) log-probabilities."""
        return columns(self.raw).log_softmax(1)

    def pull(self, cotangent: Tensor) -> Direction:
        """Σ_ik cotangent[i, k] ∇_w log p_k(x_i), for cotangent (B, K); frees the graph."""
        p = self.log_p.exp()
        own = cotangent - p * cotangent.sum(1, keepdim=True)
        own = own if self.raw.ndim == 2 and self.raw.shape[1] > 1 else own[:, 1]
        return self.pull_raw(own.reshape(self.raw.shape).to(self.raw.dtype))

    def pull_raw(self, cotangent: Tensor) -> Direction:
        """Σ_ik cotangent[i, k] ∇_w z_k(x_i), for a cotangent of the raw logits' shape; frees the graph."""
        if self._scope == "head" and self.feature is not None:
            own = cotangent.reshape(len(cotangent), -1).to(self.feature.dtype)
            parts = (own.T @ self.feature, own.sum(0))
            return dict(zip(self._head_names, parts, strict=False))  # a head without bias has one name
        if self._logits is None or self._logits.grad_fn is None:
            raise RuntimeError("this pass keeps no graph, or it was pulled back before")
        names, leaves = list(self._leaves), list(self._leaves.values())
        pulled = torch.autograd.grad(self._logits, leaves, cotangent, allow_unused=True)
        self._logits = None
        pairs = zip(names, leaves, pulled, strict=True)
        return {name: torch.zeros_like(leaf) if part is None else part for name, leaf, part in pairs}

    def push_head(self, direction: Mapping[str, Tensor]) -> Tensor:
        """The change of the raw logits along a direction of the head alone."""
        if self.feature is None:
            raise RuntimeError("a pass of head scope has features")
        return pushed(self._head_names, direction, self.feature, self.raw)


def pushed(names: list[str], direction: Mapping[str, Tensor], feature: Tensor, raw: Tensor) -> Tensor:
    """The change of the raw logits along a direction of the head ``names`` (weight, bias), from its inputs (B, d)."""
    feature = feature.to(wide(feature.dtype))
    weight, *bias = (direction[name].to(feature.dtype) for name in names)
    return F.linear(feature, weight, *bias).reshape(raw.shape)


def stepped(model: nn.Module, direction: Mapping[str, Tensor], lr: float) -> Direction:
    """Parameter values after one plain gradient step: w − lr · direction, as new tensors; the model stays as it is."""
    return {name: value - lr * direction[name] for name, value in _values(unwrapped(model), None).items()}


# --- with respect to inputs -------------------------------------------------------------------------------------------


@torch.inference_mode(False)
def outputs(model: nn.Module, inputs: Any, *, training: bool | None = False) -> Tensor:
    """The raw logits (B, K) or (B,) of ``inputs``, detached; training: the mode, None is the model's own."""
    module = unwrapped(model)
    with untouched(module, training, _device(inputs)), torch.no_grad():
        return _call(module, {}, inputs).detach()


@torch.inference_mode(False)
def input_gradients(
    model: nn.Module, inputs: Tensor, losses: Callable[[Tensor], Tensor], *, training: bool | None = False
) -> tuple[Tensor, Tensor]:
    """``(ℓ, ∇_x ℓ)``: losses (B,) = ``losses(logits)`` and each one's gradient in its own input (B, ...)."""
    module = unwrapped(model)
    leaf = inputs.detach().clone().requires_grad_()
    with untouched(module, training, _device(inputs)), torch.enable_grad():
        made = losses(_call(module, {}, leaf))
        (gradient,) = torch.autograd.grad(made.sum(), leaf)
    return made.detach(), gradient


def call(model: nn.Module, inputs: Tensor) -> Tensor:
    """The logits of an ordinary training call of the model: its mode, its graph, its running statistics."""
    return logits_of(model(inputs))


def push_inputs(model: nn.Module, inputs: Tensor, tangent: Tensor) -> Tensor:
    """The derivative J t of the logits along ``tangent`` (both of the inputs' shape), with its graph to the parameters.

    In evaluation mode: batch statistics would couple the samples, and torch 2.15 takes them for constants when it
    differentiates their forward-mode derivative again.
    """
    module = unwrapped(model)
    with untouched(module, False, _device(inputs)), warnings.catch_warnings(), forward_ad.dual_level():
        warnings.filterwarnings("ignore", message=".*torch.jit.script", category=FutureWarning)
        live = dict(module.named_parameters())
        made = forward_ad.unpack_dual(_call(module, live, forward_ad.make_dual(inputs.detach(), tangent.detach())))
        return torch.zeros_like(made.primal) if made.tangent is None else made.tangent


# --- calling the model -----------------------------------------------------------------------------------------------


def _values(module: nn.Module, at: Mapping[str, Tensor] | None, needed: bool = True) -> Direction:
    """The parameters that require a gradient, each once, by name; ``at`` in their place where it has the name."""
    found = {name: value.detach() for name, value in module.named_parameters() if value.requires_grad}
    if needed and not found:
        raise ValueError(
            "the model has no parameter that requires a gradient, so no sample can help it; unfreeze some: "
            "model.requires_grad_(True)"
        )
    return found if at is None else {name: at.get(name, value) for name, value in found.items()}


def _call(module: nn.Module, values: Mapping[str, Tensor], inputs: Any) -> Tensor:
    """The raw logits (B, K) or (B,) with ``values`` as parameters and copies of the buffers.

    Convolutions on the CPU get their images in channels-last layout: half the time of a forward pass (measured on
    ResNet-9, benchmarks/reweight.py). A model whose own ``view`` cannot take that is called as it is from then on.
    """
    faster = _relaid(module, inputs)
    if faster is None:
        return _call_as_is(module, values, inputs)
    if module in _relayable:
        return _call_as_is(module, values, faster)
    state = generator_state(_device(inputs))
    try:
        made = _call_as_is(module, values, faster)
    except RuntimeError as error:
        if "view" not in str(error):
            raise
        _contiguous_only.add(module)
        set_generator_state(_device(inputs), state)
        return _call_as_is(module, values, inputs)
    _relayable.add(module)
    return made


def _call_as_is(module: nn.Module, values: Mapping[str, Tensor], inputs: Any) -> Tensor:
    frozen = {name: part.detach() for name, part in module.named_parameters() if name not in values}
    buffers = {name: part.clone() for name, part in module.named_buffers()}
    args: tuple = (inputs,)
    kwargs: dict[str, Any] = {}
    if isinstance(inputs, Mapping):
        args, kwargs = (), dict(inputs)
    elif isinstance(inputs, tuple):
        args = inputs
    return logits_of(functional_call(module, {**buffers, **frozen, **values}, args, kwargs))


def _relaid(module: nn.Module, inputs: Any) -> Tensor | None:
    """The images in channels-last layout, or None where that would not help."""
    if not isinstance(inputs, Tensor) or inputs.ndim != 4 or inputs.device.type != "cpu" or module in _contiguous_only:
        return None
    if not any(isinstance(part, nn.Conv2d) for part in module.modules()):
        return None
    return inputs.contiguous(memory_format=torch.channels_last)


def _device(inputs: Any) -> torch.device:
    parts = inputs.values() if isinstance(inputs, Mapping) else inputs if isinstance(inputs, tuple) else (inputs,)
    return next((part.device for part in parts if isinstance(part, Tensor)), torch.device("cpu"))


# --- tangents --------------------------------------------------------------------------------------------------------


def _push(
    module: nn.Module,
    inputs: Any,
    values: Direction,
    direction: Mapping[str, Tensor],
    method: Method,
    training: bool | None,
    logits: Tensor | None,
) -> tuple[Tensor, Tensor]:
    """Raw logits z and their derivative along ``direction``; names it lacks do not move."""
    device = _device(inputs)
    tangents = {name: part.to(values[name].dtype) for name, part in direction.items()}
    if method == "difference":
        return _difference(module, inputs, values, tangents, training, device, logits)
    if module not in _reverse_only:
        try:
            with untouched(module, training, device):
                z, h = _forward_mode(module, inputs, values, tangents)
        except (NotImplementedError, RuntimeError) as error:
            if not any(words in str(error) for words in ("forward AD", "forward mode AD", "jvp")):
                raise
            _fall_back(module, str(error).splitlines()[0])
        else:
            if module in _checked or _agrees(module, inputs, values, tangents, h, training, device):
                _checked.add(module)
                return z, h
            _fall_back(module, "its forward mode disagrees with reverse mode (a reentrant checkpoint?)")
    with untouched(module, training, device), torch.enable_grad():
        return _two_reverse(module, inputs, values, tangents)


def _fall_back(module: nn.Module, why: str) -> None:
    _reverse_only.add(module)
    _log.warning("benefit of %s uses two reverse passes, about twice the cost: %s", type(module).__name__, why)


def _forward_mode(module: nn.Module, inputs: Any, values: Direction, tangents: Direction) -> tuple[Tensor, Tensor]:
    with torch.no_grad(), warnings.catch_warnings(), forward_ad.dual_level():
        # torch scripts its own forward-mode rules when they are first met, and warns that scripting is deprecated
        warnings.filterwarnings("ignore", message=".*torch.jit.script", category=FutureWarning)
        duals = {name: forward_ad.make_dual(values[name], part) for name, part in tangents.items()}
        unpacked = forward_ad.unpack_dual(_call(module, {**values, **duals}, inputs))
        z, h = unpacked.primal.detach(), unpacked.tangent
        return z, torch.zeros_like(z) if h is None else h.detach()


def _two_reverse(module: nn.Module, inputs: Any, values: Direction, tangents: Direction) -> tuple[Tensor, Tensor]:
    """J t as the derivative of ⟨Jᵀu, t⟩ in u: the double-backward trick."""
    leaves = {name: values[name].detach().requires_grad_() for name in tangents}
    z = _call(module, {**values, **leaves}, inputs)
    u = torch.zeros_like(z, requires_grad=True)
    pulled = torch.autograd.grad(z, list(leaves.values()), u, create_graph=True, allow_unused=True)
    pairs = [(part, tangents[name]) for name, part in zip(leaves, pulled, strict=True) if part is not None]
    inner = sum(((part * tangent).sum() for part, tangent in pairs), torch.zeros((), device=z.device))
    (h,) = torch.autograd.grad(inner, u) if pairs else (torch.zeros_like(z),)
    return z.detach(), h.detach()


def _agrees(
    module: nn.Module,
    inputs: Any,
    values: Direction,
    tangents: Direction,
    h: Tensor,
    training: bool | None,
    device: torch.device,
) -> bool:
    """Once a model: ⟨u, J t⟩ = ⟨Jᵀu, t⟩ for one u. Some wrappers drop tangents without an error."""
    if not bool(torch.isfinite(h).all()) or h.numel() == 0:
        return True  # says nothing about the rules; the caller sees the NaN
    leaves = {name: values[name].detach().requires_grad_() for name in tangents}
    with untouched(module, training, device), torch.enable_grad():
        z = _call(module, {**values, **leaves}, inputs)
        u = h / h.norm() if bool(h.norm() > 0) else torch.ones_like(h)
        pulled = torch.autograd.grad(z, list(leaves.values()), u.to(z.dtype), allow_unused=True)
    pairs = [(part, tangents[name]) for name, part in zip(leaves, pulled, strict=True) if part is not None]
    reverse = sum(float((part * tangent).sum()) for part, tangent in pairs)
    forward = float((u * h).sum())
    scale = sum(float(part.norm() * tangent.norm()) for part, tangent in pairs)
    near = 1e-3 if h.dtype in (torch.float32, torch.float64) and not torch.is_autocast_enabled(device.type) else 0.1
    return abs(reverse - forward) <= near * max(abs(forward), 1e-3 * scale)


def _difference(
    module: nn.Module,
    inputs: Any,
    values: Direction,
    tangents: Direction,
    training: bool | None,
    device: torch.device,
    logits: Tensor | None,
) -> tuple[Tensor, Tensor]:
    eps = max(torch.finfo(values[name].dtype).eps for name in tangents)
    if eps > torch.finfo(torch.float32).eps:
        raise ValueError(
            'method="difference" needs parameters of at least float32, in which a small step can be seen; write '
            'method="jvp"'
        )
    size = _norm(values[name] for name in tangents) / _norm(tangents.values()).clamp_min(1e-30)
    step = eps**0.5 / 5 * size
    with untouched(module, training, device), torch.no_grad(), torch.autocast(device.type, enabled=False):
        state = generator_state(device)

        def moved(sign: float) -> Tensor:
            set_generator_state(device, state)
            there = {
                name: torch.addcmul(values[name], part, (sign * step).to(part.dtype)) for name, part in tangents.items()
            }
            made = _call(module, {**values, **there}, inputs)
            return made.to(wide(made.dtype))

        up = moved(1.0)
        if logits is not None and same_state(state, generator_state(device)):
            z = logits.detach().to(up.dtype)
            if _are_own(module, z, up, logits, lambda: moved(0.0)):
                return z, (up - z) / step
        down = moved(-1.0)
    return (up + down) / 2, (up - down) / (2 * step)


def _are_own(module: nn.Module, z: Tensor, up: Tensor, logits: Tensor, own: Callable[[], Tensor]) -> bool:
    """Whether z are the model's logits, to within a tenth of what the step changed; looked at ever more rarely."""
    if module in _other_logits or logits.shape != up.shape or logits.dtype != up.dtype:
        return False
    calls = _given_logits[module] = _given_logits.get(module, 0) + 1
    if calls & (calls - 1):
        return True
    made = own()
    if not bool(torch.isfinite(z).all()) or float((z - made).norm()) <= 0.1 * float((up - made).norm()):
        return True  # what is not finite says nothing; the caller sees it
    _other_logits.add(module)
    _log.warning(
        "the logits given for %s are not its own to the precision that a difference needs (autocast? a softmax or a "
        "scale behind the model?); two passes of our own stand in",
        type(module).__name__,
    )
    return False


def _norm(parts: Any) -> Tensor:
    return torch.linalg.vector_norm(torch.stack([torch.linalg.vector_norm(part.float()) for part in parts]))
