"""The loader's keywords stand in one table; signatures, public attributes and rebuilt loaders agree with it."""

import inspect

import pytest
import torch
from torch.utils.data import TensorDataset

import smartaug
from smartaug.pipeline.settings import KEYWORDS, Settings

DATA = TensorDataset(torch.rand(4, 3, 8, 8), torch.arange(4))
DEFAULTS = Settings().given()
OWN = {"loader", "collate_fn", "pipeline", "self"}  # arguments that are no keywords of the stages


def own_keywords(function):
    """The keyword-only arguments that torch's loader does not have, with their defaults."""
    torchs = inspect.signature(torch.utils.data.DataLoader).parameters
    found = inspect.signature(function).parameters.values()
    return {p.name: p.default for p in found if p.kind is p.KEYWORD_ONLY and p.name not in torchs and p.name not in OWN}


def test_the_loader_has_every_keyword_with_its_default():
    assert own_keywords(smartaug.DataLoader.__init__) == DEFAULTS
    assert list(own_keywords(smartaug.DataLoader.__init__)) == list(KEYWORDS)


@pytest.mark.parametrize(
    ("function", "without"),
    [(smartaug.wrap, {"lift"}), (smartaug.Collate.__init__, {"lift", "device", "returns"})],
)
def test_wrap_and_collate_have_those_that_they_can_keep(function, without):
    assert own_keywords(function) == {name: value for name, value in DEFAULTS.items() if name not in without}


def test_every_keyword_is_an_attribute_that_holds_what_was_passed():
    given = {
        "augment": [smartaug.Flip()],
        "reweight": smartaug.Uniform(),
        "seed": 3,
        "inputs": [0],
        "target": 1,
        "views": "same",
        "still": [1],
        "returns": "batch",
        "device": "cpu",
    }
    loader = smartaug.DataLoader(DATA, 2, **given)
    for name, default in DEFAULTS.items():
        assert getattr(loader, name) is given.get(name, default)
        with pytest.raises(ValueError, match=f"{name} cannot be changed once the loader is made"):
            setattr(loader, name, None)


def test_a_loader_rebuilt_from_its_attributes_shares_its_pipeline():
    loader = smartaug.DataLoader(DATA, 2, augment=smartaug.Flip(), inputs=[0], still=[1], views="same")
    arguments = {name: getattr(loader, name) for name in KEYWORDS}
    again = smartaug.DataLoader(DATA, 2, collate_fn=loader.collate_fn, **arguments)
    list(again)
    assert loader.stats()["batches"] == 2
    other = smartaug.DataLoader(DATA, 2, collate_fn=loader.collate_fn, **{**arguments, "still": None})
    list(other)
    assert loader.stats()["batches"] == 2


def test_naming_alone_is_no_stage():
    loader = smartaug.DataLoader(DATA, 2, inputs=[0], target=1, views="same", still=1)
    assert loader.stats() == {}


def test_explain_says_that_a_loader_augments():
    shown = smartaug.DataLoader(DATA, 2, augment=smartaug.Flip()).explain().split("\n")[1]
    wanted = "augments every batch at random; evaluate with a loader without lift= and augment="
    assert " ".join(shown.split()) == wanted
    assert "augments" not in smartaug.DataLoader(DATA, 2, reweight=smartaug.Uniform()).explain()


@pytest.mark.parametrize("change", [lambda stages: stages.pop(), lambda stages: stages.append(smartaug.Erase(1.0))])
def test_a_list_of_stages_that_changes_is_refused(change):
    """Taking MixUp out of the list for the last epochs had no effect."""
    stages = [smartaug.Flip(0.5), smartaug.Erase(0.5)]
    dataset = TensorDataset(torch.rand(8, 3, 4, 4), torch.arange(8))
    for loader in (smartaug.DataLoader(dataset, 4, augment=stages), smartaug.wrap([dataset[:]], augment=stages)):
        given = list(stages)
        list(loader)
        change(stages)
        with pytest.raises(RuntimeError, match="augment= was changed"):
            next(iter(loader))
        stages[:] = given
        list(loader)
