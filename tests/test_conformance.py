"""The suites of `conformance` over each family, and over the examples of CONTRIBUTING, which are run as they stand."""

import ast
import importlib.util
import inspect
import pkgutil
import random
import re
import sys
import types
from functools import partial
from pathlib import Path
from typing import Protocol

import pytest
import torch
from torchvision import transforms as v1
from torchvision.transforms import v2

import smartaug
from smartaug import coreset, reweight
from smartaug.augment import magnitudes
from smartaug.lift import registry
from smartaug.pipeline.stages import flattened
from smartaug.reweight import Learner
from tests import conformance, test_backends, test_row_operations
from tests.lifting import as_often, pictures

GUIDE = (Path(__file__).parent.parent / "CONTRIBUTING.md").read_text()


def half(B, log_p, batch):
    """A rule that halves the weight of samples whose label is not the likeliest."""
    right = log_p.argmax(1) == batch.soft.argmax(1) if log_p.numel() else torch.ones(len(log_p), dtype=torch.bool)
    return 0.5 + 0.5 * right.to(log_p.dtype), None


SHORT = {"validation_batch": 6}
REWEIGHTERS = {
    "SAFLEX": [
        lambda model, held: reweight.SAFLEX(model, held, **SHORT),
        lambda model, held: reweight.SAFLEX(model, held, every=2, ema=0.5, method="difference", **SHORT),
        lambda model, held: reweight.SAFLEX(model, held, scope="head", statistics="batch", **SHORT),
    ],
    "ByRule": [lambda model, held: reweight.ByRule(half, model, held, **SHORT)],
    "LearningToReweight": [lambda model, held: reweight.LearningToReweight(model, held, **SHORT)],
    "LiLAW": [
        lambda model, held: reweight.LiLAW(model, held, lr=0.5, **SHORT),
        lambda model, held: reweight.LiLAW(model, held, every=2, statistics="batch", warmup=1, **SHORT),
    ],
    "MetaAugment": [
        lambda model, held: reweight.MetaAugment(model, held, operations=("Identity", "Erase"), num_ops=1, **SHORT)
    ],
    "MetaWeightNet": [lambda model, held: reweight.MetaWeightNet(model, held, **SHORT)],
    "SoftAugmentation": [lambda model, held: reweight.SoftAugmentation(3)],
    "Uniform": [lambda model, held: reweight.Uniform()],
    "UniformWeights": [lambda model, held: reweight.UniformWeights()],
}
MAGNITUDES = {
    "EntAugment": [lambda: magnitudes.EntAugment(warmup=0), magnitudes.EntAugment],
    "SRA": [magnitudes.SRA, lambda: magnitudes.SRA(explore=0.0, warmup=2)],
}
PROTOCOLS_AND_SHELLS = {"Gradients", "Learner", "MetaLearner", "Reweighting", "Rule", "split_validation"}
CRITERIA = {
    "AugmentationVariance": [lambda size: coreset.AugmentationVariance(torch.linspace(0, 1, size))],
    "FacilityLocation": [
        lambda size: coreset.FacilityLocation(),
        lambda size: coreset.FacilityLocation("exp", method="stochastic", backend="torch"),
    ],
    "MaxLoss": [lambda size: coreset.MaxLoss(), lambda size: coreset.MaxLoss(smallest=True)],
    "OrderDP": [lambda size: coreset.OrderDP(), lambda size: coreset.OrderDP(top=1.0)],
    "RandomSubset": [lambda size: coreset.RandomSubset()],
    "Uniform": [lambda size: coreset.Uniform()],
}


def cases(rows):
    return [pytest.param(make, id=f"{name}{n}") for name, makers in rows.items() for n, make in enumerate(makers)]


def test_every_method_has_a_row():
    for table, rows, package, others in (
        ("REWEIGHTERS", REWEIGHTERS, reweight, PROTOCOLS_AND_SHELLS),
        ("MAGNITUDES", MAGNITUDES, magnitudes, {"SampleMagnitudes"}),
        ("CRITERIA", CRITERIA, coreset, {"Coreset", "InfoBatch", "RePB", "AlignPrune", "JEST", "embed_pass"}),
    ):
        lacking = set(package.__all__) - others - set(rows)
        assert not lacking, f"write a row in {table} of tests/test_conformance.py for {', '.join(sorted(lacking))}"
        assert set(rows) <= set(package.__all__)
        untold = [name for name in rows if f"`{name}`" not in package.__doc__]
        assert not untold, f"give {', '.join(untold)} a place in the table of {package.__file__}"


