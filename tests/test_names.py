"""The nearest name for a mistyped one: keywords of every public class and function that takes several."""

import dataclasses
import inspect

import pytest
import torch
from torch import nn

import smartaug
from smartaug._base.names import did_you_mean, suggest_keywords

DATA = [(torch.zeros(3, 4, 4), 0)] * 4
MODEL = nn.Linear(2, 2)
CALLS = {
    "lifted": (lambda **named: smartaug.DataLoader(DATA, **named), "did you mean lift?"),
    "augmnet": (lambda **named: smartaug.DataLoader(DATA, **named), "did you mean augment?"),
    "workers": (lambda **named: smartaug.DataLoader(DATA, **named), "did you mean num_workers?"),  # torch's own
    "batchsize": (lambda **named: smartaug.DataLoader(DATA, **named), "did you mean batch_size?"),
    "augmentation": (lambda **named: smartaug.wrap([], **named), "did you mean augment?"),
    "reweigth": (lambda **named: smartaug.Collate(**named), "did you mean reweight?"),
    "magnitute": (smartaug.RandAugment, "did you mean magnitude?"),
    "numclasses": (smartaug.CutMix, "did you mean num_classes?"),
    "temprature": (lambda **named: smartaug.SAFLEX(MODEL, DATA, **named), "did you mean temperature?"),
    "weight_every": (lambda **named: smartaug.SAFLEX(MODEL, DATA, **named), "did you mean weigh_every?"),  # of its base
    "evry": (lambda **named: smartaug.Coreset(0.5, **named), "did you mean every?"),
    "fracton": (lambda **named: smartaug.split_validation(DATA, **named), "did you mean fraction?"),
}


@pytest.mark.parametrize("name", CALLS)
def test_a_mistyped_keyword_is_answered_with_the_nearest(name):
    call, meant = CALLS[name]
    with pytest.raises(TypeError, match=f"got an unexpected keyword argument '{name}'; ") as caught:
        call(**{name: 1})
    assert str(caught.value).endswith(meant)


def test_where_none_is_near_all_are_named():
    with pytest.raises(TypeError, match=r"^wrap\(\) got .* 'qqq'; it takes loader, augment, .*, returns$"):
        smartaug.wrap([], qqq=1)
    with pytest.raises(TypeError, match=r"^CutMix\.__init__\(\) got"):
        smartaug.CutMix(qqq=1)


@pytest.mark.parametrize("name", sorted(set(smartaug.__all__) - {"Lifted"}))
def test_every_public_class_suggests(name):  # `Lifted` is made by lift
    made = getattr(smartaug, name)
    if not inspect.isclass(made) or issubclass(made, (Warning, tuple, torch.Tensor)) or inspect.isabstract(made):
        pytest.skip("not made by users, with keywords")
    if dataclasses.is_dataclass(made):
        pytest.skip("a record, whose __init__ is made by dataclass")
    if len(inspect.signature(made).parameters) < 2:
        pytest.skip("one argument has no keyword to mistype")
    with pytest.raises(TypeError, match=r"; (did you mean|it takes)"):
        made(zzzzzz=1)


def test_the_users_own_subclasses_keep_their_keywords():
    class Mine(smartaug.DataLoader):
        def __init__(self, *args, extra, **kwargs):
            super().__init__(*args, **kwargs)
            self.extra = extra

    assert Mine(DATA, batch_size=2, extra=3).batch_size == 2
    with pytest.raises(TypeError, match="did you mean lift"):
        Mine(DATA, lifted=True, extra=3)
    signature = inspect.signature(smartaug.DataLoader)
    assert list(inspect.getfullargspec(smartaug.DataLoader.__init__).args)[1:3] == list(signature.parameters)[:2]


def test_positional_only_and_open_functions_are_left_as_they_are():
    @suggest_keywords
    def called(a, /, b=2):
        return a, b

    assert called(1, b=3) == (1, 3)
    with pytest.raises(TypeError, match="it takes b"):
        called(1, a=3)
    assert did_you_mean("xyz", ["Flip"]) == ""
