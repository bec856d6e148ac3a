"""The programs of the evidence divide, spoil and compare what their tables say they do."""

import json
import sys

import pytest
import torch

from benchmarks import harness, learning, real_data, real_sets, real_ways, wrong_pairs

ROWS = 120


@pytest.fixture
def source(tmp_path):
    """A table of 120 rows in which the first column tells the class, read as the program reads its own."""
    draw = torch.Generator().manual_seed(0)
    values, words = torch.randn(ROWS, 3, generator=draw), ("red", "green")
    lines = [f"{a:.4f},{b:.4f},{words[row % 2]},{'yes' if a > 0 else 'no'}" for row, (a, b, _) in enumerate(values)]
    (tmp_path / "breast-cancer.csv").write_text("\n".join(lines))
    return real_data.sets(tmp_path)["breast-cancer"]


def test_parts_of_a_seed_share_no_row(source):
    data = real_data.drawn(source, real_data.REGIMES["augmented"], seed=1)
    parts = [data.trusted, data.choosing, data.test, data.others]
    assert [len(part[1]) for part in parts] == [18, 12, 85, ROWS - 18 - 12 - 85]
    rows = torch.cat([part[0] for part in parts])
    assert len(rows.unique(dim=0)) == ROWS
    assert bool((torch.cat([part[0] for part in parts[3:]]).mean(0).abs() < 1e-5).all())  # scaled by the others alone
    assert torch.equal(data.others[1], data.right)


@pytest.mark.parametrize(("name", "share"), [("half wrong", 0.5), ("generated", 0.4)])
def test_wrong_labels_are_those_of_the_next_class(name, share):
    draw = torch.Generator().manual_seed(0)
    trusted = torch.randn(20, 3, 32, 32, generator=draw), torch.arange(20) % 10
    others = torch.zeros(4000, 3, 32, 32), torch.arange(4000) % 10
    (images, given), right = real_data.REGIMES[name].spoil(trusted, others, draw)
    apart = (given - right) % 10
    assert len(images) == len(given)
    assert set(apart.tolist()) == {0, 1}
    assert float(apart.float().mean()) == pytest.approx(share, abs=0.05)


def test_generated_pictures_are_their_sources_moved():
    draw = torch.Generator().manual_seed(0)
    trusted = torch.randn(10, 3, 32, 32, generator=draw), torch.arange(10)
    (images, _), right = real_data.generated(trusted, trusted, draw)
    spectrum = torch.fft.fft2(images).abs().flatten(1)  # which no move changes, and a mirror only turns round
    whole = [torch.fft.fft2(one).abs().flatten(1) for one in (trusted[0], trusted[0].flip(3))]
    near = torch.stack([torch.cdist(spectrum, one) for one in whole]).amin(0).argmin(1)
    assert torch.equal(near, right)


def test_a_patch_tells_the_class_of_most_others():
    draw = torch.Generator().manual_seed(0)
    before = torch.zeros(2000, 3, 32, 32)
    others = before, torch.arange(2000) % 10
    (images, given), right = real_data.spurious(others, others, draw)
    assert torch.equal(given, others[1])
    assert torch.equal(right, others[1])
    assert not before.any()
    assert (images != 0).flatten(1).sum(1).tolist() == [3 * 3 * 3] * 2000
    places = (images[:, 0] != 0).flatten(1).float().argmax(1).tolist()
    usual = [max(set(own), key=own.count) for own in (places[label::10] for label in range(10))]
    assert len(set(usual)) == 10
    told = [place == usual[row % 10] for row, place in enumerate(places)]
    assert sum(told) / 2000 == pytest.approx(0.95 + 0.05 / 10, abs=0.02)


def test_classes_take_turns():
    labels = torch.arange(500) % 10
    rows = real_data.in_turn(labels, 60, torch.Generator().manual_seed(0))
    assert len(set(rows.tolist())) == 60
    assert labels[rows].tolist() == [*range(10)] * 6


def test_mixed_rows_are_compared_with_the_same_mixing():
    rivals, methods = real_ways.ways("augmented")
    for name, way in {**rivals, **methods}.items():
        assert way.beside in rivals
        if name in methods and "MixUp" in name:
            assert way.beside == "MixUp + trusted × k"
        if name in methods and "CutMix" in name:
            assert way.beside == "CutMix + trusted × k"


def test_a_table_of_the_program(source, monkeypatch):
    base, mixed = "plain + trusted × k", "CutMix + trusted × k"
    methods = {"CutMix, SAFLEX, train_on_val=k": real_ways.AUGMENTED_METHODS["CutMix, SAFLEX, train_on_val=k"]}
    rivals = {name: real_ways.AUGMENTED_RIVALS[name] for name in (base, mixed)}
    monkeypatch.setattr(real_ways, "ways", lambda regime: (rivals, methods))
    made = real_sets.table(source, "augmented", seeds=2)
    assert list(made) == [base, mixed, "(picked rival)", *methods]
    assert made[base]["accuracy"]["mean"] > 80  # one column tells the class
    ours = made["CutMix, SAFLEX, train_on_val=k"]
    apart = ours["auc"]["mean"] - made[mixed]["auc"]["mean"]
    assert ours["auc, paired"]["mean"] == pytest.approx(apart, abs=0.02)
    assert ours["cost"]["median"] > made[base]["cost"]["median"] == 1


def test_ten_classes_have_the_mean_auc_of_each():
    labels = torch.arange(30) % 3
    right = torch.nn.functional.one_hot(labels, 3).float() * 0.7 + 0.1
    assert real_ways.figures(right, labels) == (100.0, 100.0)
    assert real_ways.figures(right.roll(1, 1), labels)[0] == 0.0
    assert real_ways.figures(torch.full((30, 3), 1 / 3), labels)[1] == 50.0


def test_wrong_pairs_costs_are_of_the_same_seed():
    runs = {
        wrong_pairs.PLAIN: [wrong_pairs.Run(30.0, 1.0, 0.1), wrong_pairs.Run(32.0, 2.0, 0.2)],
        wrong_pairs.BASE: [wrong_pairs.Run(40.0, 3.0, 0.1), wrong_pairs.Run(41.0, 4.0, 0.4)],
    }
    rows = wrong_pairs.table(runs)
    assert rows[wrong_pairs.BASE]["cost"] == {"median": 2.5, "min": 2.0, "max": 3.0, "n": 2}
    assert rows[wrong_pairs.BASE]["step"]["median"] == 1.5
    assert rows[wrong_pairs.PLAIN]["paired"] == {"mean": -9.5, "sd": 0.71, "n": 2, "better": 0}


def test_a_row_that_is_run_alone_has_its_cost(tmp_path, monkeypatch):
    monkeypatch.setattr(harness, "RESULTS", tmp_path)
    before = {"results": {"digits, clean": {"SAFLEX": {"accuracy": {"mean": 1.0}}}}, "date": "2026-01-01"}
    (tmp_path / "learning.json").write_text(json.dumps(before))
    words = "--only;digits, clean;--ways;label smoothing 0.1;--seeds;1;--epochs;1"
    monkeypatch.setattr(sys, "argv", ["learning", *words.split(";")])
    learning.main()
    rows = json.loads((tmp_path / "learning.json").read_text())["results"]["digits, clean"]
    assert set(rows) == {"plain", "label smoothing 0.1", "SAFLEX"}
    assert rows["label smoothing 0.1"]["cost"]["mean"] > 0
    assert rows["SAFLEX"]["date"] == "2026-01-01"
