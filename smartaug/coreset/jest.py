"""JEST: of a large batch of pairs, the part that is learned from most when it is a batch together.

What: a pair is worth the model's loss on it less that of a reference model: what is not known yet, and can be known.
In a contrastive loss that depends on the pairs beside it, so the rows are drawn in ``chunks`` chunks, each from the
softmax of the worth of every row given the rows drawn before. For loss="sigmoid", with nll_ik of row i and column k,

    worth_i = s_ii + Σ_{k drawn} (s_ik + s_ki),   s = nll(model) − nll(reference),

and for loss="softmax" s_ii is −z_ii, and the sum ½ (log Σ_k e^{z_ik} + log Σ_k e^{z_ki}) over the drawn k, each of the
model less that of the reference. The first chunk goes by s_ii alone.

When: pairs from the web, most of them of little use, and a reference model trained on few good ones, which may be
small. Read batches of 5 times the size, and train on a fifth. On halves of digits with 40 % wrong pairs it found 44 %
of the partners, plain training 33 %, its reference 35 % (benchmarks/results/wrong_pairs.json). Cost: a forward pass of
the large batch through both models, and products of every chunk with all rows, which are never all held at once.

Reference: Evans et al., "Data curation via joint example selection further accelerates multimodal learning", 2024,
arXiv 2406.17711. The paper's own listing was not found; the rule was checked against two public versions of it: the
sums over drawn rows and columns in one for diffusion models, which divides them by their number and draws the first
chunk uniformly, and the log-sums of softmax losses in one for CLIP, which draws the first chunk in proportion to s_ii
(here by its softmax, as the later chunks), and from all ranks' rows (here each rank chooses among its own). The losses
of sigmoid pairs are those of SigLIP (Zhai et al., ICCV 2023).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .. import draws
from .._base import ranks
from .._base.contrastive import ContrastiveLoss, Towers
from .._base.names import suggest_keywords
from ..grads.pairs import towers_of
from ..grads.reference import Model, checked_model, deepcopy_but, known_model
from .checks import check_budget


class JEST:
    """Choose the rows of a large batch of pairs: ``rows = chooser(images, texts)``, called as the model is.

    * `model`: the network that the loop trains; a module, a callable returning it, or None until `bind`. It returns
      features as `smartaug.ContrastiveLoss` takes them. It is called in evaluation mode, and left as it is.
    * `reference`: a model trained on good pairs, in the same forms.
    * `fraction`: in (0, 1], the share of each batch that is chosen.
    * `chunks`: number of chunks that are drawn one after another.
    * `loss`: "softmax" (CLIP) or "sigmoid" (SigLIP), the one that the loop trains with.
    * `gain`: ≥ 0, what the worth is multiplied by; 0 draws at random, and the larger, the surer the most valuable rows.
    * `temperature`, `normalise`: as for `smartaug.ContrastiveLoss`, of both models.
    * `seed`: of the draws, with the number of the call and the rank.

    Deepcopy keeps the models by reference, pickle drops them. Raises ValueError for numbers out of range, and
    TypeError for models that are none.
    """

    @suggest_keywords
    def __init__(
        self,
        model: Model,
        reference: Model,
        fraction: float = 0.2,
        *,
        chunks: int = 16,
        loss: Literal["softmax", "sigmoid"] = "softmax",
        gain: float = 1.0,
        temperature: float | None = None,
        normalise: bool = True,
        seed: int = 0,
    ) -> None:
        if not isinstance(fraction, float) or not 0.0 < fraction <= 1.0:
            raise ValueError(f"fraction must be a float in (0, 1], the share of a batch, got {fraction!r}; write 0.2")
        if not isinstance(chunks, int) or chunks < 1:
            raise ValueError(f"chunks must be a number of chunks ≥ 1, got {chunks!r}; write chunks=16")
        if loss not in ("softmax", "sigmoid"):
            raise ValueError(f'loss must be "softmax" or "sigmoid", got {loss!r}; write loss="softmax"')
        if not gain >= 0.0:
            raise ValueError(f"gain must be a number ≥ 0, got {gain!r}; write gain=1.0")
        self._model, self._reference = checked_model(model), checked_model(reference)
        self.fraction, self.chunks, self.loss, self.gain, self.seed = fraction, chunks, loss, float(gain), seed
        self._reads = ContrastiveLoss(temperature=temperature, normalise=normalise, gather=False)
        self.step = 0  # batches seen

    @staticmethod
    def rule(
        model: Towers,
        reference: Towers,
        budget: int,
        noise: Tensor,
        loss: Literal["softmax", "sigmoid"] = "softmax",
        gain: float = 1.0,
    ) -> Tensor:
        """(budget,) int64 rows without repeats, in the order of the chunks; a pure function.

        model, reference: of the same B pairs. noise: (B, chunks) standard Gumbel draws, by which the largest sums with
        the worth are a draw without replacement. Raises ValueError unless 0 ≤ budget ≤ B.
        """
        count, chunks = noise.shape
        check_budget(budget, count)
        alone = _of_diagonal(model, reference, loss)
        given: list[Tensor] | None = None
        left = torch.ones(count, dtype=torch.bool, device=alone.device)
        rows = torch.empty(0, dtype=torch.int64, device=alone.device)
        for chunk in range(chunks):
            size = (budget * (chunk + 1)) // chunks - len(rows)
            if size == 0:
                continue
            beside = 0.0 if given is None else (given[0] - given[1]).mean(0)
            score = gain * (alone + beside) + noise[:, chunk].to(alone)
            score = score.nan_to_num(nan=-1e30, neginf=-1e30)  # rows that are not finite come last
            drawn = torch.where(left, score, -math.inf).topk(size).indices
            rows, left[drawn] = torch.cat([rows, drawn]), False
            more = [_beside(towers, drawn, loss) for towers in (model, reference)]
            join = torch.add if loss == "sigmoid" else torch.logaddexp
            given = more if given is None else [join(*both) for both in zip(given, more, strict=True)]
        return rows

    def __call__(self, *args: Any, **kwargs: Any) -> Tensor:
        """(b,) int64 rows of the batch, ascending, on its device: ``images, texts = images[rows], texts[rows]``.

        The batch is given as the models are called: by position or by keyword. At least one row is chosen, where there
        is one.
        """
        if args and kwargs:
            raise TypeError("give the batch as positional arguments or as keywords, not both: chooser(images, texts)")
        inputs: Any = kwargs or args
        towers = [towers_of(one, inputs, self._reads) for one in (self.model, self.reference)]
        first, second = (len(one.a) for one in towers)
        if first != second:
            raise ValueError(
                f"the model makes {first} pairs of the batch and the reference {second}; give both all of it"
            )
        budget = min(first, max(1, round(self.fraction * first)))
        keys = draws.key(self.seed, self.step, torch.arange(first, device="cpu"), view=ranks.here()[0])
        uniform = draws.uniform(keys, (self.chunks,), dtype=torch.float64).clamp_min(2.0**-54)
        rows = self.rule(towers[0], towers[1], budget, -(-uniform.log()).log(), self.loss, self.gain)
        self.step += 1
        return rows.sort().values

    @property
    def model(self) -> nn.Module:
        """The network that is trained; raises RuntimeError before it is known."""
        return known_model(self._model, "JEST has no model (pickling drops it); write chooser.bind(model, reference)")

    @property
    def reference(self) -> nn.Module:
        """The reference; raises RuntimeError before it is known."""
        return known_model(self._reference, "JEST has no reference model; write chooser.bind(model, reference)")

    def bind(self, model: Model, reference: Model) -> JEST:
        """Use these models from now on; returns self."""
        self._model, self._reference = checked_model(model), checked_model(reference)
        return self

    def state_dict(self) -> dict[str, int]:
        """The number of batches seen, which the draws go by."""
        return {"step": self.step}

    def load_state_dict(self, state: Mapping[str, int]) -> None:
        """Put back what `state_dict` gave."""
        self.step = state["step"]

    def __deepcopy__(self, memo: dict[int, object]) -> JEST:
        return deepcopy_but(self, memo, self.__dict__, ("_model", "_reference"))

    def __getstate__(self) -> dict[str, object]:
        return {**self.__dict__, "_model": None, "_reference": None}

    def __repr__(self) -> str:
        return f"JEST(fraction={self.fraction}, chunks={self.chunks}, loss={self.loss!r}, gain={self.gain})"


def _of_diagonal(model: Towers, reference: Towers, loss: str) -> Tensor:
    """(B,) what each row is worth without others: s_ii."""
    both = []
    for towers in (model, reference):
        product = (towers.a * towers.b).sum(1)
        own = product.to(torch.promote_types(product.dtype, torch.float32)) * towers.scale + towers.bias
        both.append(F.softplus(-own) if loss == "sigmoid" else -own)
    return both[0] - both[1]


def _beside(towers: Towers, drawn: Tensor, loss: str) -> Tensor:
    """(2, B) what the rows ``drawn`` (c,) add to each row's loss, by columns and by rows: doubled sums, or log-sums."""
    over = torch.stack([towers.products(towers.a, towers.b[drawn]), towers.products(towers.b, towers.a[drawn])])
    return 2 * F.softplus(over).sum(2) if loss == "sigmoid" else over.logsumexp(2)
