"""Models of several inputs: inputs= takes a list, and whoever calls the model hands it what the list names."""

import pytest
import torch
from torch import nn
from torch.utils.data import TensorDataset, default_collate

import smartaug
from smartaug.loading.copy_ahead import CopyAhead
from smartaug.pipeline.pipeline import Pipeline
from smartaug.pipeline.settings import Settings

SIZE, BATCH = 32, 16
GENERATOR = torch.Generator().manual_seed(0)
NUM, CAT = torch.randn(SIZE, 4, generator=GENERATOR), torch.arange(SIZE) % 3
IMAGES = torch.rand(SIZE, 3, 8, 8, generator=GENERATOR)
LABELS = torch.arange(SIZE) % 2

DICTS = [{"cat": CAT[i], "num": NUM[i], "image": IMAGES[i], "label": LABELS[i]} for i in range(SIZE)]
TUPLES = TensorDataset(LABELS, CAT, NUM, IMAGES)


class Table(nn.Module):
    """Takes its inputs by name or by position; the numbers first."""

    def __init__(self):
        super().__init__()
        self.embedding, self.linear = nn.Embedding(3, 4), nn.Linear(8, 2)
        self.seen = []

    def forward(self, num, cat):
        self.seen.append((tuple(num.shape), cat.dtype))
        return self.linear(torch.cat([num, self.embedding(cat)], 1))


class Fused(nn.Module):
    """A picture and numbers."""

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(3 * 64 + 4, 2)

    def forward(self, image, num):
        return self.linear(torch.cat([image.flatten(1), num], 1))


READINGS = {
    "by key": (DICTS, {"inputs": ["num", "cat"], "target": "label"}),
    "by position": (TUPLES, {"inputs": [2, 1], "target": 0}),
}


@pytest.mark.parametrize("reading", READINGS)
@pytest.mark.parametrize("method", ["SAFLEX", "LearningToReweight", "MetaWeightNet", "MetaAugment"])
def test_reweighters_call_the_model_with_what_inputs_names(reading, method):
    data, keywords = READINGS[reading]
    torch.manual_seed(0)
    table, held = Table(), torch.utils.data.Subset(data, range(16))
    extra = {"policy": None} if method == "MetaAugment" else {}
    reweight = getattr(smartaug, method)(table, held, **extra)
    loader = smartaug.DataLoader(torch.utils.data.Subset(data, range(16, 32)), BATCH, reweight=reweight, **keywords)
    batch = next(iter(loader))
    target = batch[keywords["target"]]
    assert target.weight.shape == (BATCH,)
    assert abs(float(target.weight.mean()) - 1) < 1e-5
    assert {(shape[1], dtype) for shape, dtype in table.seen} == {(4, torch.int64)}


def test_the_benefits_are_those_of_the_model_called_by_hand():
    torch.manual_seed(0)
    table = Table()
    held = (16, 32)
    given = {"num": NUM[:16], "cat": CAT[:16]}
    seen = []

    class Note(smartaug.SAFLEX):
        def weigh(self, grads, batch, trace):
            seen.append(grads.benefit()[1])
            return super().weigh(grads, batch, trace)

    kept = torch.utils.data.Subset(DICTS, range(*held))
    loader = smartaug.DataLoader(
        DICTS[:16], 16, reweight=Note(table, kept, validation_batch=16), inputs=["num", "cat"], target="label"
    )
    next(iter(loader))
    # every class equally often: of 8 + 8 validation samples all of them, in some order
    direction = smartaug.grads.direction(table, {"num": NUM[16:], "cat": CAT[16:]}, LABELS[16:])
    _, wanted = smartaug.grads.benefit(table, given, direction)
    assert torch.allclose(seen[0], wanted, atol=1e-5)


def test_validation_samples_may_have_another_form_where_one_input_is_named():
    network = nn.Sequential(nn.Flatten(), nn.Linear(3 * 64, 2))
    reweight = smartaug.SAFLEX(network, TensorDataset(IMAGES, LABELS))
    loader = smartaug.DataLoader(DICTS, BATCH, reweight=reweight, inputs="image", target="label")
    assert next(iter(loader))["label"].weight.shape == (BATCH,)


def test_validation_samples_without_an_input_that_is_named_say_so():
    reweight = smartaug.SAFLEX(Table(), TensorDataset(NUM, LABELS))
    loader = smartaug.DataLoader(DICTS, BATCH, reweight=reweight, inputs=["num", "cat"], target="label")
    with pytest.raises(ValueError, match=r"inputs='num' is not in the batch; its leaves are \[0\]: float32"):
        next(iter(loader))