def selects(kind):
    """Whether a class is a criterion: called with (embedding, budget, generator)."""
    return [*inspect.signature(kind.__call__).parameters][1:3] == [
        "embedding",
        "budget",
    ] and Protocol not in kind.__bases__


FAMILIES = {
    "smartaug/augment/ops": lambda kind: issubclass(kind, smartaug.Augmentation),
    "smartaug/augment/magnitudes": lambda kind: issubclass(kind, magnitudes.SampleMagnitudes),
    "smartaug/reweight": lambda kind: issubclass(kind, reweight.Reweighting),
    "smartaug/coreset": selects,
}


@pytest.mark.parametrize("folder", FAMILIES)
def test_every_method_is_named(folder):
    """A public class in a file of the folder that is one of the family is in the folder's ``__all__``."""
    package = importlib.import_module(folder.replace("/", "."))
    for file in pkgutil.iter_modules(package.__path__, package.__name__ + "."):
        classes = inspect.getmembers(importlib.import_module(file.name), inspect.isclass)
        for name, kind in classes:
            base = name.startswith("_") or kind.__subclasses__()
            if kind.__module__ == file.name and not base and FAMILIES[folder](kind):
                assert name in package.__all__, f"name {name} in {folder}/__init__.py (import, __all__, table)"


@pytest.mark.parametrize("make", cases(REWEIGHTERS))
def test_reweighters(make):
    conformance.reweighter(make)


@pytest.mark.parametrize("make", cases(MAGNITUDES))
def test_magnitudes(make):
    conformance.magnitudes(make)


@pytest.mark.parametrize("size", [0, 1, 10, 33])
@pytest.mark.parametrize("make", cases(CRITERIA))
def test_criteria(make, size):
    conformance.criterion(make, size)


# --- dense targets ---------------------------------------------------------------------------------------------------

DENSE = test_backends.ROWS | {"CopyPaste": [smartaug.CopyPaste]}
DENSE |= {name: test_row_operations.ROWS[name] for name in test_backends.NEED_ROWS}
ALL = set(conformance.KINDS)
REFUSE = {"AugMix": ALL, "MixUp": {"mask"}, "SMOTE": ALL, "SwapFeatures": ALL}  # what they blend, or do not take


def refused_by(stage, form):
    """The kinds of targets that a stage refuses beside images; all else follows, or fails the suite."""
    parts = flattened([stage])
    learned = any(isinstance(getattr(part, "magnitude", None), magnitudes.SampleMagnitudes) for part in parts)
    nameless = form == "tuple" and any(isinstance(part, smartaug.CopyPaste) for part in parts)  # masks need their name
    kinds = ALL if learned or nameless else set()  # and magnitudes a label
    return kinds.union(*(REFUSE.get(type(part).__name__, set()) for part in parts))


@pytest.mark.parametrize("name", smartaug.augment.ops.__all__)
def test_what_lies_in_the_images_follows_or_is_refused_by_every_augmentation(name):
    assert name in DENSE, f"write a row for {name} in ROWS of tests/test_backends.py"
    for make in DENSE[name]:
        refused = conformance.dense(make, more=("masks",) if name in test_backends.NEED_MASKS else ())
        allowed = {form: refused_by(make(), form) for form in conformance.FORMS}
        if not isinstance(make(), smartaug.MixUp):  # which may mix none of the samples
            assert refused == allowed
        assert all(refused[form] <= kinds for form, kinds in allowed.items())


@pytest.mark.parametrize("make", [smartaug.Flip, lambda: smartaug.Affine(30), smartaug.CutMix, smartaug.Mosaic])
@pytest.mark.parametrize("part", ["mask", "boxes"])
def test_the_suite_sees_what_is_left_behind(make, part):
    with pytest.raises(AssertionError):
        conformance.dense(make, left_behind=(part,))


LIFTED = {
    "torchvision v1": (v1.RandomInvert(1.0), v1.RandomInvert(0.5), pictures("pil")),
    "torchvision v2": (v2.RandomSolarize(99, 1.0), v2.RandomRotation(30), pictures("tensor")),
}


@pytest.mark.parametrize("library", ["torchvision v1", "torchvision v2"])
def test_lifted_transforms(library):
    conformance.lifted(*LIFTED[library])


# --- the examples of CONTRIBUTING ------------------------------------------------------------------------------------


def example(name):
    """The block of CONTRIBUTING whose first line names the file ``name``."""
    return next(
        block for block in re.findall(r"```python\n(.*?)```", GUIDE, re.DOTALL) if block.startswith(f"# {name}\n")
    )


