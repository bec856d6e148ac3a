"""Two gloo ranks weigh samples as one process with both halves of the batch would, and keep the same policy."""

import os
import subprocess
import sys
from pathlib import Path

import torch

from smartaug import draws
from smartaug.pipeline.choosing import _STREAM
from tests import reference_contrastive as reference
from tests import reweight_ranks


def test_the_number_of_ranks_changes_no_weight(tmp_path):
    root = Path(__file__).parents[1]
    environment = {**os.environ, "PYTHONPATH": str(root), "OMP_NUM_THREADS": "1"}
    running = [
        subprocess.Popen(
            [sys.executable, "-m", "tests.reweight_ranks", str(rank), str(tmp_path)],
            cwd=root,
            env=environment,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]
    errors = [process.communicate(timeout=120)[1] for process in running]
    assert [process.returncode for process in running] == [0, 0], errors[0][-3000:] + errors[1][-3000:]
    first, second = (torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in range(2))
    for name in reweight_ranks.METHODS:
        alone = reweight_ranks.verdicts(name, lambda model: model, 0, 1)
        for part in ("weights", "labels"):
            for a, b, whole in zip(first[name][part], second[name][part], alone[part], strict=True):
                assert torch.allclose(torch.cat([a, b]), whole, atol=1e-9), name
        for a, b, whole in zip(first[name]["policy"], second[name]["policy"], alone["policy"], strict=True):
            assert torch.equal(a, b), name
            assert torch.allclose(a, whole, atol=1e-6), name
    whole = reweight_ranks.levels(0, 1)
    assert whole.isfinite().tolist() == [True] * 10 + [False] * 2
    assert torch.equal(first["levels"].nan_to_num(-1), whole.nan_to_num(-1))
    assert torch.equal(second["levels"].nan_to_num(-1), whole.nan_to_num(-1))
    assert first["refusals"] == second["refusals"]
    unequal, products = first["refusals"]
    assert "as many rows, and they have [2, 3]; write drop_last=True" in unequal
    assert "ContrastiveLoss(gather=False)" in products
    of_chosen(first["chosen"], second["chosen"])
    for name in reweight_ranks.PAIRED:
        of_pairs(name, first[f"{name} of pairs"], second[f"{name} of pairs"])


def of_chosen(first, second):
    """Each rank draws from its own rows, given the rows that both drew before, or with gather=False its own alone."""
    torch.manual_seed(11)
    image, tokens = torch.randn(24, 5).double(), torch.randint(0, 9, (24, 2))
    for gather in (True, False):
        _, *models = reweight_ranks.chooser(gather)
        for step in range(2):
            read = [list(range(12 * step + rank, 12 * step + 12, 2)) for rank in range(2)]
            wanted = []
            for part in [[*read[0], *read[1]]] if gather else read:
                outputs = [model(image[part], tokens[part]) for model in models]
                unit = torch.nn.functional.normalize
                products = [(scale * unit(a) @ unit(b).T).detach() for a, b, scale in outputs]
                key = draws.fold(draws.key(3, 0, torch.tensor(part), view=_STREAM), 0)
                noise = -(-draws.uniform(key, (2,), dtype=torch.float64).log()).log()
                made = reference.jest(*products, [1, 2], noise, "softmax", 2 if gather else 1)
                wanted += [sorted(part[row] for row in rows) for rows in (made if gather else [made])]
            assert [rank["gathered" if gather else "alone"][step] for rank in (first, second)] == wanted
    assert first["gathered"] != first["alone"] or second["gathered"] != second["alone"]
    assert first["unequal"] == second["unequal"]
    assert "they choose 2 to 3; write drop_last=True" in first["unequal"]


def of_pairs(name, first, second):
    """The pairs of both ranks are compared, as one process compares them."""
    alone = reweight_ranks.pairs_weighed(name, lambda model: model, 0, 1)
    near = 1e-5 if "at loss" in name or "without" in name else 1e-9
    for part in ("weights", "labels"):
        assert len(first[part]) == len(alone[part])
        for a, b, whole in zip(first[part], second[part], alone[part], strict=True):
            assert torch.allclose(torch.cat([a, b]), whole, atol=near), (name, part)
    for a, b, whole in zip(first["losses"], second["losses"], alone["losses"], strict=True):
        assert torch.allclose((a + b) / 2, whole, atol=near), name
    for rank in (first, second):
        assert torch.allclose(rank["gradient"], alone["gradient"], atol=near), name
