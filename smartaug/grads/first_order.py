"""First-order effects of training samples on the validation loss.

With logits z(x; w), p = softmax(z) and g = ∇_w L_val, the *benefit*

    B[i, k] = −⟨∇_w log p_k(x_i), g⟩ = −(h[i, k] − Σ_j p[i, j] h[i, j]),   h = ∂z/∂w · g,

is the effect of training on (x_i, label k): a step of size α down −log p_k(x_i) lowers L_val by α B[i, k] to first
order. One forward-mode pass gives all of B; Σ_k p[i, k] B[i, k] = 0 in every row, and Σ_k y[i, k] B[i, k] = ⟨∇ℓ_i, g⟩
for a label y. SAFLEX, MetaAugment, Learning to Reweight and Meta-Weight-Net are contractions of it.

What: `direction` is g, `benefit` is B, `embeddings` are the factors of last-layer gradients, `ForwardPass` is one pass
from which gradients of the parameters can be taken. When: inside reweighters; directly, to see which samples help.
Cost, in forward passes of the batch (a training step is 3): direction 3 of the validation batch; benefit by "jvp" 2
where every operation has a fused forward-mode kernel (4 and more with BatchNorm and max-pooling), by "difference" 2, or
1 with the loop's own logits; head scope 1 each, or none with its features. Reference: Ding et al., "SAFLEX", ICLR 2024,
§3; the forward-mode form is ours.

`model_call` is the call of the model, `tangents` the derivative of its logits along a direction; no other module
calls it. The user's parameters, buffers, ``.grad``, generators and train/eval mode are what they were, bit for bit.
Hooks that the user put on the model do run.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from typing import Literal

import torch
import torch.autograd.forward_ad as forward_ad
from torch import Tensor, nn

from ..batch import Embedding
from .last_layer import find_head, found_head, head_names, pulled, pushed, watched
from .logits import centred, column_gains, columns, distributions, gains, logits_of, mean_loss, row_losses, wide
from .model_call import Direction, ModelInputs, call_model, device_of, trainable_values
from .pairs import pair_benefits, pair_log_p, pair_loss, pairs_of, pulled_pairs, read_as_pairs
from .positions import Criterion
from .tangents import Method, push
from .untouched import Mode, untouched, unwrapped

Scope = Literal["full", "head"]
Against = tuple[Criterion, Tensor]


@torch.inference_mode(False)
def direction(
    model: nn.Module,
    inputs: ModelInputs,
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
    mean is taken; it sees what the model returns; None is cross entropy, and binary cross entropy for a single logit;
    `smartaug.ContrastiveLoss` compares the pairs of the batch, and reads no target, only its number of rows.
    scope: "head" is the gradient of the last linear layer alone, in closed form from one forward pass. training: the
    mode of the pass; None is the model's own, "statistics" is evaluation but for layers that normalise by the
    statistics of their batch (BatchNorm in training mode), which go on doing so. at: values to use in place of the
    model's parameters, by name. Raises ValueError for an empty batch, labels that the model has no output for, and
    models with nothing to train.
    """
    if len(target) == 0:
        raise ValueError("direction needs at least one validation sample, got 0; pass validation data")
    pairs = pairs_of(criterion)
    against = None if pairs is None else (pairs, target)
    done = ForwardPass(model, inputs, training=training, at=at, scope=scope, head=head, against=against)
    raw = done.raw.detach().requires_grad_()
    with torch.enable_grad():
        loss = mean_loss(raw, target.to(raw.device), criterion) if pairs is None else pair_loss(raw)
        (cotangent,) = torch.autograd.grad(loss, raw)
    return done.pull_raw(cotangent)


