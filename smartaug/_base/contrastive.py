"""`ContrastiveLoss`: CLIP's symmetric loss over the pairs of a batch, with a value for each pair.

What: z = s ⟨a_i, b_k⟩ of the features a, b (of images and texts, say) with the scale s, p = softmax of its rows, q =
softmax of its columns. Pair i has the loss ℓ_i = −½ Σ_k y_ik (log p_ik + log q_ik) for a label y_i over the pairs k of
the batch: its own pair, or a soft label where several fit. All pairs of all ranks are compared. A pair of weight 0 adds
no ℓ_i, and stays what other pairs are told apart from.

When: two towers trained on pairs, with `smartaug.Loss` around it; and as ``criterion=`` of a reweighter, which then
learns weights and soft labels of pairs. Cost: that of open_clip's ClipLoss with local_loss and gather_with_grad.

Reference: Radford et al., "Learning Transferable Visual Models From Natural Language Supervision", ICML 2021; values
and gradients are those of open_clip's ``ClipLoss``, held by a test. Ding et al., "SAFLEX", ICLR 2024, for weights and
soft labels over the captions of a batch; of the paper's contrastive section only the abstract and a summary were found,
so that one label y_i for both directions is ours: ℓ_i is then linear in it, and the linear programme of each row exact.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from . import ranks
from .names import suggest_keywords

Output = Any  # what the user's model returns


class Towers(NamedTuple):
    """What two towers make of B pairs: features (B, d), and numbers or tensors of one element."""

    a: Tensor
    b: Tensor
    scale: float | Tensor
    bias: float | Tensor

    def products(self, rows: Tensor, columns: Tensor) -> Tensor:
        """(n, m) scale · ⟨row, column⟩ + bias of features (n, d) and (m, d), in float32 or wider."""
        made = rows @ columns.T
        return made.to(torch.promote_types(made.dtype, torch.float32)) * self.scale + self.bias


_NO_FEATURES = (
    "the features of both towers are needed, got {}; write criterion((image_features, text_features, scale), texts), "
    "and return these from a model that a stage calls"
)


class ContrastiveLoss(nn.Module):
    """``criterion = smartaug.Loss(smartaug.ContrastiveLoss())``; then ``criterion(model(images, texts), texts)``.

    temperature: the scale is 1 / temperature; None takes the scale that the model returns (CLIP's learned one).
    normalise: whether features are brought to unit length, so that products are cosines; models that do so themselves
    lose nothing. gather: whether the pairs of all ranks are compared, with gradients to each; every rank then needs as
    many pairs (``drop_last=True``). Raises ValueError for a temperature that is not positive.
    """

    @suggest_keywords
    def __init__(self, *, temperature: float | None = None, normalise: bool = True, gather: bool = True) -> None:
        super().__init__()
        if temperature is not None and not temperature > 0:
            raise ValueError(f"temperature must be a number > 0, got {temperature!r}; write temperature=0.07")
        self.temperature, self.normalise, self.gather = temperature, bool(normalise), bool(gather)

    def forward(self, output: Output, target: object = None, *, soft: Tensor | None = None) -> Tensor:
        """The mean of `losses`, a scalar; arguments are those of `losses`.

        target: not read; `smartaug.Loss` takes the weights and labels from it.
        """
        return self.losses(output, soft=soft).mean()

    def losses(self, output: Output, *, soft: Tensor | None = None) -> Tensor:
        """The loss (B,) of each pair, in float32 or wider.

        output: ``(a, b)``, ``(a, b, scale)`` or ``(a, b, scale, bias)``, features (B, d) and numbers; a dict of them
        named as open_clip's (``image_features``, ``text_features``, ``logit_scale``, ``logit_bias``) or Hugging Face's
        (``image_embeds``, ``text_embeds``, ``logits_per_image``); or the scaled products (B, B) themselves. The scale
        is the factor itself, ``logit_scale.exp()``. soft: (B, K) labels over the K pairs of all ranks, rows that sum to
        1; None is each pair's own. Raises TypeError or ValueError for other outputs and labels.
        """
        rows, columns = self.products(output)
        if soft is None:
            own = own_pairs(rows)
            return (F.cross_entropy(rows, own, reduction="none") + F.cross_entropy(columns, own, reduction="none")) / 2
        if soft.shape != rows.shape or not soft.is_floating_point():
            raise ValueError(
                f"soft must hold a label over all pairs for each pair, floats {tuple(rows.shape)}, got {soft.dtype} "
                f"{tuple(soft.shape)}; write soft=same / same.sum(1, keepdim=True), where same[i, k] is 1.0 if i fits "
                "k; labels that a stage made are over the pairs of its batch, so give Loss that whole batch at once"
            )
        soft = soft.to(rows.device, rows.dtype)
        return -(soft * (rows.log_softmax(1) + columns.log_softmax(1))).sum(1) / 2

    def logits(self, output: Output) -> Tensor:
        """(B, 2, K): the scaled products of each a with all b, and of each b with all a, as `losses` takes them."""
        return torch.stack(self.products(output), 1)

    def products(self, output: Output) -> tuple[Tensor, Tensor]:
        """The two halves of `logits`, (B, K) each."""
        if len(given := self.features(output)) == 1:
            return self._given(given[0])
        towers = self.towers(output)
        a, b = towers.a, towers.b
        all_a, all_b = (ranks.gathered(a), ranks.gathered(b)) if self.gather else (a, b)
        return towers.products(a, all_b), towers.products(b, all_a)

    def towers(self, output: Output) -> Towers:
        """The features of both towers, of unit length with ``normalise``, and their scale; not of products (B, B)."""
        parts = _parts(output, self.temperature is not None)
        if len(parts) == 1:
            raise TypeError(_NO_FEATURES.format("one tensor"))
        a, b = self.features(output)
        if self.normalise:
            a, b = F.normalize(a, dim=1), F.normalize(b, dim=1)
        return Towers(a, b, *self._scale(parts[2:]))

    def features(self, output: Output) -> tuple[Tensor, ...]:
        """``(a, b)``, the features (B, d) of an output, or ``(products,)`` (B, B) where it has those in their place."""
        parts = _parts(output, self.temperature is not None)
        if len(parts) == 1:
            return (parts[0],)
        a, b = parts[0], parts[1]
        if not (isinstance(a, Tensor) and isinstance(b, Tensor)) or a.ndim != 2 or a.shape != b.shape:
            what = [tuple(part.shape) if isinstance(part, Tensor) else type(part).__name__ for part in (a, b)]
            raise ValueError(f"the features of the two towers must be (B, d) each, of the same pairs, got {what}")
        return a, b

    def _given(self, products: Tensor) -> tuple[Tensor, Tensor]:
        """The halves of `logits` from the products (B, B) of one rank."""
        if products.ndim != 2 or products.shape[0] != products.shape[1]:
            raise ValueError(
                f"ContrastiveLoss needs the features of both towers, or their products (B, B), got one tensor "
                f"{tuple(products.shape)}; return (image_features, text_features, scale) from the model"
            )
        if self.gather and ranks.here()[1] > 1:
            raise ValueError(
                "products (B, B) are of the pairs of one rank, and all ranks' pairs are to be compared; give features, "
                "(image_features, text_features, scale), or write ContrastiveLoss(gather=False)"
            )
        wide = products.to(torch.promote_types(products.dtype, torch.float32))
        return wide, wide.T

    def _scale(self, given: tuple[Any, ...]) -> tuple[Any, Any]:
        """``(scale, bias)``, numbers or tensors of one element."""
        given = tuple(part.reshape(()) if isinstance(part, Tensor) and part.numel() == 1 else part for part in given)
        scale, bias = (*given, None, None)[:2]
        if self.temperature is not None and scale is not None:
            raise ValueError(
                f"the model returns a scale, and temperature={self.temperature} is another; leave temperature out"
            )
        if self.temperature is None and scale is None:
            raise ValueError(
                "the model returns no scale of its products; return (image_features, text_features, scale), or write "
                "ContrastiveLoss(temperature=0.07)"
            )
        return (1 / self.temperature if self.temperature is not None else scale), (0.0 if bias is None else bias)


def own_pairs(like: Tensor) -> Tensor:
    """(B,) int64: which of all K pairs each of this rank's B pairs is, for ``like`` (B, K); they lie rank by rank."""
    count = len(like)
    rank = ranks.here()[0] if like.shape[1] > count else 0
    return torch.arange(rank * count, (rank + 1) * count, device=like.device)


def own_labels(like: Tensor) -> Tensor:
    """(B, K) one-hot labels of `own_pairs`, in the shape, on the device and in the type of ``like``."""
    return F.one_hot(own_pairs(like), like.shape[1]).to(like.dtype)


def _parts(output: Output, scaled: bool) -> tuple[Any, ...]:
    """(products,), or (a, b[, scale[, bias]]). scaled: the scale is known without the output."""
    if isinstance(output, Tensor):
        return (output,)
    if isinstance(output, Mapping):
        for names in (("image_features", "text_features"), ("image_embeds", "text_embeds")):
            if all(output.get(name) is not None for name in names):
                if output.get("logit_scale") is None and not scaled and output.get("logits_per_image") is not None:
                    return (output["logits_per_image"],)
                return (*(output[name] for name in names), output.get("logit_scale"), output.get("logit_bias"))
    elif isinstance(output, (tuple, list)) and 2 <= len(output) <= 4:
        return tuple(output)
    what = f"a dict of {list(output)}" if isinstance(output, Mapping) else type(output).__name__
    raise TypeError(_NO_FEATURES.format(what))