@pytest.fixture
def module(tmp_path, monkeypatch):
    """A function from the file that an example names to a temporary module in that place of the package."""

    def make(name):
        path = tmp_path / Path(name).name
        path.write_text(example(name))
        full = name.removesuffix(".py").replace("/", ".")
        spec = importlib.util.spec_from_file_location(full, path)
        made = importlib.util.module_from_spec(spec)
        monkeypatch.setitem(sys.modules, full, made)
        spec.loader.exec_module(made)
        return made

    return make


@pytest.mark.filterwarnings("ignore:.*not writable.*:UserWarning")
def test_an_operation_of_the_guide(module):
    band = module("smartaug/augment/ops/band.py").Band
    conformance.augmentation(band)
    conformance.augmentation(lambda: band(5, p=0.5))
    images = torch.full((500, 1, 4, 9), 7, dtype=torch.uint8)
    shown = band(2, p=0.4)(images, seed=0)
    bands = (shown == 0).all(2)[:, 0]
    assert set(bands.sum(1).tolist()) == {0, 2}
    assert bands.any(0).all()
    found = smartaug.moments.of(band(2, p=0.4), images[:1].float() / 7)
    assert found.exact
    assert torch.allclose(found.mean[0, 0, 0].double(), 1 - 0.4 * torch.tensor([1.0] + [2.0] * 7 + [1.0]).double() / 8)


def on_labels(function, B, log_p, batch):
    """A function of (B, log_p, labels) as a `Rule`."""
    return function(B, log_p, batch.soft)


def test_a_rule_of_the_guide(module):
    confidence = module("smartaug/reweight/confidence.py").Confidence
    conformance.rule(partial(on_labels, confidence.rule))
    conformance.reweighter(lambda model, held: confidence(model, held, **SHORT))
    assert issubclass(confidence, Learner)


def test_a_criterion_of_the_guide(module):
    surest = module("smartaug/coreset/surest.py").Surest
    for size in (0, 1, 10, 33):
        conformance.criterion(lambda size: surest(), size)
    residual = torch.tensor([[0.1, -0.1], [-0.9, 0.9], [0.5, -0.5]])
    assert surest()(smartaug.Embedding(residual), 2)[0].tolist() == [1, 2]
    chosen = smartaug.Coreset(0.5, select=surest(), embed="observed")
    assert chosen.budget(10) == 5


class Negative:
    """A library's transform: 255 − x with probability ``p``, drawn from `random`."""

    def __init__(self, p):
        self.p = p

    def __call__(self, image):
        return 255 - image if random.random() < self.p else image


def test_a_translator_of_the_guide(module, monkeypatch):
    toylib = types.ModuleType("toylib")
    toylib.Negative = Negative
    monkeypatch.setattr(Negative, "__module__", "toylib")
    monkeypatch.setitem(sys.modules, "toylib", toylib)
    monkeypatch.setitem(registry.LIBRARIES, "toylib", "toylib")
    module("smartaug/lift/toylib.py")
    images = pictures("tensor")
    conformance.lifted(Negative(1.0), Negative(0.5), images)
    plan = smartaug.lift(Negative(0.3)).augment.plan((2000, 3, 4, 4), index=torch.arange(2000), seed=0)
    random.seed(0)
    theirs = sum(not torch.equal(Negative(0.3)(images[0]), images[0]) for _ in range(2000))
    as_often((plan.trace.ops[:, 0] > 0).sum(), theirs, 0.3, 2000)
    behind = smartaug.lift(
        v2.Compose([v2.ToDtype(torch.float32, scale=True), v2.Normalize([0.5], [0.2]), Negative(1.0)])
    )
    assert "behind Normalize" in behind.explain()


def test_the_guide_names_files_that_are_there():
    for name in re.findall(r"`((?:smartaug|tests)/[\w/.]+)`", GUIDE):
        assert (Path(__file__).parent.parent / name).exists(), name
    examples = re.findall(r"```python\n# (\S+)\n", GUIDE)
    added = [name for name in examples if not name.endswith("/tone.py")]  # functions for files that are there
    assert (len(added), len(examples)) == (4, 8)
    assert all(ast.get_docstring(ast.parse(example(name))) for name in added)
    words = GUIDE.partition("## Glossary")[2].partition("\n## ")[0]
    assert len(re.findall(r"^\| [a-z]", words, re.MULTILINE)) <= 26  # 25, and the heading