@torch.inference_mode(False)
def benefit(
    model: nn.Module,
    inputs: ModelInputs,
    direction: Mapping[str, Tensor],
    method: Method = "jvp",
    *,
    training: bool | None = None,
    at: Mapping[str, Tensor] | None = None,
    logits: Tensor | None = None,
    feature: Tensor | None = None,
    against: Against | None = None,
    by_column: bool = False,
) -> tuple[Tensor, Tensor]:
    """``(log_p, B)``, both (B, K): log-probabilities and benefits of each label, from the same pass.

    direction: the result of `direction`; one of scope "head" makes the benefit closed-form, from one forward pass. A
    model with a single logit has K = 2: column 1 is the logit's class.

    method: "jvp" is exact (where an operation has no forward-mode rule, two reverse passes stand in, and where these
    fail, as for nn.EmbeddingBag, a difference; that is logged once). "difference" is (z(w + εg) − z(w − εg)) / 2ε, two
    forward passes without a graph, with ε‖g‖ = δ‖w‖ and δ = √eps / 5 of the parameters' type (7e-5 in float32, 3e-9 in
    float64). Its error is of order δ² for smooth networks, of order δ where ReLU or max-pooling switch inside the step,
    plus rounding of order eps / δ: kinks need a δ far below the eps^(1/3) that is best for smooth functions (a δ of
    5e-3 gave cosines to the exact benefit down to 0.15 on a ResNet-18). Measured in float32: relative error in
    Frobenius norm up to 5e-2, cosine of Σ_k y_k B_k to the exact one above 0.998; in float64 error below 1e-4
    (tests/test_grads.py, benchmarks/reweight.py). Its passes run without autocast, in the parameters' type.

    logits: the model's output for these inputs with these parameters and in this mode, such as the training loop's own
    output. "difference" then is (z(w + εg) − z(w)) / ε, one forward pass; where that pass draws random numbers
    (dropout), or the logits are not the model's own to within a tenth of the difference (autocast, log-softmax),
    which is checked in calls 1, 2, 4, 8, ..., it makes both passes all the same. feature: (B, d) the input of the last
    linear layer in the pass that gave these logits: a direction of scope "head" then needs no pass.

    against: ``(criterion, target)`` where labels are not classes (several a sample, values): a criterion of torch that
    compares element by element, and the labels that it compares the outputs with. Then both results are (B, 1), for the
    given label: −ℓ_i, and its benefit ⟨∇ℓ_i, g⟩. by_column: with a criterion of binary cross entropy, B is (B, 2K): the
    benefits of 0 and of 1 for each of the K labels of a sample, one beside the other. With `smartaug.ContrastiveLoss`
    both are (B, K), for each pair of the batch (of all ranks) as the label; its target is not read.

    Raises ValueError for directions with unknown names, for "difference" with parameters narrower than float32, where
    rounding errors are larger than it, and for logits with method "jvp", which does not use them.
    """
    if method not in ("jvp", "difference"):
        raise ValueError(f'method must be "jvp" or "difference", got {method!r}; write method="jvp"')
    module, pairs = unwrapped(model), pairs_of(None if against is None else against[0])
    head = found_head(module) if pairs is None else None
    of_head = head is not None and set(direction) == set(head_names(module, head))
    if logits is not None and method == "jvp" and not of_head:
        raise ValueError('logits= saves a pass of method="difference"; write that, or leave logits= out')
    if of_head and head is not None and logits is not None and feature is not None:
        z, h = logits.detach(), pushed(module, head, direction, feature.detach(), logits)
    elif of_head:
        done = ForwardPass(model, inputs, training=training, scope="head")
        z, h = done.raw, done.push_head(direction)
    else:
        trainable = trainable_values(module, at)
        unknown = sorted(set(direction) - set(trainable))
        if unknown:
            raise ValueError(
                f"the direction names {unknown[:4]}, which the model has no trainable parameter for; make it from this "
                "model: smartaug.grads.direction(model, inputs, target)"
            )
        z, h = push(module, inputs, trainable, direction, method, training, logits, pairs)
    if pairs is not None:
        return pair_benefits(z, h)
    if against is not None:
        losses, gain = gains(against[0], z, against[1].to(z.device), h)
        return -losses[:, None], column_gains(against[0], z, h) if by_column else gain[:, None]
    return centred(columns(z), columns(h))


