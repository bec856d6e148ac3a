"""A training step on a copy of the user's model, for measuring its speed."""

from __future__ import annotations

import copy
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils import _pytree as pytree

from ..._base.input_leaves import images_of


class Step:
    """``step(batch)`` runs a forward pass, a backward pass and an optimizer step with learning rate 0.

    model: a module, which is copied and applied to the images of the batch; or a function of a batch, which is called
    unchanged. The loss of a module is the cross entropy where the batch has integer labels for its output (B, classes),
    else the mean square of its outputs. Raises TypeError for a model that is not callable.
    """

    def __init__(self, model: Callable[..., object]) -> None:
        if not callable(model):
            raise TypeError(f"model must be a module or a function of a batch, got {type(model).__name__}")
        self.device: torch.device | None = None
        if not isinstance(model, nn.Module):
            self._step = model
            return
        self._model = copy.deepcopy(model).train()
        parameters = list(self._model.parameters())
        self.device = parameters[0].device if parameters else None
        self._optimizer = torch.optim.SGD(parameters or [torch.zeros(1, requires_grad=True)], lr=0.0)
        self._step = self._trained

    def __call__(self, batch: object) -> None:
        """Run one step on a batch on the model's device.

        Raises TypeError for a module where the batch has no images, or the output no tensor that requires gradients.
        """
        self._step(batch)

    def _trained(self, batch: object) -> None:
        images = images_of(batch)
        if images is None:
            raise TypeError(
                "the batch has no images (B, C, H, W) to give to the model; pass a function of a batch instead: "
                "model=training_step"
            )
        images = images if images.is_floating_point() else images.float() / 255
        output = self._model(images)
        loss = _loss(output, batch, len(images))
        self._optimizer.zero_grad()
        loss.backward()
        self._optimizer.step()


def _loss(output: object, batch: object, rows: int) -> Tensor:
    if isinstance(output, Tensor) and output.ndim == 2:
        for leaf in pytree.tree_leaves(batch):
            integers = isinstance(leaf, Tensor) and leaf.shape == (rows,) and leaf.dtype == torch.int64
            if integers and int(leaf.min()) >= 0 and int(leaf.max()) < output.shape[1]:
                return functional.cross_entropy(output, leaf)
    parts = [
        leaf.square().mean() for leaf in pytree.tree_leaves(output) if isinstance(leaf, Tensor) and leaf.requires_grad
    ]
    if not parts:
        raise TypeError("the model's output has no tensor to differentiate; pass a function of a batch instead")
    return torch.stack([part.float() for part in parts]).sum()