def test_returns_batch_holds_what_the_model_is_called_with():
    settings = {"batch_size": BATCH, "returns": "batch"}
    by_key = next(iter(smartaug.DataLoader(DICTS, **settings, **READINGS["by key"][1])))
    assert list(by_key.inputs) == ["num", "cat"]
    assert Table()(**by_key.inputs).shape == (BATCH, 2)
    by_position = next(iter(smartaug.DataLoader(TUPLES, **settings, **READINGS["by position"][1])))
    assert Table()(*by_position.inputs).shape == (BATCH, 2)
    assert torch.equal(by_position.target.plain, LABELS[:BATCH])


@pytest.mark.parametrize("reading", READINGS)
def test_a_pass_of_a_coreset_calls_the_model_with_what_inputs_names(reading):
    data, keywords = READINGS[reading]
    torch.manual_seed(0)
    table = Table()
    embedding, labels = smartaug.coreset.embed_pass(table, data, progress=False, **keywords)
    assert torch.equal(labels, LABELS)
    wanted = table(NUM, CAT).softmax(1) - nn.functional.one_hot(LABELS, 2)
    assert torch.allclose(embedding.residual, wanted.detach(), atol=1e-6)
    chosen = smartaug.Coreset(0.5, embed="pass", model=table, warmup=0)
    loader = smartaug.DataLoader(data, 8, coreset=chosen, **keywords)
    assert len(list(loader)) == 2


# --- augmenting what can be ------------------------------------------------------------------------------------------


def test_only_pictures_among_several_inputs_are_augmented():
    plain = default_collate(DICTS[:BATCH])
    settings = {"inputs": ["num", "image"], "target": "label", "augment": smartaug.Flip(p=1.0)}
    with pytest.raises(ValueError, match=r"batch\['num'\] .* may be boxes .* still='num'"):  # prompts, say
        next(iter(smartaug.DataLoader(DICTS, BATCH, **settings)))
    loader = smartaug.DataLoader(DICTS, BATCH, reweight=smartaug.Uniform(), still="num", **settings)
    batch = next(iter(loader))
    assert torch.equal(batch["image"], plain["image"].flip(3))
    assert torch.equal(batch["num"], plain["num"])
    assert torch.equal(batch["label"].index, torch.arange(BATCH))


def test_a_transform_of_validation_batches_is_for_their_pictures():
    seen = []

    def bright(images):
        seen.append(tuple(images.shape))
        return images * 2

    reweight = smartaug.SAFLEX(Fused(), DICTS, transform=bright, validation_batch=8)
    settings = {"inputs": ["image", "num"], "target": "label", "augment": smartaug.Flip(), "still": "num"}
    with pytest.warns(UserWarning, match="so each is judged by itself"):
        loader = smartaug.DataLoader(DICTS, BATCH, reweight=reweight, **settings)
    next(iter(loader))
    assert seen == [(8, 3, 8, 8)]


def test_rows_among_several_inputs_are_mixed_and_numbers_of_categories_refuse():
    settings = {"inputs": ["num", "cat"], "target": "label", "seed": 0}
    with pytest.raises(
        ValueError, match=r"batch\['cat'\], int64 \(16,\), which inputs= names as well, cannot be mixed"
    ):
        next(iter(smartaug.DataLoader(DICTS, BATCH, augment=smartaug.MixUp(), **settings)))
    batch = next(iter(smartaug.DataLoader(DICTS, BATCH, augment=smartaug.MixUp(), still="cat", **settings)))
    assert not torch.equal(batch["num"], NUM[:BATCH])
    assert torch.equal(batch["cat"], CAT[:BATCH])
    assert batch["label"].soft.shape == (BATCH, 2)


@pytest.mark.parametrize("stage", [smartaug.CutMix(), smartaug.SwapFeatures(0.5), smartaug.SMOTE()])
def test_categories_are_taken_from_other_rows_with_the_numbers(stage):
    rows = torch.arange(SIZE)
    wide = rows[:, None].float().expand(-1, 6) + torch.arange(6) / 10  # each value says whose it is
    marks = torch.stack([rows, rows], 1)
    data = [{"num": wide[i], "cat": marks[i], "one": rows[i], "label": i % 2} for i in range(SIZE)]
    settings = {"inputs": ["num", "cat", "one"], "target": "label", "seed": 0}
    batch = next(iter(smartaug.DataLoader(data, BATCH, augment=stage, **settings)))
    assert batch["cat"].dtype == batch["one"].dtype == torch.int64
    assert batch["one"].shape == (BATCH,)
    owner = torch.cat([batch["num"].floor(), batch["cat"].float(), batch["one"][:, None].float()], 1).long()
    moved = owner != rows[:BATCH, None]
    assert moved[:, 6:].any()
    label = batch["label"].as_subclass(torch.Tensor)
    if isinstance(stage, smartaug.CutMix):
        assert moved[:, :6].any()
        partner = owner.gather(1, moved.long().argmax(1, keepdim=True))  # the only other owner of the row's values
        assert torch.equal(owner, torch.where(moved, partner, rows[:BATCH, None]))
        wanted = nn.functional.one_hot(owner % 2, 2).float().mean(1)  # the share of all nine columns
        assert torch.allclose(batch["label"].soft, wanted, atol=1e-6)
    elif isinstance(stage, smartaug.SMOTE):
        assert torch.equal(owner[:, 6:] % 2, label[:, None].expand(-1, 3))
    settings["still"] = "cat"
    batch = next(iter(smartaug.DataLoader(data, BATCH, augment=stage, **settings)))
    assert torch.equal(batch["cat"], marks[:BATCH])


