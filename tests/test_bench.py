"""``smartaug bench`` and `smartaug.bench`: figures that add up, settings that are real, loaders left alone."""

import json
import random
import time

import numpy as np
import pytest
import torch
from PIL import Image
from scipy import stats as scipy_stats
from torch import nn
from torch.utils.data import DataLoader, Dataset, IterableDataset, TensorDataset, default_collate
from torchvision.transforms import v2

import smartaug
from smartaug.cli import clock, main, named
from smartaug.cli.bench import parity, rebuilt
from smartaug.cli.bench import report as bench_report

MEAN, STD = (0.5, 0.4, 0.3), (0.2, 0.2, 0.2)


class Pictures(Dataset):
    """PIL images with a torchvision pipeline."""

    def __init__(self, size=24, transform=None):
        pixels = np.random.default_rng(0).integers(0, 256, (size, 16, 16, 3), dtype=np.uint8)
        self.images = [Image.fromarray(image) for image in pixels]
        self.transform = transform or v2.Compose(
            [
                v2.RandomHorizontalFlip(),
                v2.RandAugment(),
                v2.PILToTensor(),
                v2.ToDtype(torch.float32, scale=True),
                v2.Normalize(MEAN, STD),
            ]
        )

    def __len__(self):
        return len(self.images)

    def __getitem__(self, index):
        return self.transform(self.images[index]), index % 3


def loader(**settings):
    return DataLoader(Pictures(), **{"batch_size": 8, "shuffle": True, **settings})


@pytest.fixture(scope="module")
def measured():
    """A whole measurement, with a worker and a model, and the state of the generators before and after it."""
    torch.manual_seed(3)
    given = loader(generator=torch.Generator().manual_seed(1))
    model = nn.Sequential(nn.Flatten(), nn.Linear(3 * 16 * 16, 3), nn.BatchNorm1d(3))

    def state():
        own = torch.cat([part.flatten().float() for part in model.state_dict().values()])
        drawn = torch.get_rng_state(), given.generator.get_state(), own
        return [part.clone() for part in drawn], random.getstate(), np.random.get_state()[1].tolist()

    before = state()
    report = smartaug.bench(given, model, seconds=8, workers=[0, 1], progress=False)
    return report, before, state()


def test_every_contestant_took_its_turns(measured):
    report = measured[0]
    names = [one.name for one in report.contestants]
    assert names == ["torch, 0 workers", "torch, 1 worker", "smartaug, 0 workers", "smartaug, 1 worker"]
    assert report.own == "torch, 0 workers"
    for one in report.contestants:
        assert one.turns
        assert all(0 < rate < 1e7 for rate in one.turns.values())
        assert one.memory is None or one.memory > 2**26
    own = report.contestant(report.own)
    assert set(own.turns) <= set(report.best("smartaug").turns) | {0}
    assert report.turn_images >= report.turn_batches


def test_where_the_time_went(measured):
    report = measured[0]
    assert set(report.shares) == {"torch", "smartaug"}
    for shares in report.shares.values():
        assert sum(shares.values()) == pytest.approx(1)
        assert set(shares) <= set(clock.PARTS)
    assert max(report.shares["torch"], key=report.shares["torch"].get) == "transform"
    batched = [sum(shares.get(part, 0) for part in ("plan", "execute")) for shares in report.shares.values()]
    assert batched[0] == 0 < batched[1]
    assert report.shares["smartaug"].get("transform", 0) < report.shares["torch"]["transform"]
    assert set(report.backends) == {"torch", "numba"}


def test_images_are_the_same_and_the_model_was_measured(measured):
    report = measured[0]
    assert report.parity.same
    assert report.parity.kinds == ("float32 (3, 16, 16)",) * 2
    assert len(report.model_turns) >= 3
    assert report.bottleneck in ("loader", "model")
    assert all(rate > 0 for turns in report.training.values() for rate in turns)


def test_nothing_of_the_users_was_touched(measured):
    _, before, after = measured
    assert before[1:] == after[1:]
    assert all(torch.equal(a, b) for a, b in zip(before[0], after[0], strict=True))


def test_what_is_told(measured, tmp_path):
    report = measured[0]
    text = str(report)
    for words in ("torch, 0 workers (yours)", "where the time goes", "parity: no difference found", "to paste:"):
        assert words in text
    plain = json.loads(json.dumps(report.as_dict()))
    assert plain["gain"] == report.gain > 0
    assert plain["versions"]["torch"] == torch.__version__.partition("+")[0] or torch.__version__
    assert plain["machine"]["cores"] >= 1
    with Image.open(report.plot(tmp_path / "a.png")) as image:
        assert image.size[0] > 800
    scope = {"smartaug": smartaug, "torch": torch, "dataset": Pictures()}
    exec(report.line, scope)  # the line to paste is one that runs
    assert len(scope["loader"]) == 3


