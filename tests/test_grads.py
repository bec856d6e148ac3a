"""Directions and benefits equal slow reverse passes, for every make of model, and leave no trace in the model."""

import copy
import logging
import random
import warnings

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.utils.checkpoint import checkpoint

from smartaug import grads
from tests import reference
from tests.models import MODELS, Attention, convolutional, images, make, read


def problem(name, training, n=3, m=5):
    model = make(name, training)
    with torch.no_grad():
        classes = reference.as_classes(read(copy.deepcopy(model)(images(2)))).shape[1]
    return model, images(n), images(m), torch.randint(0, classes, (m,)), classes


def close(made, wanted, tolerance=1e-9):
    scale = max(1.0, float(wanted.abs().max()))
    assert float((made - wanted).abs().max()) <= tolerance * scale


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("name", MODELS)
def test_direction_and_benefit_equal_reverse_passes(name, training):
    model, inputs, held, labels, classes = problem(name, training)
    wanted = reference.direction(model, held, nn.functional.one_hot(labels, classes).double(), read)
    made = grads.direction(model, held, labels)
    assert list(made) == list(wanted)
    for part in made:
        close(made[part], wanted[part])
    log_p, benefits = reference.benefit(model, inputs, made, read)
    made_log_p, made_benefits = grads.benefit(model, inputs, made)
    close(made_log_p, log_p)
    close(made_benefits, benefits)
    close((made_log_p.exp() * made_benefits).sum(1), torch.zeros(3))


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("name", MODELS)
def test_difference_is_within_its_stated_error(name, training):
    for dtype, error in ((torch.float64, 1e-4), (torch.float32, 3e-2)):
        model, inputs, held, labels, _ = problem(name, training)
        model, inputs, held = model.to(dtype), inputs.to(dtype), held.to(dtype)
        g = grads.direction(model, held, labels)
        log_p, exact = grads.benefit(model, inputs, g)
        near_log_p, near = grads.benefit(model, inputs, g, method="difference")
        assert float((near - exact).norm()) <= error * float(exact.norm())
        assert float((near_log_p - log_p).abs().max()) < error
        close((near_log_p.exp() * near).sum(1), torch.zeros(3), 1e-4)


def everything(model):
    """All that a call could have changed."""
    attributes = [
        {k: v for k, v in part.__dict__.items() if not k.startswith("_") or k == "_compiled_call_impl"}
        for part in model.modules()
    ]
    state = copy.deepcopy(model.state_dict())
    gradients = [None if part.grad is None else part.grad.clone() for part in model.parameters()]
    flags = [(part.requires_grad, id(part)) for part in model.parameters()]
    hooks = [len(part._forward_hooks) + len(part._forward_pre_hooks) for part in model.modules()]
    return attributes, state, gradients, flags, hooks, torch.get_rng_state(), random.getstate(), np.random.get_state()


def same(before, after):
    assert [(list(a), [x is b[k] for k, x in a.items()]) for a, b in zip(before[0], after[0], strict=True)] == [
        (list(a), [True] * len(a)) for a in before[0]
    ]
    for part, other in zip(before[1].values(), after[1].values(), strict=True):
        assert torch.equal(part, other)
    for part, other in zip(before[2], after[2], strict=True):
        assert (part is None and other is None) or torch.equal(part, other)
    assert before[3:5] == after[3:5]
    assert torch.equal(before[5], after[5])
    assert before[6] == after[6]
    assert all(np.array_equal(a, b) for a, b in zip(before[7], after[7], strict=True))


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("name", MODELS)
def test_the_model_is_untouched(name, training):
    model, inputs, held, labels, _ = problem(name, training)
    read(model(inputs)).sum().backward()
    before = everything(model)
    for mode in (None, True, False, "statistics"):
        g = grads.direction(model, held, labels, training=mode)
        for method in ("jvp", "difference"):
            grads.benefit(model, inputs, g, method=method, training=mode)
        done = grads.Pass(model, inputs, training=mode)
        done.pull(done.log_p)
    same(before, everything(model))


