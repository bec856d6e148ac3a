"""Pairs: `ContrastiveLoss` by itself, in `Loss`, as the criterion of reweighters, and through the loader."""

import copy
import logging
import pickle

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.utils.data import TensorDataset

import smartaug
from smartaug import ContrastiveLoss, Loss, Target
from smartaug.augment.plan import Trace
from smartaug.grads.first_order import ForwardPass
from smartaug.reweight.validation import ValidationBatches
from tests import reference_contrastive as reference

B, D, SCALE = 6, 4, 5.0


def features(seed, count=B):
    generator = torch.Generator().manual_seed(seed)
    a, b = (torch.randn(count, D, dtype=torch.float64, generator=generator, requires_grad=True) for _ in range(2))
    return a, b, SCALE


def labels_over(count, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(count, count, dtype=torch.float64, generator=generator).softmax(1)


def texts(count=B, weight=None, soft=None):
    return Target(torch.zeros(count, 3, dtype=torch.int64), weight, soft)


class Towers(nn.Module):
    """Numbers beside words; ``bag`` takes a layer that has no forward-mode derivative, nor a second reverse one."""

    def __init__(self, bag=False):
        super().__init__()
        torch.manual_seed(1)
        self.numbers = nn.Sequential(nn.Linear(5, 6), nn.Tanh(), nn.Linear(6, D))
        words = nn.Sequential(nn.Embedding(11, D), nn.Flatten(), nn.Linear(3 * D, D))
        self.words = nn.EmbeddingBag(11, D) if bag else words
        self.scale = nn.Parameter(torch.tensor(1.0))

    def forward(self, image, tokens):
        return self.numbers(image), self.words(tokens), self.scale.exp()


def pairs(count, seed=3, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(count, 5, dtype=dtype, generator=generator), torch.randint(
        0, 11, (count, 3), generator=generator
    )


# --- the loss --------------------------------------------------------------------------------------------------------


@given(st.integers(0, 99), st.integers(1, 7))
@settings(deadline=None, max_examples=15)
def test_losses_are_those_of_one_pair_at_a_time(seed, count):
    output, soft = features(seed, count), labels_over(count, seed)
    assert torch.allclose(ContrastiveLoss().losses(output), reference.pair_losses(*output), atol=1e-12)
    made = ContrastiveLoss(temperature=1 / SCALE).losses(output[:2], soft=soft)
    assert torch.allclose(made, reference.pair_losses(*output, soft), atol=1e-12)


@given(st.integers(0, 99), st.permutations(range(B)))
@settings(deadline=None, max_examples=15)
def test_the_order_of_pairs_does_not_matter(seed, order):
    a, b, scale = features(seed)
    weight, soft = torch.rand(B, dtype=torch.float64), labels_over(B, seed)
    whole = Loss(ContrastiveLoss())((a, b, scale), texts(weight=weight, soft=soft))
    turned = Loss(ContrastiveLoss())(
        (a[order], b[order], scale), texts(weight=weight[order], soft=soft[order][:, order])
    )
    assert torch.allclose(whole, turned, atol=1e-12)


def test_it_is_the_loss_of_open_clip():
    theirs = pytest.importorskip("open_clip").ClipLoss()
    a, b, scale = features(0)
    given = F.normalize(a, dim=1), F.normalize(b, dim=1), torch.tensor(scale, dtype=torch.float64)
    for criterion in (ContrastiveLoss(), ContrastiveLoss(normalise=False), Loss(ContrastiveLoss())):
        made, wanted = criterion(given, texts()), theirs(*given)
        assert torch.allclose(made, wanted, atol=1e-12)
        one, other = (torch.autograd.grad(loss, [a, b], retain_graph=True) for loss in (made, wanted))
        assert all(torch.allclose(*parts, atol=1e-12) for parts in zip(one, other, strict=True))


def test_outputs_of_every_form():
    a, b, scale = features(0)
    wanted = ContrastiveLoss()((a, b, scale))
    bias = torch.tensor([0.5], dtype=torch.float64)
    products = scale * F.normalize(a, dim=1) @ F.normalize(b, dim=1).T
    forms = [
        [a, b, torch.tensor(scale)],
        (a, b, scale, bias),  # softmax does not see it
        {"image_features": a, "text_features": b, "logit_scale": scale, "logit_bias": None},
        {"image_embeds": a, "text_embeds": b, "logits_per_image": products},
        products,
    ]
    for output in forms:
        assert torch.allclose(ContrastiveLoss()(output), wanted, atol=1e-12)
        made = Loss(ContrastiveLoss())(output, texts(weight=torch.ones(B), soft=torch.eye(B)))
        assert torch.allclose(made, wanted, atol=1e-12)


def test_half_precision_is_summed_in_float32():
    a, b, _ = features(0)
    losses = ContrastiveLoss(temperature=0.01).losses((a.bfloat16(), b.bfloat16()))
    assert losses.dtype == torch.float32
    assert bool(torch.isfinite(losses).all())


@pytest.mark.parametrize(
    ("call", "error", "match"),
    [
        (lambda: ContrastiveLoss(temperature=0.0), ValueError, r"temperature must be .* > 0, got 0.0"),
        (lambda: ContrastiveLoss()((torch.ones(2, 3), torch.ones(2, 3))), ValueError, r"temperature=0\.07"),
        (lambda: ContrastiveLoss(temperature=1.0)(features(0)), ValueError, "leave temperature out"),
        (lambda: ContrastiveLoss()((torch.ones(2, 3), torch.ones(3, 3), 1.0)), ValueError, r"\[\(2, 3\), \(3, 3\)\]"),
        (lambda: ContrastiveLoss()(torch.ones(2, 3)), ValueError, r"products \(B, B\), got one tensor \(2, 3\)"),
        (lambda: ContrastiveLoss()({"logits": 1}), TypeError, r"got a dict of \['logits'\]; write criterion\(\(image"),
        (lambda: ContrastiveLoss()(features(0), soft=torch.eye(2)), ValueError, r"floats \(6, 6\), got .* \(2, 2\)"),
        (lambda: Loss(ContrastiveLoss(), per_sample=True), ValueError, "leave per_sample out"),
        (lambda: Loss(ContrastiveLoss())(features(0), texts(4, torch.ones(4) / 2)), TypeError, "target's 4 rows"),
        (
            lambda: Loss(ContrastiveLoss())(features(0), texts(soft=torch.eye(B)), soft=torch.eye(B)),
            ValueError,
            "leave one of them out",
        ),
        (
            lambda: smartaug.SAFLEX(Towers(), pairs(8), scope="head", criterion=ContrastiveLoss()),
            ValueError,
            'scope="full"',
        ),
    ],
)
def test_what_is_refused_says_what_to_write(call, error, match):
    with pytest.raises(error, match=match):
        call()


# --- in Loss ---------------------------------------------------------------------------------------------------------


@given(st.integers(0, 99))
@settings(deadline=None, max_examples=15)
def test_weights_multiply_the_losses_of_pairs(seed):
    output = features(seed)
    weight, soft = torch.rand(B, dtype=torch.float64) * (torch.rand(B) > 0.3), labels_over(B, seed)
    for label in (None, soft):
        made = Loss(ContrastiveLoss())(output, texts(weight=weight, soft=label))
        assert torch.allclose(made, (weight * reference.pair_losses(*output, label)).mean(), atol=1e-12)
    own = Loss(ContrastiveLoss())(output, texts(weight=weight), soft=soft)
    assert torch.allclose(own, made, atol=1e-12)


@given(st.integers(0, 99))
@settings(deadline=None, max_examples=10)
def test_weights_of_one_and_each_pairs_own_label_change_nothing(seed):
    output = features(seed)
    plain = ContrastiveLoss()(output)
    for target in (texts(), texts(weight=torch.ones(B)), texts(soft=torch.eye(B))):
        made = Loss(ContrastiveLoss())(output, target)
        assert torch.allclose(made, plain, atol=1e-12)
        for one, other in zip(
            torch.autograd.grad(made, output[:2], retain_graph=True),
            torch.autograd.grad(plain, output[:2], retain_graph=True),
            strict=True,
        ):
            assert torch.allclose(one, other, atol=1e-12)


def test_a_pair_of_weight_0_stays_what_others_are_told_apart_from():
    output = features(0)
    weight = torch.tensor([0.0, 1, 1, 2, 1, 1], dtype=torch.float64)
    made = torch.autograd.grad(Loss(ContrastiveLoss())(output, texts(weight=weight)), output[:2])
    wanted = torch.autograd.grad((weight * reference.pair_losses(*output)).mean(), output[:2])
    for one, other in zip(made, wanted, strict=True):
        assert torch.allclose(one, other, atol=1e-12)
        assert bool(one[0].abs().sum() > 0)


def test_an_observed_coreset_says_that_pairs_have_no_classes():
    data = TensorDataset(*pairs(16, dtype=torch.float32))
    loader = smartaug.DataLoader(data, 8, coreset=smartaug.Coreset(0.5), inputs=[0, 1], target=1)
    image, tokens = next(iter(loader))
    with pytest.raises(TypeError, match="no classes"):
        Loss(ContrastiveLoss())(Towers()(image, tokens), tokens)


# --- benefits --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [1, 5])
def test_benefits_are_those_of_reverse_passes(count):
    model, criterion, batch, held = Towers().double(), ContrastiveLoss(), pairs(count), pairs(7, 4)
    direction = smartaug.grads.direction(model, held, held[1], criterion)
    own = torch.autograd.grad(criterion(model(*held)), list(model.parameters()))
    for part, (name, _) in zip(own, model.named_parameters(), strict=True):
        assert torch.allclose(part, direction[name], atol=1e-12)
    wanted = reference.pair_benefits(model, lambda output, soft: reference.pair_losses(*output, soft), batch, direction)
    for method, near in (("jvp", 1e-12), ("difference", 1e-5)):
        log_p, made = smartaug.grads.benefit(model, batch, direction, method, against=(criterion, batch[1]))
        assert torch.allclose(made, wanted, atol=near)
        assert torch.allclose(-log_p.diagonal(), criterion.losses(model(*batch)), atol=1e-7)


def test_gradients_of_chosen_labels_are_those_of_the_loss():
    model, criterion, batch = Towers().double(), ContrastiveLoss(), pairs(5)
    soft = labels_over(5)
    wanted = torch.autograd.grad(criterion(model(*batch), soft=soft), list(model.parameters()))
    made = ForwardPass(model, batch, against=(criterion, batch[1])).pull(-soft / 5)
    for part, (name, _) in zip(wanted, model.named_parameters(), strict=True):
        assert torch.allclose(part, made[name], atol=1e-12)


def test_layers_without_forward_mode_go_on_to_a_difference(caplog):
    model, criterion, batch, held = Towers(bag=True).double(), ContrastiveLoss(), pairs(5), pairs(7, 4)
    direction = smartaug.grads.direction(model, held, held[1], criterion)
    wanted = reference.pair_benefits(model, lambda output, soft: reference.pair_losses(*output, soft), batch, direction)
    with caplog.at_level(logging.WARNING, "smartaug"):
        for _ in range(2):
            made = smartaug.grads.benefit(model, batch, direction, against=(criterion, batch[1]))[1]
            assert torch.allclose(made, wanted, atol=1e-5)
    assert [record.getMessage() for record in caplog.records] == [
        "benefit of Towers uses a difference, which is not exact: the derivative for '_embedding_bag_backward' is not "
        "implemented."
    ]
    narrow = Towers(bag=True).bfloat16()
    narrow_batch = (batch[0].bfloat16(), batch[1])
    along = smartaug.grads.direction(narrow, narrow_batch, batch[1], criterion)
    with pytest.raises(ValueError, match="keep it in float32"):
        smartaug.grads.benefit(narrow, narrow_batch, along, against=(criterion, batch[1]))


def test_classifiers_without_forward_mode_do_so_too():
    torch.manual_seed(0)
    model = nn.EmbeddingBag(11, 3).double()
    tokens, label = pairs(5)[1], torch.arange(5) % 3
    direction = smartaug.grads.direction(model, tokens, label)
    made = smartaug.grads.benefit(model, tokens, direction)[1]
    wanted = smartaug.grads.benefit(model, tokens, direction, "difference")[1]
    assert torch.equal(made, wanted)
    assert bool(made.abs().sum() > 0)


# --- through the loader ----------------------------------------------------------------------------------------------

SIZE = 24
DATA = TensorDataset(*pairs(SIZE, 5, torch.float32))
DICTS = [{"image": image, "tokens": tokens} for image, tokens in DATA]
READINGS = {
    "tuples": (DATA, {"inputs": [0, 1], "target": 1}, 1),
    "dicts": (DICTS, {"inputs": ["image", "tokens"], "target": "tokens"}, "tokens"),
}
METHODS = {
    "SAFLEX": {},
    "SAFLEX centred, shrunk": {"centred": True, "shrunk": True},
    "SAFLEX at loss": {"when": "loss", "method": "difference"},
    "LearningToReweight": {"every": 2, "ema": 0.5},
    "MetaWeightNet": {},
}


def weighed(method, reading, model, steps=3, **more):
    """(target, weights, labels) of the batches of one pass, with a step of training behind each."""
    data, keywords, key = READINGS[reading]
    settings = {"validation_batch": 8, "criterion": ContrastiveLoss(), **METHODS[method], **more}
    stage = getattr(smartaug, method.partition(" ")[0])(model, torch.utils.data.Subset(data, range(8)), **settings)
    training = torch.utils.data.Subset(data, range(8, SIZE))
    loader = smartaug.DataLoader(training, 8, reweight=stage, seed=0, device="cpu", **keywords)
    criterion, optimizer, made = Loss(ContrastiveLoss()), torch.optim.SGD(model.parameters(), lr=0.1), []
    for batch in loader:
        image, tokens = (batch[0], batch[1]) if reading == "tuples" else (batch["image"], batch["tokens"])
        loss = criterion(model(image, tokens), tokens)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        made.append((loss.detach(), batch[key].weight, batch[key].soft))
    return made, stage


@pytest.mark.parametrize("reading", READINGS)
@pytest.mark.parametrize("method", METHODS)
def test_methods_learn_weights_and_labels_of_pairs(method, reading):
    made, stage = weighed(method, reading, Towers())
    again, _ = weighed(method, reading, Towers())
    assert len(made) == 2
    for (loss, weight, soft), (loss_again, *_) in zip(made, again, strict=True):
        assert bool(torch.isfinite(loss))
        assert torch.equal(loss, loss_again)
        if method == "SAFLEX at loss":
            continue  # only Loss sees them
        assert weight.shape == (8,)
        assert abs(float(weight.mean()) - 1) < 1e-5
        assert (soft is not None) == method.startswith("SAFLEX")
        if soft is not None:
            assert soft.shape == (8, 8)
            assert torch.allclose(soft.sum(1), torch.ones(8), atol=1e-5)
    assert stage.stats()["batches"] == 2


def test_the_weights_and_labels_are_the_rule_on_exact_benefits():
    model, seen = Towers(), []

    class Note(smartaug.SAFLEX):
        def weigh(self, grads, batch, trace):
            seen.append((grads.benefit(), grads.labels))
            return super().weigh(grads, batch, trace)

    data, keywords, _ = READINGS["tuples"]
    held = tuple(part[:8] for part in data.tensors)
    stage = Note(model, (held, held[1]), validation_batch=8, criterion=ContrastiveLoss(), balanced=True)
    loader = smartaug.DataLoader(torch.utils.data.Subset(data, range(8, SIZE)), 8, reweight=stage, **keywords)
    image, tokens = next(iter(loader))
    direction = smartaug.grads.direction(model, held, held[1], ContrastiveLoss())
    log_p, benefits = smartaug.grads.benefit(
        model, (image, tokens.plain), direction, against=(ContrastiveLoss(), tokens.plain)
    )
    (log_p_seen, benefits_seen), labels = seen[0]
    assert torch.allclose(log_p_seen, log_p, atol=1e-6)
    assert torch.allclose(benefits_seen, benefits, atol=1e-6)
    assert torch.equal(labels, torch.eye(8))
    weight, soft = smartaug.SAFLEX.rule(benefits, log_p, torch.eye(8))
    assert torch.allclose(tokens.weight, weight, atol=1e-5)
    assert torch.allclose(tokens.soft, soft, atol=1e-5)


def test_between_weighed_batches_pairs_keep_their_weight_and_no_label():
    made, stage = weighed("SAFLEX", "tuples", Towers(), weigh_every=2)
    assert made[0][2] is not None
    assert made[1][2] is None
    assert stage.state_dict()["memory"]["soft"].shape[1] == 0


def test_copies_and_checkpoints():
    model = Towers()
    _, stage = weighed("SAFLEX", "tuples", model, every=2)
    batch = smartaug.Batch(DATA.tensors[:2], DATA.tensors[1], None, None, torch.arange(SIZE))
    twins = [copy.deepcopy(stage), pickle.loads(pickle.dumps(stage)).bind(model)]
    wanted = stage(batch, None)
    for twin in twins:
        for part, other in zip(twin(batch, None), wanted, strict=True):
            assert torch.equal(part, other)


def test_real_pairs_keep_weight_1_and_their_own_label():
    real, generated = torch.utils.data.random_split(DATA, [8, 16], torch.Generator().manual_seed(0))
    together = smartaug.Generated(real, generated)
    stage = smartaug.SAFLEX(Towers(), real, validation_batch=8, criterion=ContrastiveLoss())
    loader = smartaug.DataLoader(together, 12, shuffle=True, reweight=stage, inputs=[0, 1], target=1, seed=0)
    for _, tokens in loader:
        kept = tokens.index < 8
        assert torch.equal(tokens.weight[kept], torch.ones(int(kept.sum())))
        assert torch.equal(tokens.soft[kept], torch.eye(12)[kept])
        assert not torch.equal(tokens.soft[~kept], torch.eye(12)[~kept])


NAMES = ("Identity", "Flip", "Swap")


def policy_of(model, held, lr=0.3, **settings):
    return smartaug.MetaAugment(
        model, (held, held[1]), operations=NAMES, lr=lr, criterion=ContrastiveLoss(), **settings
    )


def test_a_policy_on_pairs_has_the_hypergradient_of_second_order_autograd():
    model, held, (image, tokens) = Towers().double(), pairs(12, 7), pairs(9)
    ops = torch.stack([torch.arange(9) % 3, torch.arange(9) // 3], 1)
    batch, trace = smartaug.Batch((image, tokens), tokens), Trace(ops, torch.zeros(9, 2), NAMES)
    stage, seen = policy_of(model, held, validation_batch=6), []
    stage(batch, trace)  # makes the network
    before = copy.deepcopy(stage.net)
    stage.net.register_forward_hook(lambda _, args, __: seen.append(args))
    drawn, _ = ValidationBatches((held, held[1]), 6, criterion=ContrastiveLoss()).batch(1, torch.device("cpu"))
    weight, soft = stage(batch, trace)
    a, b, _ = model(image, tokens)
    assert torch.allclose(seen[0][0], torch.cat([F.normalize(a), F.normalize(b)], 1), atol=1e-12)
    wanted = reference.pair_hypergradient(
        model, before, seen[0], (image, tokens), drawn, lambda values: values["scale"].exp(), 0.3
    )
    for parameter, part in zip(stage.net.parameters(), wanted, strict=True):
        assert float((parameter.grad - part).abs().max()) <= 1e-10
    assert any(float(part.abs().max()) > 1e-6 for part in wanted)
    assert soft is None
    assert float(weight.mean()) == pytest.approx(1.0)


def test_a_policy_on_pairs_of_pictures_and_words_learns_through_the_loader():
    policy = smartaug.RandAugment(2, (0, 30), backend="torch")
    images = torch.randint(0, 256, (SIZE, 3, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    data = TensorDataset(images, DATA.tensors[1])

    class Pictures(Towers):
        def forward(self, image, tokens):
            return super().forward(image.float().mean((2, 3)).repeat(1, 2)[:, :5] / 255, tokens)

    model, held = Pictures(), (images[:8], DATA.tensors[1][:8])
    stage = smartaug.MetaAugment(model, (held, held[1]), policy=policy, validation_batch=8, criterion=ContrastiveLoss())
    training = torch.utils.data.Subset(data, range(8, SIZE))
    loader = smartaug.DataLoader(training, 8, augment=policy, reweight=stage, inputs=[0, 1], target=1, seed=0)
    before = None
    for _ in range(2):
        for image, tokens in loader:
            loss = Loss(ContrastiveLoss())(model(image, tokens), tokens)
            assert bool(torch.isfinite(loss))
            before = before or [part.clone() for part in stage.net.parameters()]
    assert stage.stats()["batches"] == 4
    assert any(not torch.equal(*parts) for parts in zip(before, stage.net.parameters(), strict=True))
    assert stage.probabilities.std() > 0


def test_a_policy_needs_the_features_of_pairs():
    class Products(Towers):
        def forward(self, image, tokens):
            a, b, scale = super().forward(image, tokens)
            return scale * a @ b.T

    stage = policy_of(Products(), DATA.tensors, validation_batch=8)
    with pytest.raises(TypeError, match="features of both towers are needed, got one tensor"):
        stage(smartaug.Batch(DATA.tensors, DATA.tensors[1]), None)


def test_a_validation_batch_holds_each_pair_once():
    stage = smartaug.LearningToReweight(Towers(), DATA, validation_batch=10, criterion=ContrastiveLoss())
    for step in range(6):
        stage.validation.batch(step, torch.device("cpu"))
        assert len(set(stage.validation._rows(step))) == 10
    more = smartaug.LearningToReweight(Towers(), DATA, validation_batch=25, criterion=ContrastiveLoss())
    with pytest.raises(ValueError, match="asks for 25 on all ranks, of 24; write validation_batch=24"):
        more.validation.batch(0, torch.device("cpu"))


def test_labels_of_pairs_are_checked_whatever_carries_the_weights():
    class Half:
        criterion = ContrastiveLoss()

        def __init__(self, soft):
            self.soft = soft

        def __call__(self, batch, trace):
            return None, self.soft

    numbers = TensorDataset(torch.randn(8, 5), torch.randn(8, 20))  # rows of floats, wider than the batch
    loader = smartaug.DataLoader(numbers, 4, reweight=Half(torch.full((4, 4), 0.25)), inputs=[0, 1], target=1)
    assert next(iter(loader))[1].soft.shape == (4, 4)
    loader = smartaug.DataLoader(numbers, 4, reweight=Half(torch.ones(4, 4)), inputs=[0, 1], target=1)
    with pytest.raises(ValueError, match="must sum to 1"):
        next(iter(loader))


def test_open_clip_from_scratch():
    open_clip = pytest.importorskip("open_clip")
    torch.manual_seed(0)
    model = open_clip.CLIP(
        embed_dim=16,
        vision_cfg={"image_size": 16, "patch_size": 8, "layers": 1, "width": 32, "head_width": 16},
        text_cfg={"context_length": 6, "vocab_size": 20, "layers": 1, "width": 32, "heads": 2},
    )
    number = torch.arange(24)
    words = torch.stack([number // 5, number % 5 + 5, *[torch.full((24,), 19)] * 4], 1)  # 19 marks the end
    images = (number * 10)[:, None, None, None].expand(-1, 3, 16, 16).to(torch.uint8).contiguous()
    data = TensorDataset(images, words)
    held = ((images[::3].float() / 127.5 - 1, words[::3]), words[::3])
    loader = smartaug.DataLoader(
        torch.utils.data.Subset(data, [row for row in range(24) if row % 3]),
        batch_size=8,
        shuffle=True,
        augment=[smartaug.Flip(), smartaug.Normalize(0.5, 0.5)],
        reweight=smartaug.SAFLEX(model, held, validation_batch=8, temperature=0.5, criterion=ContrastiveLoss()),
        inputs=[0, 1],
        target=1,
        seed=0,
    )
    criterion, optimizer = Loss(ContrastiveLoss()), torch.optim.AdamW(model.parameters(), lr=1e-2)
    before = ContrastiveLoss()(model(*held[0])).item()
    for _ in range(6):
        for image, text in loader:
            loss = criterion(model(image, text), text)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    assert ContrastiveLoss()(model(*held[0])).item() < before
    assert loader.stats()["reweight"]["batches"] == 12
    assert loader.stats()["fallbacks"] == 0
