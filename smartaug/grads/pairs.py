"""Contrastive losses: the logits of pairs, and the benefit of every label over them.

What: a model of two towers returns features; with `ContrastiveLoss` as the criterion its output is read as logits
z (B, 2, K), of each pair's a with all b and of its b with all a. Pair i with label k has −log p_ik = −½ (log p⁰ + log
p¹), the mean of both directions, so that its benefit is the mean of the two directions' benefits. The feature of a pair
is what the loss compares: both towers' features, side by side. When: reweighters with ``criterion=ContrastiveLoss()``.
Cost: none beside the passes of the model. Reference: `smartaug.ContrastiveLoss`.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .._base.contrastive import ContrastiveLoss, Towers, own_pairs
from .model_call import ModelInputs, call_model, device_of
from .untouched import untouched, unwrapped


def pairs_of(criterion: object) -> ContrastiveLoss | None:
    """The criterion, if it compares pairs."""
    return criterion if isinstance(criterion, ContrastiveLoss) else None


@contextmanager
def read_as_pairs(module: nn.Module, pairs: ContrastiveLoss | None, seen: list[Tensor] | None = None) -> Iterator[None]:
    """Inside, the module returns logits (B, 2, K) in place of features; ``pairs=None`` changes nothing.

    seen: a list that gets the features (B, 2d) of the pairs, detached; TypeError for a module without them.
    """
    if pairs is None:
        yield
        return

    def read(module: nn.Module, inputs: tuple[Any, ...], output: Any) -> Tensor:
        if seen is not None:
            towers = pairs.towers(output)
            seen[:] = [torch.cat([towers.a, towers.b], 1).detach()]
        return pairs.logits(output)

    handle = module.register_forward_hook(read)  # the last of its hooks: those of the user see features
    try:
        yield
    finally:
        handle.remove()


@torch.inference_mode(False)
def towers_of(model: nn.Module, inputs: ModelInputs, pairs: ContrastiveLoss) -> Towers:
    """The features of both towers for the pairs ``inputs``, detached, in evaluation mode."""
    module, seen = unwrapped(model), []

    def keep(module: nn.Module, inputs: tuple[Any, ...], output: Any) -> Tensor:
        seen.append(pairs.towers(output))
        return seen[-1].a

    handle = module.register_forward_hook(keep)
    try:
        with untouched(module, False, device_of(inputs)), torch.no_grad():
            call_model(module, {}, inputs)
    finally:
        handle.remove()
    return seen[-1]


def pair_log_p(raw: Tensor) -> Tensor:
    """(B, K) the mean of both directions' log-probabilities; −ℓ_i is that of the pair's own label."""
    return raw.log_softmax(2).mean(1)


def pair_benefits(raw: Tensor, tangent: Tensor) -> tuple[Tensor, Tensor]:
    """``(log_p, B)``, (B, K) each, from the logits (B, 2, K) and their derivative along the direction."""
    log_p = raw.log_softmax(2)
    made = (log_p.exp() * tangent).sum(2, keepdim=True) - tangent
    return log_p.mean(1), made.mean(1)


def pulled_pairs(raw: Tensor, cotangent: Tensor) -> Tensor:
    """(B, 2, K) the gradient of Σ_ik cotangent[i, k] log p_ik in the logits."""
    own = cotangent[:, None] / 2
    return own - raw.softmax(2) * own.sum(2, keepdim=True)


def pair_loss(raw: Tensor) -> Tensor:
    """The mean loss of logits (B, 2, K), each pair with its own label."""
    own = own_pairs(raw[:, 0])
    return (F.cross_entropy(raw[:, 0], own) + F.cross_entropy(raw[:, 1], own)) / 2
