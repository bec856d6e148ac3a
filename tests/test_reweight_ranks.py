"""Two gloo ranks weigh samples as one process with both halves of the batch would, and keep the same policy."""

import os
import subprocess
import sys
from pathlib import Path

import torch

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
    assert first["refusals"] == second["refusals"]
    unequal, products = first["refusals"]
    assert "as many rows, and they have [2, 3]; write drop_last=True" in unequal
    assert "ContrastiveLoss(gather=False)" in products
    for name in reweight_ranks.PAIRED:
        of_pairs(name, first[f"{name} of pairs"], second[f"{name} of pairs"])


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