def test_callables_between_swaps_see_the_numbers_alone():
    seen = []

    def double(rows):
        seen.append(rows.dtype)
        return rows * 2

    settings = {"inputs": ["num", "cat"], "target": "label", "seed": 0}
    stages = [smartaug.SwapFeatures(1.0), double, smartaug.GaussianNoise(0.1)]
    batch = next(iter(smartaug.DataLoader(DICTS, BATCH, augment=stages, **settings)))
    assert seen == [torch.float32]
    assert not torch.equal(batch["cat"], CAT[:BATCH])


def test_selected_rows_keep_their_tables_together():
    chosen = smartaug.Coreset(0.5, select=smartaug.coreset.Uniform(), apply="append")
    settings = {"inputs": ["num", "cat"], "target": "label", "seed": 1}
    loader = smartaug.DataLoader(DICTS, BATCH, coreset=chosen, augment=smartaug.SwapFeatures(1.0), **settings)
    for batch in loader:
        index = batch["label"].index
        assert len(batch["num"]) == len(batch["cat"]) == len(index) > BATCH
        assert torch.equal(batch["num"][:BATCH], NUM[index[:BATCH]])
        assert torch.equal(batch["cat"][:BATCH], CAT[index[:BATCH]])
        assert not torch.equal(batch["cat"][BATCH:], CAT[index[BATCH:]])


def test_pictures_mixed_beside_numbers_that_are_not_refuse():
    settings = {"inputs": ["image", "cat"], "target": "label", "still": "num"}
    with pytest.raises(ValueError, match=r"batch\['cat'\], .* cannot be mixed"):
        next(iter(smartaug.DataLoader(DICTS, BATCH, augment=smartaug.CutMix(), **settings)))


def test_several_rows_share_partner_and_share():
    wide = torch.arange(SIZE, dtype=torch.float32)[:, None]
    data = [{"a": wide[i].expand(3), "b": wide[i].expand(5, 2), "label": i % 2} for i in range(SIZE)]
    settings = {"inputs": ["a", "b"], "target": "label", "seed": 0}
    batch = next(iter(smartaug.DataLoader(data, BATCH, augment=smartaug.MixUp(), **settings)))
    assert torch.equal(batch["a"][:, 0], batch["b"][:, 0, 0])
    with pytest.raises(ValueError, match="CutMix pastes other shares of inputs of different widths"):
        next(iter(smartaug.DataLoader(data, BATCH, augment=smartaug.CutMix(), **settings)))


def test_inputs_of_which_none_can_be_augmented():
    with pytest.raises(ValueError, match=r"inputs=\['cat'\] names nothing that augment= could work on"):
        next(iter(smartaug.DataLoader(DICTS, BATCH, augment=smartaug.Flip(), inputs=["cat"], target="label")))


def test_a_coreset_repeats_every_input():
    chosen = smartaug.Coreset(0.5, select=smartaug.coreset.Uniform(), apply="append")
    settings = {"inputs": ["image", "num"], "target": "label", "still": "num", "seed": 1}
    loader = smartaug.DataLoader(DICTS, BATCH, coreset=chosen, augment=smartaug.Flip(), **settings)
    for batch in loader:
        index = batch["label"].index
        assert len(batch["image"]) == len(index) > BATCH
        assert torch.equal(batch["num"], NUM[index])


@pytest.mark.parametrize(
    ("settings", "moved"),
    [
        ({"augment": smartaug.Flip(), "still": "num"}, {"image"}),
        ({"reweight": smartaug.Uniform()}, {"image", "num", "label"}),
        ({"augment": smartaug.Flip(), "still": "num", "reweight": smartaug.Uniform()}, {"image", "num", "label"}),
    ],
)
def test_what_stages_read_is_copied_ahead_and_nothing_else(settings, moved):
    pipeline = Pipeline(Settings(inputs=["image", "num"], target="label", **settings))
    ahead = object.__new__(CopyAhead)  # its stream needs a GPU, what it chooses to move does not
    ahead._device, ahead._pipeline = torch.device("meta"), pipeline
    batch = ahead._moved(default_collate(DICTS[:4]), None)
    assert {name for name, leaf in batch.items() if leaf.device.type == "meta"} == moved
