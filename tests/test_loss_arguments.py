"""`Loss` is called as its criterion is: by position, by keyword, with more or other arguments, whatever comes back."""

import functools

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import TensorDataset

from smartaug import Coreset, DataLoader, Loss, Target

B, K = 6, 4
OUTPUT = torch.randn(B, K, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
LABEL = torch.arange(B) % K
WEIGHT = torch.tensor([0.0, 0.5, 1.0, 1.5, 2.0, 1.0])
SOFT = torch.rand(B, K, generator=torch.Generator().manual_seed(1), dtype=torch.float64).softmax(1)
PLAIN, WEIGHTED, SOFTENED = Target(LABEL), Target(LABEL, WEIGHT), Target(LABEL, WEIGHT, SOFT)


def focal(logits, target, gamma=2.0):
    losses = F.cross_entropy(logits, target, reduction="none")
    return ((1 - torch.exp(-losses)) ** gamma * losses).mean()


CRITERIA = {
    "module": (nn.CrossEntropyLoss(label_smoothing=0.1), "input"),
    "functional": (F.cross_entropy, "input"),
    "partial": (functools.partial(F.cross_entropy, label_smoothing=0.1), "input"),
    "own": (focal, "logits"),
}


@pytest.mark.parametrize("name", CRITERIA)
@pytest.mark.parametrize("target", [LABEL, PLAIN, WEIGHTED, SOFTENED], ids=["tensor", "plain", "weighted", "soft"])
def test_keywords_are_positions(name, target):
    criterion, first = CRITERIA[name]
    if name == "own" and target is SOFTENED:
        criterion = functools.partial(focal, gamma=0.0)
    loss = Loss(criterion)
    wanted = loss(OUTPUT, target)
    assert torch.equal(loss(OUTPUT, target=target), wanted)
    assert torch.equal(loss(**{first: OUTPUT}, target=target), wanted)
    assert torch.equal(loss(target=target, **{first: OUTPUT}), wanted)
    if target is LABEL or target is PLAIN:
        assert torch.equal(wanted, criterion(OUTPUT, LABEL))


def test_further_keywords_reach_the_criterion():
    loss = Loss(focal)
    assert torch.equal(loss(logits=OUTPUT, target=WEIGHTED, gamma=1.0), loss(OUTPUT, WEIGHTED, 1.0))
    settings = {"weight": torch.ones(K, dtype=torch.float64), "ignore_index": 0}
    assert torch.equal(
        Loss(F.cross_entropy)(input=OUTPUT, target=WEIGHTED, **settings),
        Loss(F.cross_entropy)(OUTPUT, WEIGHTED, **settings),
    )


# --- without a Target: nothing is touched -----------------------------------------------------------------------------


class Contrastive(nn.Module):
    """As open_clip's: features and a scale by keyword, a dict of losses back."""

    def forward(self, image_features, text_features, logit_scale, output_dict=False):
        logits = logit_scale * image_features @ text_features.T
        loss = F.cross_entropy(logits, torch.arange(len(logits)))
        return {"contrastive_loss": loss} if output_dict else loss


def test_without_a_target_everything_is_handed_through():
    given = {"image_features": OUTPUT, "text_features": OUTPUT.flip(0), "logit_scale": torch.tensor(2.0)}
    made = Loss(Contrastive())(**given, output_dict=True)
    assert list(made) == ["contrastive_loss"]
    assert torch.equal(made["contrastive_loss"], Contrastive()(**given))
    seen = []
    marker = object()

    def recording(*args, **kwargs):
        seen.append((args, kwargs))
        return marker

    assert Loss(recording)({"logits": OUTPUT}, LABEL, flag=marker) is marker
    assert Loss(recording)() is marker
    ((args, kwargs), (none, nothing)) = seen
    assert args[1] is LABEL
    assert kwargs == {"flag": marker}
    assert (none, nothing) == ((), {})
    with pytest.raises(TypeError, match="target"):  # the criterion's own error
        Loss(nn.CrossEntropyLoss())(OUTPUT)


@pytest.mark.parametrize("target", [PLAIN, Target(LABEL, torch.ones(B))])
def test_without_weights_whatever_the_criterion_returns_comes_back(target):
    def both(output, target):
        assert type(target) is torch.Tensor
        return {"main": F.cross_entropy(output, target), "size": len(output)}

    assert torch.equal(Loss(both)(OUTPUT, target)["main"], F.cross_entropy(OUTPUT, LABEL))
    assert Loss(lambda output, target: (output, 3))({"logits": OUTPUT}, target)[1] == 3


@pytest.mark.parametrize(
    ("criterion", "said"),
    [
        (lambda output, target: {"main": F.cross_entropy(output, target), "aux": output.sum()}, r"a dict \('main', 'a"),
        (lambda output, target: (F.cross_entropy(output, target), output.sum()), r"a tuple \(0, 1\)"),
        (lambda output, target: [F.cross_entropy(output, target)], r"a list \(0\)"),
    ],
)
@pytest.mark.parametrize("target", [WEIGHTED, SOFTENED])
def test_several_losses_cannot_be_weighed_and_the_error_says_what_to_write(criterion, said, target):
    with pytest.raises(TypeError, match=rf"returns {said}.*criterion = smartaug\.Loss\(lambda output, target: "):
        Loss(criterion)(OUTPUT, target)


# --- other orders of arguments ----------------------------------------------------------------------------------------


class Distillation(nn.Module):
    """As DeiT's: the images first, then the outputs."""

    def forward(self, inputs, outputs, labels):
        return F.cross_entropy(outputs, labels) + 0 * inputs.sum()


def test_the_output_is_found_by_its_name():
    images, wanted = torch.ones(B, 3, dtype=torch.float64), Loss(nn.CrossEntropyLoss())(OUTPUT, WEIGHTED)
    loss = Loss(Distillation())
    assert torch.allclose(loss(images, OUTPUT, WEIGHTED), wanted)
    assert torch.allclose(loss(images, OUTPUT, labels=WEIGHTED), wanted)
    assert torch.allclose(loss(inputs=images, outputs=OUTPUT, labels=WEIGHTED), wanted)
    keras = Loss(lambda y_true, y_pred: F.cross_entropy(y_pred, y_true))
    assert torch.allclose(keras(WEIGHTED, OUTPUT), wanted)
    assert torch.allclose(Loss(lambda scores, *, truth: F.cross_entropy(scores, truth))(OUTPUT, truth=WEIGHTED), wanted)


def test_where_the_output_cannot_be_told_weights_are_refused_and_nothing_else():
    def mixed(one, other, truth):
        return F.cross_entropy(one + other, truth)

    with pytest.raises(TypeError, match=r"which of them is the model's output cannot be told; call it as criterion\("):
        Loss(mixed)(OUTPUT, OUTPUT, WEIGHTED)
    assert torch.equal(Loss(mixed)(OUTPUT, OUTPUT, PLAIN), mixed(OUTPUT, OUTPUT, LABEL))
    data = TensorDataset(torch.rand(8, 2), torch.arange(8) % 2)
    loader = DataLoader(data, batch_size=4, augment=None, coreset=Coreset(0.5), device="cpu")
    _, target = next(iter(loader))
    scores = torch.zeros(len(target), 2)
    with pytest.raises(TypeError, match="cannot be told"):
        Loss(mixed)(scores, scores, target)  # the coreset would record some argument as the logits


def test_a_coreset_sees_the_outputs_of_a_call_by_keyword():
    data = TensorDataset(torch.rand(8, 2), torch.arange(8) % 2)
    loader = DataLoader(data, batch_size=4, coreset=Coreset(0.5), device="cpu")
    criterion = Loss(nn.CrossEntropyLoss())
    for images, target in loader:
        criterion(input=images, target=target)
    assert loader.stats()["coreset"]["unseen"] == 4


def test_a_class_is_to_be_made_an_object():
    with pytest.raises(TypeError, match=r"got the class Contrastive; write Loss\(Contrastive\(\)\), around the object"):
        Loss(Contrastive)
