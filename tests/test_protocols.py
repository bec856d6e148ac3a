"""An object in another keyword's place is refused where it is given, and the error says where it belongs."""

import functools

import pytest
import torch
from torch import nn
from torch.utils.data import TensorDataset

import smartaug

DATA = TensorDataset(torch.zeros(8, 3, 8, 8, dtype=torch.uint8), torch.arange(8) % 2)
HELD = TensorDataset(torch.zeros(8, 3, 8, 8), torch.arange(8) % 2)


def net():
    return nn.Sequential(nn.Flatten(), nn.Linear(192, 2))


def loader(**keywords):
    return smartaug.DataLoader(DATA, batch_size=4, device="cpu", **keywords)


def placed(keyword, given):
    """Hand ``given`` over as ``keyword``."""
    if keyword == "select":
        return smartaug.Coreset(0.5, select=given)
    if keyword == "policy":
        return smartaug.MetaAugment(net(), HELD, policy=given)
    if keyword == "rule":
        return smartaug.reweight.ByRule(given, net(), HELD)
    if keyword == "criterion":
        return smartaug.SAFLEX(net(), HELD, criterion=given)
    if keyword == "visible":
        return smartaug.SoftAugmentation(2, visible=given)
    return loader(**{keyword: given})


class OwnCoreset:
    def budget(self, size):
        return size // 2

    def selection(self, epoch, size, seed):
        return torch.arange(size // 2), None


class OwnReweighter:
    def __call__(self, batch, trace):
        return None, None


class OwnCriterion:
    def __call__(self, embedding, budget, generator=None):
        return torch.arange(budget), None


def own_criterion(embedding, budget, generator=None):
    return torch.arange(budget), None


def own_reweighter(batch, trace):
    return None, None


def brighter(images, amount=2):
    return images.clamp_max(200) + amount


MEMBERS = {  # what belongs where: ours, and objects and functions of a user's
    "augment": [smartaug.Flip, lambda: smartaug.augment.ops.OneOf([smartaug.Flip()]), lambda: brighter],
    "reweight": [
        smartaug.reweight.UniformWeights,
        lambda: smartaug.SAFLEX(net(), HELD),
        lambda: smartaug.MetaWeightNet(net(), HELD),
        lambda: smartaug.SoftAugmentation(2, visible=own_visible),
        OwnReweighter,
        lambda: own_reweighter,
    ],
    "coreset": [lambda: smartaug.Coreset(0.5), lambda: smartaug.InfoBatch(4), OwnCoreset],
    "select": [
        smartaug.coreset.RandomSubset,
        smartaug.FacilityLocation,
        smartaug.MaxLoss,
        lambda: smartaug.coreset.AugmentationVariance(torch.ones(8)),
        OwnCriterion,
        lambda: own_criterion,
    ],
}


def own_visible(batch, trace):
    return torch.ones(len(batch.target))


@pytest.mark.parametrize("keyword", ["augment", "reweight", "coreset", "select", "policy"])
@pytest.mark.parametrize(("family", "make"), [(family, make) for family in MEMBERS for make in MEMBERS[family]])
@pytest.mark.filterwarnings("ignore:.*epochs of different lengths")
def test_every_keyword_takes_its_own_family_and_no_other(keyword, family, make):
    given = make()
    if family == keyword:
        placed(keyword, given)
        return
    with pytest.raises(TypeError, match=rf"{keyword}\b") as error:
        placed(keyword, given)
    if keyword != "policy" or family != "augment":  # an augmentation without probabilities is no policy
        assert "write " in str(error.value)
        belongs = {"select": "Coreset(0.3, select=", "coreset": "coreset="}.get(family, f"{family}=")
        assert belongs in str(error.value)


@pytest.mark.parametrize("keyword", ["augment", "reweight", "coreset", "select", "policy", "rule", "criterion"])
@pytest.mark.parametrize("given", ["saflex", 0.3, DATA, smartaug.Flip, smartaug.SAFLEX, nn.CrossEntropyLoss])
def test_classes_strings_numbers_and_datasets_are_refused(keyword, given):
    with pytest.raises(TypeError, match=rf"^{keyword} ") as error:
        placed(keyword, given)
    if isinstance(given, type):
        assert f"{keyword}={given.__name__}(...)" in str(error.value)
    else:
        assert "; write " in str(error.value)


@pytest.mark.parametrize(
    ("keyword", "given", "called"),
    [
        ("augment", lambda one, two: one, r"\(images\), .* takes \(one, two\)"),
        ("augment", lambda: None, r"\(images\), .* takes \(\)"),
        ("reweight", lambda one: (None, None), r"\(batch, trace\), .* takes \(one\)"),
        ("reweight", lambda a, b, c: (None, None), r"\(batch, trace\), .* takes \(a, b, c\)"),
        ("reweight", net(), r"\(batch, trace\)"),
        ("select", lambda one, two: (None, None), r"\(embedding, budget, generator\), .* takes \(one, two\)"),
        ("rule", lambda one, two: (None, None), r"\(B, log_p, batch\), .* takes \(one, two\)"),
        ("criterion", lambda one: one, r"\(logits, labels\), .* takes \(one\)"),
        ("visible", lambda one: one, r"\(batch, trace\), .* takes \(one\)"),
    ],
)
def test_functions_of_another_arity_are_refused(keyword, given, called):
    with pytest.raises(TypeError, match=f"{keyword} is called with {called}"):
        placed(keyword, given)


def test_what_is_called_as_it_should_be_is_taken():
    placed("augment", [lambda *images: images[0], functools.partial(brighter, amount=3), torch.abs])
    placed("reweight", lambda *args: (None, None))
    placed("select", lambda *args, **kwargs: None)
    placed("criterion", nn.BCEWithLogitsLoss())
    placed("criterion", smartaug.Loss(nn.CrossEntropyLoss()))


def test_a_coreset_whose_methods_take_something_else_is_refused():
    class Older(OwnCoreset):
        def selection(self, epoch, size):
            return torch.arange(4), None

    with pytest.raises(TypeError, match="coreset must be a coreset, got Older"):
        placed("coreset", Older())


def test_a_loss_goes_around_the_criterion():
    with pytest.raises(TypeError, match=r"reweight got CrossEntropyLoss\(\), .*: write criterion = smartaug\.Loss"):
        placed("reweight", nn.CrossEntropyLoss())


def test_albumentations_pipelines_work_on_one_sample():
    albumentations = pytest.importorskip("albumentations")
    with pytest.raises(TypeError, match="albumentations' Compose, which works on one sample"):
        placed("augment", albumentations.Compose([albumentations.HorizontalFlip()]))


# --- one policy in both places ----------------------------------------------------------------------------------------


def test_a_policy_that_the_loader_does_not_run_is_refused():
    stage = smartaug.MetaAugment(net(), HELD, policy=smartaug.RandAugment(num_ops=2))
    for augment in (None, smartaug.RandAugment(num_ops=2), [smartaug.Flip(), smartaug.RandAugment(num_ops=2)]):
        with pytest.raises(ValueError, match=r"not among the augmentations of this loader.*give both the same object"):
            loader(augment=augment, reweight=stage)
        with pytest.raises(ValueError, match="give both the same object"):
            smartaug.Collate(augment=augment, reweight=stage)


@pytest.mark.parametrize(
    "around",
    [
        lambda policy: policy,
        lambda policy: [smartaug.Flip(), policy],
        lambda policy: smartaug.Compose([smartaug.Flip(), smartaug.Compose([policy, smartaug.Erase()])]),
        lambda policy: smartaug.augment.ops.RandomApply([policy], p=0.5),
        lambda policy: [smartaug.augment.ops.OneOf([policy, smartaug.Flip()])],
    ],
)
def test_a_policy_inside_others_is_found(around):
    policy = smartaug.RandAugment(num_ops=2)
    loader(augment=around(policy), reweight=smartaug.MetaAugment(net(), HELD, policy=policy))


# --- names ------------------------------------------------------------------------------------------------------------


def test_both_names_of_the_controls_stay():
    assert smartaug.Uniform is smartaug.reweight.Uniform is smartaug.reweight.UniformWeights
    assert smartaug.coreset.Uniform is smartaug.coreset.RandomSubset
    assert repr(smartaug.coreset.Uniform()) == "RandomSubset()"
    assert repr(smartaug.Uniform()) == "UniformWeights()"