@torch.inference_mode(False)
def embeddings(
    model: nn.Module, inputs: ModelInputs, target: Tensor, *, head: str | None = None, training: bool | None = None
) -> Embedding:
    """Last-layer gradients of the samples, factored: residual (B, K) = p − y and feature (B, d); and loss (B,), the
    cross entropy. All in float32 or wider.

    target: (B,) class indices or (B, K) distributions. head: the name of the last linear layer, None finds it. Raises
    ValueError naming the candidates when it is not found.
    """
    done = ForwardPass(model, inputs, training=training, scope="head", head=head)
    if done.feature is None:
        raise RuntimeError("a pass of head scope has features")
    log_p = done.log_p
    labels = distributions(target.to(log_p.device), log_p.shape[1]).to(log_p.dtype)
    return Embedding(log_p.exp() - labels, done.feature, -torch.where(labels == 0, 0.0, labels * log_p).sum(1))


class ForwardPass:
    """One forward pass of the user's model, and vector–Jacobian products with it (`pull`, `pull_raw`).

    raw: the model's own logits, detached. log_p: (B, K) log-probabilities (K = 2 for a single logit), at least float32.
    feature: (B, d) input of the last linear layer, of maps (B, d, ...) that of the last convolution, or None without
    ``features`` and scope "head"; of pairs (B, 2d) the features that are compared. scope "full" keeps the graph until
    `pull` or the end of the object. against: as for `benefit`; then log_p is −ℓ (B, 1), or of all pairs (B, K), whose
    raw logits are (B, 2, K).
    """

    def __init__(
        self,
        model: nn.Module,
        inputs: ModelInputs,
        *,
        training: Mode = None,
        at: Mapping[str, Tensor] | None = None,
        scope: Scope = "full",
        head: str | None = None,
        features: bool = False,
        graph: bool = True,
        against: Against | None = None,
    ) -> None:
        self._against, self._pairs = against, pairs_of(None if against is None else against[0])
        if scope not in ("full", "head"):
            raise ValueError(f'scope must be "full" or "head", got {scope!r}; write scope="full"')
        if self._pairs is not None and scope == "head":
            raise ValueError('two towers share no last layer, so the gradient is that of the model; write scope="full"')
        module = unwrapped(model)
        self.feature: Tensor | None = None
        self._scope = scope
        graph = graph and scope == "full"
        values = trainable_values(module, at, needed=graph)
        self._leaves = {name: value.detach().requires_grad_(graph) for name, value in values.items()}
        seen: dict[str, tuple[Tensor, Tensor]] = {}
        of_pairs: list[Tensor] = []
        watch = (scope == "head" or features) and self._pairs is None
        with (
            untouched(module, training, device_of(inputs)),
            torch.set_grad_enabled(graph),
            read_as_pairs(module, self._pairs, of_pairs if features else None),
            watched(module, seen, watch, found_head(module) if head is None else head),
        ):
            logits = call_model(module, self._leaves, inputs)
        self._logits: Tensor | None = logits
        self.raw = logits.detach()
        if watch:
            found = find_head(module, seen, self.raw, head, exact=scope == "head")
            self._head, self._module = found, module
            self.feature = seen[found][0].detach().to(wide(self.raw.dtype))
        elif of_pairs:
            self.feature = of_pairs[0].to(self.raw.dtype)

    @property
    def log_p(self) -> Tensor:
        """(B, K) log-probabilities."""
        if self._pairs is not None:
            return pair_log_p(self.raw)
        if self._against is not None:
            return -row_losses(self._against[0], self.raw, self._against[1].to(self.raw.device))[:, None]
        return columns(self.raw).log_softmax(1)

    def pull(self, cotangent: Tensor) -> Direction:
        """Σ_ik cotangent[i, k] ∇_w log p_k(x_i), for cotangent (B, K); frees the graph."""
        if self._pairs is not None:
            return self.pull_raw(pulled_pairs(self.raw, cotangent.to(self.raw.dtype)))
        if self._against is not None:
            raw = self.raw.detach().requires_grad_()
            with torch.enable_grad():
                losses = row_losses(self._against[0], raw, self._against[1].to(raw.device))
                (gradient,) = torch.autograd.grad(losses, raw, -cotangent[:, 0].to(losses.dtype))
            return self.pull_raw(gradient)
        p = self.log_p.exp()
        # ∂ log p_k / ∂z_j = 1[j = k] − p_j; for a single logit z the columns are (0, z), so its own is column 1
        own = cotangent - p * cotangent.sum(1, keepdim=True)
        own = own if self.raw.ndim == 2 and self.raw.shape[1] > 1 else own[:, 1]
        return self.pull_raw(own.reshape(self.raw.shape).to(self.raw.dtype))

    def pull_raw(self, cotangent: Tensor) -> Direction:
        """Σ_ik cotangent[i, k] ∇_w z_k(x_i), for a cotangent of the raw logits' shape; frees the graph."""
        if self._scope == "head" and self.feature is not None:
            parts = pulled(self._module, self._head, cotangent, self.feature)
            return dict(zip(head_names(self._module, self._head), parts, strict=False))  # one name without a bias
        if self._logits is None or self._logits.grad_fn is None:
            raise RuntimeError("this pass keeps no graph, or it was pulled back before")
        names, leaves = list(self._leaves), list(self._leaves.values())
        made = torch.autograd.grad(self._logits, leaves, cotangent, allow_unused=True)
        self._logits = None
        pairs = zip(names, leaves, made, strict=True)
        return {name: torch.zeros_like(leaf) if part is None else part for name, leaf, part in pairs}

    def push_head(self, direction: Mapping[str, Tensor]) -> Tensor:
        """The change of the raw logits along a direction of the head alone."""
        if self.feature is None:
            raise RuntimeError("a pass of head scope has features")
        return pushed(self._module, self._head, direction, self.feature, self.raw)


