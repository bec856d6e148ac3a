"""The base class of MetaAugment and Meta-Weight-Net: a small network weighs samples, trained by the validation loss.

One policy step, for P = net(...) and shares c(P) of the batch's losses: ŵ = w − α Σ c_i ∇ℓ_i(w); g = ∇L_val(ŵ);
s_i = ⟨∇ℓ_i(w), g⟩, one forward-mode pass; then ∂L_val(ŵ)/∂P_i = −α Σ_j s_j ∂c_j/∂P_i exactly, without a second-order
graph, and the chain rule through the network. The batch's forward pass serves features, losses and pseudo step.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from .._base import ranks
from ..batch import Batch
from ..grads import ForwardPass
from ..grads.reference import Model
from .learned import Reweighting
from .protocols import Gradients, OperationTrace, ValidationSet


class MetaLearner(Reweighting):
    """A `Reweighting` that owns a network; subclasses define its inputs and how its outputs share the loss.

    * `lr`: α, the step size of the pseudo step.
    * `optimizer`: the loop's optimiser; α is then the learning rate of its first group, read at every step.
    * `policy_lr`: learning rate of Adam for the network's own parameters.
    * `every`: number of batches (not epochs) for each step of the network; the other batches are weighed by the network
      as it is.
    * The other arguments are those of `Reweighting`; `weigh_every` and `warmup` are numbers of batches as well.

    Raises ValueError for rates that are not positive, for scope="head" and for when="loss".
    """

    def __init__(
        self,
        model: Model,
        val_set: ValidationSet,
        *,
        lr: float = 0.1,
        optimizer: torch.optim.Optimizer | None = None,
        policy_lr: float = 1e-3,
        **settings: Any,
    ) -> None:
        super().__init__(model, val_set, **settings)
        if self.scope != "full":
            raise ValueError(f'{type(self).__name__} steps the whole model; leave scope= at "full", got {self.scope!r}')
        if self.when != "batch":
            raise ValueError(f'{type(self).__name__} steps the model itself; leave when= at "batch", got {self.when!r}')
        for name, value in (("lr", lr), ("policy_lr", policy_lr)):
            if not value > 0:
                raise ValueError(f"{name} must be positive, got {value!r}; write {name}=0.1")
        self.lr, self.optimizer, self.policy_lr = lr, optimizer, policy_lr
        self.net: nn.Module | None = None  # made at the first batch, when its inputs are known
        self._adam: torch.optim.Optimizer | None = None
        self._widths: tuple[int, ...] = ()
        self._loaded = False  # whether the network comes from a loaded state

    # --- what subclasses define ---------------------------------------------------------------------------------------

    @abstractmethod
    def make_net(self, widths: tuple[int, ...]) -> nn.Module:
        """The network for inputs of these widths; its output is (B,) in (0, 1)."""

    @abstractmethod
    def network_inputs(
        self, grads: Gradients, graph: bool, batch: Batch, trace: OperationTrace | None
    ) -> tuple[ForwardPass, tuple[Tensor, ...]]:
        """The batch's pass, with its graph if ``graph``, and what the network sees of the batch: tensors (B, width)."""

    @staticmethod
    @abstractmethod
    def shares(P: Tensor) -> Tensor:
        """c(P): (B,) shares of the losses in the pseudo step, differentiable in P; sums run over all ranks."""

    def record_weights(self, P: Tensor, trace: OperationTrace | None) -> None:
        """Called with every batch's weights P (B,) in (0, 1)."""

    # --- a batch -----------------------------------------------------------------------------------------------------

    def weigh(self, grads: Gradients, batch: Batch, trace: OperationTrace | None) -> tuple[Tensor, None]:
        """P of the network after its step, as weights."""
        learning = (self.step - self.warmup) % (self.every * self.weigh_every) == 0
        _, seen = self.network_inputs(grads, learning, batch, trace)
        net = self._ready(tuple(part.shape[1] for part in seen), seen[0])
        if learning:
            self._learn(net, grads, seen)
        with torch.no_grad():
            P = net(*seen)
        self.record_weights(P, trace)
        return P, None

    @torch.enable_grad()
    def _learn(self, net: nn.Module, grads: Gradients, seen: tuple[Tensor, ...]) -> None:
        lr = self.lr if self.optimizer is None else float(self.optimizer.param_groups[0]["lr"])
        P = net(*seen)
        shares = self.shares(P)
        direction = grads.direction(grads.pseudo_step(shares.detach(), lr))
        _, benefits = grads.benefit(direction)
        agreement = (grads.labels * benefits).sum(1)
        parameters = list(net.parameters())
        made = torch.autograd.grad(self._effect(shares, agreement, lr), parameters)
        made = tuple(ranks.averaged({str(i): part for i, part in enumerate(made)}).values())
        for parameter, part in zip(parameters, made, strict=True):
            parameter.grad = part * ranks.here()[1]
        if self._adam is not None and all(bool(torch.isfinite(part).all()) for part in made):
            self._adam.step()

    @staticmethod
    def _effect(shares: Tensor, agreement: Tensor, lr: float) -> Tensor:
        """A scalar whose derivative in the shares is that of L_val(ŵ)."""
        return -lr * (shares * agreement).sum()

    def _ready(self, widths: tuple[int, ...], like: Tensor) -> nn.Module:
        if self._loaded and self._widths != widths:
            raise ValueError(
                f"the state that was loaded has a network for inputs of the widths {self._widths}, and this model's "
                f"batches have {widths}; load it beside the model it was learned with, or begin with a new "
                f"{type(self).__name__}"
            )
        if self.net is None or self._widths != widths:
            with torch.random.fork_rng([]):  # the same network on every rank, and nothing drawn from the user
                torch.default_generator.manual_seed(self.seed)
                self.net = self.make_net(widths).to(like.dtype)
            self.net, self._widths = self.net.to(like.device), widths
            self._adam = torch.optim.Adam(self.net.parameters(), lr=self.policy_lr)
        return self.net

    # --- state -------------------------------------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        """The state of `Reweighting`, with the network and its optimiser."""
        state = super().state_dict()
        if self.net is not None and self._adam is not None:
            kind = next(self.net.parameters())
            own = {"net": self.net.state_dict(), "adam": self._adam.state_dict(), "like": kind.new_empty(0)}
            state["policy"] = {**own, "widths": list(self._widths)}
        return state

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Put back what `state_dict` gave."""
        super().load_state_dict(state)
        if "policy" in state:
            policy, self._loaded = state["policy"], False
            net = self._ready(tuple(policy["widths"]), policy["like"])
            net.load_state_dict(policy["net"])
            self._loaded = True
            if self._adam is not None:
                self._adam.load_state_dict(policy["adam"])