def test_the_model_is_untouched_when_it_fails():
    model, inputs = convolutional(nn.BatchNorm2d(4)), torch.randn(3, 9, 6, 6)
    before = everything(model)
    with pytest.raises(RuntimeError):
        grads.direction(model, inputs, torch.zeros(3, dtype=torch.long), training=False)
    same(before, everything(model))


def test_statistics_of_the_batch_without_dropout():
    model = convolutional(nn.BatchNorm2d(4), dropout=0.5).double()
    held, labels = images(5), torch.tensor([0, 1, 2, 0, 1])
    slow = copy.deepcopy(model).eval()
    for part in slow.modules():
        part.training = isinstance(part, nn.BatchNorm2d)
    wanted = reference.direction(slow, held, nn.functional.one_hot(labels, 3).double())
    made = grads.direction(model, held, labels, training="statistics")
    for part in made:
        close(made[part], wanted[part])
    running = grads.direction(model, held, labels, training=False)
    assert any(not torch.allclose(made[part], running[part], rtol=0.1) for part in made)
    frozen = grads.direction(model.eval(), held, labels, training="statistics")  # fine-tuning on running statistics
    assert all(torch.equal(frozen[part], running[part]) for part in frozen)


def test_old_weight_norm_keeps_its_weight():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        model = nn.Sequential(nn.Flatten(), nn.utils.weight_norm(nn.Linear(72, 3))).double()
    before = everything(model)
    inputs, labels = images(3), torch.tensor([0, 1, 2])
    g = grads.direction(model, inputs, labels)
    close(grads.benefit(model, inputs, g)[1], reference.benefit(model, inputs, g)[1])
    assert [list(part) for part in before[0]] == [list(part) for part in everything(model)[0]]


@settings(max_examples=25, deadline=None)
@given(
    n=st.integers(1, 5),
    classes=st.integers(1, 6),
    training=st.booleans(),
    seed=st.integers(0, 2**31),
    soft=st.booleans(),
)
def test_any_batch_and_number_of_classes(n, classes, training, seed, soft):
    torch.manual_seed(seed)
    model = convolutional(nn.BatchNorm2d(4), classes=classes, dropout=0.2).double().train(training)
    inputs, wide = images(n), max(2, classes)
    labels = torch.rand(n, wide, dtype=torch.float64).softmax(1) if soft else torch.randint(0, wide, (n,))
    rows = labels if soft else nn.functional.one_hot(labels, wide).double()
    g = grads.direction(model, inputs, labels)
    wanted = reference.direction(model, inputs, rows)
    for part in g:
        close(g[part], wanted[part])
    log_p, made = grads.benefit(model, inputs, g)
    close(made, reference.benefit(model, inputs, g)[1])
    close((log_p.exp() * made).sum(1), torch.zeros(n))


@pytest.mark.parametrize("training", [True, False])
def test_a_finite_step_does_what_the_benefit_says(training):
    model = nn.Sequential(nn.Flatten(), nn.Linear(72, 16), nn.BatchNorm1d(16), nn.Tanh(), nn.Linear(16, 3)).double()
    model.train(training)
    inputs, held, labels = images(4), images(6), torch.tensor([0, 1, 2, 0, 1, 2])
    soft = nn.functional.one_hot(labels, 3).double()
    g = grads.direction(model, held, labels)
    _, benefits = grads.benefit(model, inputs, g)
    lr = 1e-6
    before = -(soft * reference.log_probabilities(model, held)).sum(1).mean()
    for i, k in ((0, 0), (1, 2), (3, 1)):
        done = grads.Pass(model, inputs)
        cotangent = torch.zeros(4, 3, dtype=torch.float64)
        cotangent[i, k] = -1.0  # the gradient of −log p_k(x_i)
        moved = copy.deepcopy(model)
        moved.load_state_dict(grads.stepped(model, done.pull(cotangent), lr), strict=False)
        after = -(soft * reference.log_probabilities(moved, held)).sum(1).mean()
        assert float((before - after).detach() / lr) == pytest.approx(float(benefits[i, k]), rel=1e-3, abs=1e-6)