def stepped(model: nn.Module, direction: Mapping[str, Tensor], lr: float) -> Direction:
    """Parameter values after one plain gradient step: w − lr · direction, as new tensors; the model stays as it is."""
    return {name: value - lr * direction[name] for name, value in trainable_values(unwrapped(model), None).items()}


# --- with respect to inputs -------------------------------------------------------------------------------------------


@torch.inference_mode(False)
def outputs(model: nn.Module, inputs: ModelInputs, *, training: bool | None = False) -> Tensor:
    """The raw logits (B, K) or (B,) of ``inputs``, detached; training: the mode, None is the model's own."""
    module = unwrapped(model)
    with untouched(module, training, device_of(inputs)), torch.no_grad():
        return call_model(module, {}, inputs).detach()


@torch.inference_mode(False)
def input_gradients(
    model: nn.Module, inputs: Tensor, losses: Callable[[Tensor], Tensor], *, training: bool | None = False
) -> tuple[Tensor, Tensor]:
    """``(ℓ, ∇_x ℓ)``: losses (B,) = ``losses(logits)`` and each one's gradient in its own input (B, ...)."""
    module = unwrapped(model)
    leaf = inputs.detach().clone().requires_grad_()
    with untouched(module, training, device_of(inputs)), torch.enable_grad():
        made = losses(call_model(module, {}, leaf))
        (gradient,) = torch.autograd.grad(made.sum(), leaf)
    return made.detach(), gradient


def call(model: nn.Module, inputs: Tensor) -> Tensor:
    """The logits of an ordinary call of the model, in its own mode, with its graph; running statistics are updated."""
    return logits_of(model(inputs))


def push_inputs(model: nn.Module, inputs: Tensor, tangent: Tensor) -> Tensor:
    """The derivative J t of the logits along ``tangent`` (both of the inputs' shape), with its graph to the parameters.

    In evaluation mode: batch statistics would couple the samples, and torch 2.15 takes them for constants when it
    differentiates their forward-mode derivative again.
    """
    module = unwrapped(model)
    with untouched(module, False, device_of(inputs)), warnings.catch_warnings(), forward_ad.dual_level():
        warnings.filterwarnings("ignore", message=".*torch.jit.script", category=FutureWarning)
        live = dict(module.named_parameters())
        made = forward_ad.unpack_dual(call_model(module, live, forward_ad.make_dual(inputs.detach(), tangent.detach())))
        return torch.zeros_like(made.primal) if made.tangent is None else made.tangent


Pass = ForwardPass  # its first name
