"""JEST: of a large batch of pairs, the part that is learned from most when it is a batch together.

What: a pair is worth the model's loss on it less that of a reference model: what is not known yet, and can be known.
In a contrastive loss that depends on the pairs beside it, so the rows are drawn in ``chunks`` chunks, each from the
softmax of the worth of every row given the rows drawn before. For loss="sigmoid", with nll_ik of row i and column k,

    worth_i = s_ii + Σ_{k drawn} (s_ik + s_ki),   s = nll(model) − nll(reference),

and for loss="softmax" s_ii is −z_ii, and the sum ½ (log Σ_k e^{z_ik} + log Σ_k e^{z_ki}) over the drawn k, each of the
model less that of the reference. The first chunk goes by s_ii alone.

When: pairs from the web, most of them of little use, and a reference model trained on few good ones, which may be
small. Read batches of 5 times the size, and train on a fifth. On halves of digits with 40 % wrong pairs it found 44 %
of the partners, plain training 34 %, its reference 36 % (benchmarks/results/wrong_pairs.json). Cost: a forward pass of
the large batch through both models, and products of every chunk with all rows, which are never all held at once; with
several ranks, one gather of the features of each chunk.

Reference: Evans et al., "Data curation via joint example selection further accelerates multimodal learning", 2024,
arXiv 2406.17711. The paper's own listing was not found; the rule was checked against two public versions of it: the
sums over drawn rows and columns in one for diffusion models, which divides them by their number and draws the first
chunk uniformly, and the log-sums of softmax losses in one for CLIP, which draws the first chunk in proportion to s_ii
(here by its softmax, as the later chunks), and from the rows of all ranks together. Here each rank draws its share of
every chunk from its own rows, so that none moves to another and all hand out as many, given the rows that all ranks
have drawn before, which are what the loss will tell a pair apart from. The losses of sigmoid pairs are those of SigLIP
(Zhai et al., ICCV 2023).
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
from .._base.leaves import rows_of
from .._base.names import suggest_keywords
from ..grads.pairs import towers_of
from ..grads.reference import Model, checked_model, deepcopy_but, known_model
from .checks import check_budget


class JEST:
    """``coreset=smartaug.coreset.JEST(model, reference, 0.2)``: the loader reads batches of ``batch_size`` pairs, and
    hands out a fifth of each. By hand: ``rows = chooser(images, texts)``, called as the model is.

    * `model`: the network that the loop trains; a module, a callable returning it, or None until `bind`. It returns
      features as `smartaug.ContrastiveLoss` takes them. It is called in evaluation mode, and left as it is.
    * `reference`: a model trained on good pairs, in the same forms.
    * `fraction`: in (0, 1], the share of each batch that is chosen.
    * `chunks`: number of chunks that are drawn one after another.
    * `loss`: "softmax" (CLIP) or "sigmoid" (SigLIP), the one that the loop trains with.
    * `gain`: ≥ 0, what the worth is multiplied by; 0 draws at random, and the larger, the surer the most valuable rows.
    * `temperature`, `normalise`: as for `smartaug.ContrastiveLoss`, of both models.
    * `gather`: as for `smartaug.ContrastiveLoss`: whether a row is worth what it is beside the rows drawn on all ranks,
      each of which draws as many, from its own; every rank then needs as many pairs (``drop_last=True``).
    * `seed`: of the draws; in a loader with its seed, the epoch and the sample, else with the number of the call and
      the rank.

    In a loader it chooses after ``augment=`` and before ``reweight=``, at hand-over, with the models as they are then;
    name what the model takes, ``inputs=[0, 1]``. What is read is what the user's own sampler draws (under several ranks
    a `torch.utils.data.DistributedSampler`, as in torch's loader), in as many batches. The rows keep their order, their
    indices and their augmentation, and their choice is a function of (seed, epoch, the samples of the batch, the
    models), so a resumed pass repeats it. ``loader.plain()`` and ``loader.show()`` choose nothing.

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
        gather: bool = True,
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
        self.gather = bool(gather)
        self.step = 0  # calls by hand
        self._sums = torch.zeros(4, dtype=torch.float64, device="cpu")  # pairs read and chosen, and what they are worth

    @staticmethod
    def rule(
        model: Towers,
        reference: Towers,
        budget: int,
        noise: Tensor,
        loss: Literal["softmax", "sigmoid"] = "softmax",
        gain: float = 1.0,
        *,
        gather: bool = False,
    ) -> Tensor:
        """(budget,) int64 rows without repeats, in the order of the chunks; a pure function.

        model, reference: of the same B pairs. noise: (B, chunks) standard Gumbel draws, by which the largest sums with
        the worth are a draw without replacement. gather: whether the rows drawn on other ranks count as drawn; then all
        ranks must call it, with the same budget. Raises ValueError unless 0 ≤ budget ≤ B.
        """
        count, chunks = noise.shape
        check_budget(budget, count)
        alone = _of_diagonal(model, reference, loss)
        given: list[Tensor] | None = None
        parts = [model.a, model.b, reference.a, reference.b]
        whole, widths = torch.cat(parts, 1), [part.shape[1] for part in parts]
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
            if len(rows) == budget:
                break
            near = (ranks.gathered(whole[drawn]) if gather else whole[drawn]).split(widths, 1)
            more = [_beside(model, near[0], near[1], loss), _beside(reference, near[2], near[3], loss)]
            join = torch.add if loss == "sigmoid" else torch.logaddexp
            given = more if given is None else [join(*pair) for pair in zip(given, more, strict=True)]
        return rows

    def __call__(self, *args: Any, **kwargs: Any) -> Tensor:
        """(b,) int64 rows of the batch, ascending, on its device: ``images, texts = images[rows], texts[rows]``.

        The batch is given as the models are called: by position or by keyword. At least one row is chosen, where there
        is one.
        """
        if args and kwargs:
            raise TypeError("give the batch as positional arguments or as keywords, not both: chooser(images, texts)")
        keys = draws.key(
            self.seed, self.step, torch.arange(rows_of(kwargs or args), device="cpu"), view=ranks.here()[0]
        )
        rows = self._chosen(kwargs or args, keys)
        self.step += 1
        return rows

    def choose_rows(self, inputs: Any, key: Tensor) -> Tensor:
        """The same for a batch of a loader: ``inputs`` are what the models are called with, ``key`` (B,) int64 the
        streams of the rows' draws.
        """
        return self._chosen(inputs, draws.fold(key, self.seed))

    def _chosen(self, inputs: Any, keys: Tensor) -> Tensor:
        towers = [towers_of(one, inputs, self._reads) for one in (self.model, self.reference)]
        first, second = (len(one.a) for one in towers)
        if first != second:
            raise ValueError(
                f"the model makes {first} pairs of the batch and the reference {second}; give both all of it"
            )
        budget = min(first, max(1, round(self.fraction * first)))
        if first != len(keys):
            raise ValueError(f"the models make {first} pairs of a batch of {len(keys)}; let them make one of each row")
        uniform = draws.uniform(keys, (self.chunks,), dtype=torch.float64).clamp_min(2.0**-54)
        noise, gather = -(-uniform.log()).log(), self.gather and ranks.here()[1] > 1
        low, high = (
            ranks.largest(torch.tensor([-budget, budget], device="cpu")).tolist() if gather else (-budget, budget)
        )
        if -low != high:
            raise ValueError(
                f"all ranks must choose as many pairs, which are told apart from each other, and they choose {-low} to "
                f"{high}; write drop_last=True, or gather=False where each rank's pairs are compared by themselves"
            )
        rows = self.rule(towers[0], towers[1], budget, noise, self.loss, self.gain, gather=gather).sort().values
        worth = _of_diagonal(towers[0], towers[1], self.loss).double().nan_to_num(0.0, 0.0, 0.0)
        sums = torch.stack([worth.sum(), worth[rows].sum()]).cpu()
        self._sums += torch.cat([torch.tensor([first, budget], dtype=torch.float64, device="cpu"), sums])
        return rows

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

    def stats(self) -> dict[str, float]:
        """Of this rank: ``read`` and ``chosen``, numbers of pairs; ``worth_read`` and ``worth_chosen``, the mean s_ii.

        Both means are 0 before the first batch; values that are not finite count as 0.
        """
        read, chosen, worth, worth_chosen = self._sums.tolist()
        means = {"worth_read": worth / max(read, 1), "worth_chosen": worth_chosen / max(chosen, 1)}
        return {"read": int(read), "chosen": int(chosen), **means}

    def explain(self) -> list[tuple[str, str, str]]:
        """Rows for the loader's table."""
        why = f"{self.fraction:.0%} of each batch, in {self.chunks} chunks, by loss less that of the reference"
        return [("coreset: JEST", "at hand-over", why)]

    def state_dict(self, record: bool = True) -> dict[str, Any]:
        """The number of calls by hand, which their draws go by, and the figures. record: not used, there is none."""
        return {"step": self.step, "sums": self._sums.clone()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Put back what `state_dict` gave."""
        self.step = state["step"]
        self._sums = state.get("sums", torch.zeros_like(self._sums)).clone()

    def __deepcopy__(self, memo: dict[int, object]) -> JEST:
        return deepcopy_but(self, memo, self.__dict__, ("_model", "_reference"))

    def __getstate__(self) -> dict[str, object]:
        return {**self.__dict__, "_model": None, "_reference": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        earlier = {"gather": False, "_sums": torch.zeros(4, dtype=torch.float64, device="cpu")}
        self.__dict__.update({**earlier, **state})

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


def _beside(towers: Towers, a: Tensor, b: Tensor, loss: str) -> Tensor:
    """(2, B) what rows with the features a, b (c, d) add to each row's loss, by columns and by rows: doubled sums, or
    log-sums.
    """
    over = torch.stack([towers.products(towers.a, b.to(towers.b)), towers.products(towers.b, a.to(towers.a))])
    return 2 * F.softplus(over).sum(2) if loss == "sigmoid" else over.logsumexp(2)