def report_of(*, torch_rate, smartaug_rate, model=(), training=None, refused=""):
    """A report of given figures, in images per second; the loader is torch's with 0 workers."""
    kinds = [("torch", torch_rate)] + ([] if refused else [("smartaug", smartaug_rate)])
    made = [bench_report.Contestant(f"{kind}, 0 workers", kind, 0, {1: rate, 2: rate}) for kind, rate in kinds]
    shares = {"smartaug": {"decode": 0.8, "execute": 0.2}}
    return bench_report.Report(
        {"processor": "", "cores": 2}, {}, 0, "cpu", "D", 10, "torch, 0 workers", made, 4, 40, shares,
        model_turns=list(model), training=training or {}, refused=refused,
    )  # fmt: skip


def test_the_answer_may_be_no():
    told = " ".join(report_of(torch_rate=100, smartaug_rate=300).verdict())
    assert "smartaug loads ×3 as fast" in told
    assert "more than 100 ms a batch hides" in told
    told = " ".join(report_of(torch_rate=100, smartaug_rate=102).verdict())
    assert "will not make loading faster" in told
    assert "80 % of its work is decode" in told
    training = {"torch, 0 workers": [20.0], "smartaug, 0 workers": [20.5]}
    told = " ".join(report_of(torch_rate=100, smartaug_rate=300, model=[21], training=training).verdict())
    assert "The model is the bottleneck" in told
    assert "changing the loader will not help" in told
    told = " ".join(report_of(torch_rate=100, smartaug_rate=0, model=[500], refused="Nothing can be lifted").verdict())
    assert "smartaug will not help here as it stands. Nothing can be lifted" in told
    assert "The loader is the bottleneck" in told


def test_a_loader_with_nothing_to_lift_gets_an_answer():
    data = TensorDataset(torch.rand(8, 5), torch.arange(8))

    def collate(samples):
        return default_collate(samples)

    report = smartaug.bench(DataLoader(data, 4, collate_fn=collate), seconds=1, workers=[0], progress=False)
    assert report.refused
    assert "will not help here" in str(report)
    assert "torch.utils.data.DataLoader(dataset, batch_size=4, num_workers=0, collate_fn=collate_fn)" in report.line


def test_a_collate_function_that_hinders_lifting_is_named():
    def collate(samples):
        return torch.stack([image.float() * 2 for image, _ in samples]), torch.tensor([label for _, label in samples])

    report = smartaug.bench(loader(collate_fn=collate), seconds=1, workers=[0], progress=False)
    assert "collate function works on the images" in report.refused


def test_ctrl_c_keeps_what_was_measured():
    calls = []

    def step(batch):
        calls.append(len(batch))
        raise KeyboardInterrupt

    report = smartaug.bench(loader(), step, seconds=2, workers=[0], progress=False)
    assert report.interrupted
    assert calls
    assert all(one.turns for one in report.contestants)
    assert "INTERRUPTED" in str(report)


class Stream(IterableDataset):
    def __iter__(self):
        return iter([torch.zeros(3, 4, 4)])


@pytest.mark.parametrize(
    ("given", "settings", "words"),
    [
        (lambda: 3, {}, "needs a torch.utils.data.DataLoader or a dataset"),
        (lambda: (loader(), loader()), {}, r"several; name a function .*\[0\]"),
        (lambda: {"fit": Pictures()}, {}, r"several; name a function .*\['fit'\]"),
        (lambda: DataLoader(Stream()), {}, "got an IterableDataset"),
        (lambda: loader(batch_size=None, shuffle=False), {}, "batch_size=None"),
        (lambda: smartaug.DataLoader(Pictures(), 4, lift=True), {}, "without lift="),
        (loader, {"seconds": 0}, "seconds must be a positive"),
        (loader, {"workers": [-1]}, "workers must be numbers"),
        (loader, {"model": 3}, "model must be a module or a function"),
        (lambda: DataLoader(Pictures(3), 8, drop_last=True), {}, "no batch"),
    ],
)
def test_what_cannot_be_measured_is_refused(given, settings, words):
    with pytest.raises((TypeError, ValueError), match=words):
        smartaug.bench(given(), progress=False, **{"seconds": 1, **settings})


def test_batches_are_those_of_the_users_sampler_over_and_over():
    given = loader(generator=torch.Generator().manual_seed(5))
    lists = rebuilt.index_lists(given, 7)
    assert len(lists) == 7
    assert all(sorted(i for one in part for i in one) == list(range(24)) for part in (lists[:3], lists[3:6]))
    assert rebuilt.index_lists(given, 3) == lists[:3]  # the generator stands where it stood
    assert [list(batch) for batch in given.batch_sampler] == lists[:3]