@pytest.mark.parametrize("name", ["batch norm", "dropout", "tied", "tuple", "single logit", "attention"])
def test_head_scope_is_the_gradient_of_the_last_layer(name):
    model, inputs, held, labels, _ = problem(name, True)
    whole = grads.direction(model, held, labels)
    head = grads.direction(model, held, labels, scope="head")
    assert set(head) < set(whole) or set(head) == set(whole)
    for part in head:
        close(head[part], whole[part])
    close(grads.benefit(model, inputs, head)[1], reference.benefit(model, inputs, head, read)[1])
    named = grads.direction(model, held, labels, scope="head", head=next(iter(head)).rpartition(".")[0])
    close(named[next(iter(named))], head[next(iter(head))])


def test_embeddings_are_the_factors_of_the_head_gradient():
    model, inputs = make("batch norm", True), images(4)
    labels = torch.tensor([0, 2, 1, 1])
    residual, feature, losses = grads.embeddings(model, inputs, labels)
    close(losses, -reference.log_probabilities(model, inputs).detach().gather(1, labels[:, None])[:, 0])
    head = grads.direction(model, inputs, labels, scope="head")
    close(torch.einsum("ik,id->kd", residual, feature) / 4, head["6.weight"])


def test_a_head_that_cannot_be_found_names_candidates():
    class Scaled(nn.Module):
        def __init__(self):
            super().__init__()
            self.body, self.classifier = nn.Linear(72, 8), nn.Linear(8, 3)

        def forward(self, x):
            return 2 * self.classifier(self.body(x.flatten(1)))

    model, labels = Scaled().double(), torch.tensor([0, 1])
    with pytest.raises(ValueError, match=r"no linear layer makes the logits; candidates: 'classifier'.*head="):
        grads.direction(model, images(2), labels, scope="head")
    with pytest.raises(ValueError, match=r"head='body' is not the linear layer"):
        grads.direction(model, images(2), labels, scope="head", head="body")


class Wrapped(nn.Module):
    """A block behind a custom function or a reentrant checkpoint: forward mode is missing, or silently wrong."""

    def __init__(self, kind):
        super().__init__()
        self.first, self.head, self.kind = nn.Linear(72, 6), nn.Linear(6, 3), kind

    def forward(self, x):
        x = torch.tanh(self.first(x.flatten(1)))
        if self.kind == "function":
            return self.head(Doubled.apply(x))
        return checkpoint(lambda y: self.head(torch.tanh(y)), x, use_reentrant=True)