def test_the_test_of_parity_agrees_with_scipy():
    random_numbers = np.random.default_rng(0)
    for n, m, shift in ((200, 300, 0.0), (150, 150, 0.2), (80, 400, 1.0)):
        a, b = random_numbers.normal(0, 1, n), random_numbers.normal(shift, 1, m)
        distance, p = parity.kolmogorov_smirnov(torch.tensor(a), torch.tensor(b))
        theirs = scipy_stats.ks_2samp(a, b, method="asymp")
        assert distance == pytest.approx(theirs.statistic)
        assert p == pytest.approx(theirs.pvalue, rel=0.35, abs=1e-3)  # Stephens' correction is the difference


def test_parity_finds_what_is_different_and_nothing_else():
    generator = torch.Generator().manual_seed(0)
    images = torch.rand(600, 3, 6, 6, generator=generator)
    ours = torch.rand(600, 3, 6, 6, generator=generator)
    kinds = ("float32 (3, 6, 6)",) * 2
    assert parity.compared(parity.figures(images), parity.figures(ours), kinds).same
    for changed in (ours + 0.05, ours * 1.15, torch.cat([ours[:, :1] * 0.8, ours[:, 1:]], 1)):
        assert not parity.compared(parity.figures(images), parity.figures(changed), kinds).same
    other = parity.compared(parity.figures(images), parity.figures(ours), (kinds[0], "uint8 (3, 6, 6)"))
    assert not other.same
    assert "different: torch's loader gives float32" in other.text()


def test_the_clock_tells_parts_from_each_other():
    class Slow(Pictures):
        def __getitem__(self, index):
            until = time.perf_counter() + 0.01
            while time.perf_counter() < until:
                pass
            return torch.zeros(3, 4, 4), 0

    with clock.Clock() as watch:
        for _ in DataLoader(Slow(40), batch_size=8):
            until = time.perf_counter() + 0.08
            while time.perf_counter() < until:
                pass
    shares = watch.shares()
    assert sum(shares.values()) == pytest.approx(1)
    assert shares["fetch"] > 0.2
    assert shares["loop"] > 0.2
    assert shares["fetch"] + shares["loop"] > 0.8
    assert clock.Clock().shares() == {}


SCRIPT = """
import torch
from torch.utils.data import DataLoader, TensorDataset
print("imported")
def make_loader(): return DataLoader(TensorDataset(torch.zeros(8, 3, 4, 4), torch.arange(8)), 4)
class Holder: loader = make_loader()
value = 3
"""


def test_objects_are_found_by_name(tmp_path):
    script = tmp_path / "bench_script.py"
    script.write_text(SCRIPT)
    for name in ("make_loader", "Holder.loader"):
        text = f"{script}:{name}"
        assert isinstance(named.made(named.named(text, "bench"), "bench", text), DataLoader)
    assert named.named("torch.nn:Linear", "--model") is nn.Linear
    for text, words in (
        (f"{script}:make_loadr", "has no make_loadr; did you mean make_loader"),
        (f"{tmp_path}/none.py:a", "no such file"),
        ("torch.nothing_here:a", "there is no module"),
        (str(script), "name a file or a module"),
    ):
        with pytest.raises((FileNotFoundError, ValueError), match=words):
            named.named(text, "bench")
    with pytest.raises(ValueError, match="is a int"):
        named.made(3, "bench", "a:value")


def test_the_command(tmp_path, capsys):
    (tmp_path / "photos").mkdir()
    for number in range(6):
        pixels = np.random.default_rng(number).integers(0, 256, (20, 20, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / "photos" / f"{number}.png")
    script = tmp_path / "own_transform.py"
    script.write_text(
        "from torchvision.transforms import v2\n"
        "own = v2.Compose([v2.Resize((8, 8)), v2.RandomHorizontalFlip(), v2.PILToTensor()])\n"
    )
    arguments = ["--data", str(tmp_path / "photos"), "--transform", f"{script}:own", "--batch-size", "3"]
    arguments += [
        "--seconds",
        "2",
        "--workers",
        "0",
        "--json",
        str(tmp_path / "a.json"),
        "--out",
        str(tmp_path / "a.png"),
    ]
    assert main.main(["bench", *arguments]) == 0
    assert "Flat, 6 samples, batches of 3" in capsys.readouterr().out
    assert json.loads((tmp_path / "a.json").read_text())["contestants"][0]["turns"]
    assert (tmp_path / "a.png").stat().st_size > 10_000


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "name one of the two"),
        (["a.py:b", "--data", "c"], "name one of the two"),
        (["a.py:b", "--transform", "c:d"], "--transform goes with --data"),
        (["torch.nn:functional"], "name a loader, a dataset"),
        (["math:inf"], "is a float"),
        (["--data", "/nowhere"], "there is no such folder"),
        (["a.py:b", "--json", "/nowhere/a.json"], "there is no folder"),
    ],
)
def test_mistakes_are_told_in_one_line(arguments, words, capsys):
    assert main.main(["bench", *arguments]) == 1
    told = capsys.readouterr().err
    assert words in told
    assert told.count("\n") == 1