class Doubled(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return 2 * x

    @staticmethod
    def backward(ctx, gradient):
        return 2 * gradient


def test_two_reverse_passes_stand_in_and_are_logged_once(caplog):
    model = Wrapped("function").double()
    inputs, labels = images(3), torch.tensor([0, 1, 2])
    with caplog.at_level(logging.WARNING, logger="smartaug"):
        g = grads.direction(model, inputs, labels)
        for _ in range(2):
            made = grads.benefit(model, inputs, g)[1]
    close(made, reference.benefit(model, inputs, g)[1])
    assert [record.message.startswith("benefit of Wrapped uses two reverse passes") for record in caplog.records] == [
        True
    ]


@pytest.mark.filterwarnings("ignore:None of the inputs have requires_grad")
def test_forward_mode_that_drops_tangents_is_found_out():
    model = Wrapped("checkpoint").double()
    inputs, labels = images(3), torch.tensor([0, 1, 2])
    with pytest.raises(RuntimeError, match="use_reentrant=False"):
        grads.direction(model, inputs, labels)
    g = {name: torch.randn_like(part) for name, part in model.named_parameters()}
    with pytest.raises(RuntimeError, match="use_reentrant=False"):
        grads.benefit(model, inputs, g)


def test_wrapped_models():
    model = make("batch norm", True)
    inputs, labels = images(3), torch.tensor([0, 1, 2])
    wanted = grads.benefit(model, inputs, grads.direction(model, inputs, labels))[1]
    compiled = torch.compile(model, backend="eager")
    in_place = copy.deepcopy(model)
    in_place.compile(backend="eager")
    for wrapped in (compiled, nn.DataParallel(model), in_place):
        g = grads.direction(wrapped, inputs, labels)
        close(grads.benefit(wrapped, inputs, g)[1], wanted)
    assert in_place._compiled_call_impl is not None


def test_autocast_and_bfloat16():
    model = convolutional(nn.BatchNorm2d(4))
    inputs, labels = images(16).float(), torch.arange(16) % 3
    exact = grads.benefit(model, inputs, grads.direction(model, inputs, labels))[1]
    with torch.autocast("cpu", torch.bfloat16):
        g = grads.direction(model, inputs, labels)
        log_p, made = grads.benefit(model, inputs, g)
        assert model(inputs).requires_grad  # the cache of cast weights is the user's own
    assert g["0.weight"].dtype == torch.float32
    assert log_p.dtype == made.dtype == torch.float32
    assert float(torch.cosine_similarity(made.flatten(), exact.flatten(), 0)) > 0.99
    low = copy.deepcopy(model).bfloat16()
    log_p, made = grads.benefit(low, inputs.bfloat16(), grads.direction(low, inputs.bfloat16(), labels))
    assert log_p.dtype == torch.float32
    assert float(torch.cosine_similarity(made.flatten(), exact.flatten(), 0)) > 0.95


def test_differences_under_low_precision():
    model = convolutional(nn.GroupNorm(2, 4))
    inputs, labels = images(16).float(), torch.arange(16) % 3
    g = grads.direction(model, inputs, labels)
    wanted = grads.benefit(model, inputs, g, "difference")[1]
    with torch.autocast("cpu", torch.bfloat16):  # where the step would be rounded away
        assert torch.equal(grads.benefit(model, inputs, g, "difference")[1], wanted)
    low = copy.deepcopy(model).bfloat16()
    with pytest.raises(ValueError, match=r"needs parameters of at least float32.*method=\"jvp\""):
        grads.benefit(low, inputs.bfloat16(), {name: part.bfloat16() for name, part in g.items()}, "difference")


def test_inputs_as_keywords_and_tuples():
    class Two(nn.Module):
        def __init__(self):
            super().__init__()
            self.head = nn.Linear(72, 3)

        def forward(self, pixels, shift):
            return self.head(pixels.flatten(1) + shift)

    model, inputs, labels = Two().double(), images(3), torch.tensor([0, 1, 2])
    shift = torch.ones(3, 1, dtype=torch.float64)
    one = grads.direction(model, (inputs, shift), labels)
    other = grads.direction(model, {"pixels": inputs, "shift": shift}, labels)
    close(one["head.weight"], other["head.weight"])


def test_inside_no_grad_and_inference_mode():
    model, inputs, labels = make("batch norm", True), images(3), torch.tensor([0, 1, 2])
    wanted = grads.benefit(model, inputs, grads.direction(model, inputs, labels))[1]
    for context in (torch.no_grad, torch.inference_mode):
        with context():
            close(grads.benefit(model, inputs, grads.direction(model, inputs, labels))[1], wanted)


def test_criterion_of_the_user():
    model, inputs, labels = make("batch norm", False), images(4), torch.tensor([0, 1, 2, 1])
    plain = grads.direction(model, inputs, labels)
    for criterion in (nn.CrossEntropyLoss(), nn.CrossEntropyLoss(reduction="none")):
        close(grads.direction(model, inputs, labels, criterion)["0.weight"], plain["0.weight"])
    with pytest.raises(TypeError, match=r"criterion must give a scalar or \(B,\) losses, got shape \(1, 2\)"):
        grads.direction(model, inputs, labels, lambda z, y: torch.zeros(1, 2))


def test_bad_input_is_named():
    model, inputs = make("batch norm", False), images(2)
    labels = torch.tensor([0, 1])
    with pytest.raises(ValueError, match="at least one validation sample"):
        grads.direction(model, inputs[:0], labels[:0])
    with pytest.raises(ValueError, match=r"label 7 is not among the model's 3 classes"):
        grads.direction(model, inputs, torch.tensor([0, 7]))
    with pytest.raises(ValueError, match="labels have 5 classes and the model 3 outputs"):
        grads.direction(model, inputs, torch.rand(2, 5))
    with pytest.raises(ValueError, match="no parameter that requires a gradient"):
        grads.direction(make("batch norm", False).requires_grad_(False), inputs, labels)
    with pytest.raises(TypeError, match=r"must be a torch.nn.Module, got int"):
        grads.direction(3, inputs, labels)
    with pytest.raises(TypeError, match=r"must hold logits \(B, K\) or \(B,\), got torch.float64 \(2, 4, 4, 4\)"):
        grads.direction(model[:1], inputs, labels)
    with pytest.raises(ValueError, match=r"direction names .*'nowhere'"):
        grads.benefit(model, inputs, {"nowhere": torch.zeros(1)})
    with pytest.raises(ValueError, match='method must be "jvp" or "difference"'):
        grads.benefit(model, inputs, {}, method="exact")
    with pytest.raises(ValueError, match='scope must be "full" or "head"'):
        grads.direction(model, inputs, labels, scope="half")
    with pytest.raises(TypeError, match="lazy parameters"):
        grads.direction(nn.LazyLinear(3), inputs, labels)


def test_many_classes():
    model = nn.Sequential(nn.Flatten(), nn.Linear(72, 1000)).double()
    g = grads.direction(model, images(4), torch.tensor([0, 10, 500, 999]))
    log_p, made = grads.benefit(model, images(2), g)
    assert made.shape == (2, 1000)
    close((log_p.exp() * made).sum(1), torch.zeros(2))


def test_huggingface_output():
    transformers = pytest.importorskip("transformers")
    config = transformers.ViTConfig(
        hidden_size=8, num_hidden_layers=1, num_attention_heads=2, intermediate_size=8, image_size=6, patch_size=3,
        num_channels=2, num_labels=3, attn_implementation="sdpa",
    )  # fmt: skip
    model, inputs, labels = (
        transformers.ViTForImageClassification(config).double().eval(),
        images(2),
        torch.tensor([0, 2]),
    )
    g = grads.direction(model, inputs, labels)
    close(grads.benefit(model, inputs, g)[1], reference.benefit(model, inputs, g, read)[1])
    assert set(grads.direction(model, inputs, labels, scope="head")) == {"classifier.weight", "classifier.bias"}


def test_models_that_need_contiguous_activations_are_called_as_they_are():
    class Viewing(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.drop, self.head = nn.Conv2d(2, 4, 3), nn.Dropout(0.5), nn.Linear(64, 3)

        def forward(self, x):
            return self.head(self.first(self.drop(x)).view(len(x), -1))

    model, inputs, labels = Viewing().double(), images(3), torch.tensor([0, 1, 2])
    for _ in range(2):
        g = grads.direction(model, inputs, labels)
        wanted = reference.direction(model, inputs, nn.functional.one_hot(labels, 3).double())
        close(g["first.weight"], wanted["first.weight"])
        close(grads.benefit(model, inputs, g)[1], reference.benefit(model, inputs, g)[1])


def test_attention_uses_plain_matrix_products_only_inside():
    before = torch.backends.cuda.flash_sdp_enabled(), torch.backends.mha.get_fastpath_enabled()
    model = Attention().double().eval()
    grads.benefit(model, images(2), grads.direction(model, images(2), torch.tensor([0, 1])))
    assert (torch.backends.cuda.flash_sdp_enabled(), torch.backends.mha.get_fastpath_enabled()) == before
