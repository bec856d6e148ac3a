"""Pipelines inside the user's own objects and functions: what is lifted equals the pipeline in `transform`."""

import functools
import io
import pickle
import sys
import types

import albumentations as A
import numpy as np
import pytest
import torch
from albumentations.pytorch import ToTensorV2
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torch import nn
from torch.utils.data import ConcatDataset, Dataset, Subset
from torch.utils.data import DataLoader as TorchDataLoader
from torchvision import transforms as T
from torchvision.transforms import v2

import smartaug
from smartaug.lift.holders.copies import replaced
from smartaug.lift.holders.functions import Refilled, variables
from smartaug.lift.holders.paths import read
from smartaug.lift.holders.search import pipelines_in
from tests.lifting import photos

COUNT = 12
PICTURES = photos(COUNT, 28, 30)


def recipe(flip=0.5):
    """Drawn with flip=0.5, but for the crop; with 0.0 or 1.0 the same each time."""
    return T.Compose(
        [T.CenterCrop(24), T.RandomHorizontalFlip(flip), T.ToTensor(), T.Normalize((0.5,) * 3, (0.2,) * 3)]
    )


class Pictures(Dataset):
    """PIL images through ``transform``."""

    def __init__(self, transform, **others):
        self.transform = transform
        vars(self).update(others)

    def __len__(self):
        return COUNT

    def __getitem__(self, index):
        return self.transform(Image.fromarray(PICTURES[index])), index % 3


def loaded(dataset, **others):
    return smartaug.DataLoader(dataset, 4, lift=True, seed=0, device="cpu", **others)


def images_of(loader):
    made = [batch["pixel_values"] if isinstance(batch, dict) else batch[0] for batch in loader]
    assert loader.stats()["lifted"] == COUNT
    return torch.cat(made)


def expected():
    return images_of(loaded(Pictures(recipe())))


# --- functions of Hugging Face's datasets ----------------------------------------------------------------------------


@functools.cache
def table():
    from datasets import Dataset as Table
    from datasets import Features, Value
    from datasets import Image as Pixels

    rows = []
    for picture in PICTURES:
        file = io.BytesIO()
        Image.fromarray(picture).save(file, "PNG")
        rows.append({"bytes": file.getvalue(), "path": None})
    features = Features({"image": Pixels(), "label": Value("int64")})
    return Table.from_dict({"image": rows, "label": [n % 3 for n in range(COUNT)]}, features=features)


def collate(samples):
    return {
        "pixel_values": torch.stack([sample["pixel_values"] for sample in samples]),
        "label": torch.tensor([sample["label"] for sample in samples]),
    }


pipeline, other = recipe(), recipe(1.0)
PIPELINES = {"train": pipeline, "val": other}
settings_of_the_run = types.SimpleNamespace(train=pipeline, size=24)
presets = types.ModuleType("presets")
presets.train_tf, presets.val_tf = pipeline, other
sys.modules["presets"] = presets


def as_documented(examples):
    examples["pixel_values"] = [pipeline(image.convert("RGB")) for image in examples["image"]]
    return examples


def new_batch(batch):
    return {"pixel_values": [pipeline(image) for image in batch["image"]], "label": batch["label"]}


def by_map(batch):
    return {"pixel_values": list(map(pipeline, batch["image"])), "label": batch["label"]}


def of_a_dict(batch):
    return {"pixel_values": [PIPELINES["train"](image) for image in batch["image"]], "label": batch["label"]}


def of_a_namespace(batch):
    return {"pixel_values": [settings_of_the_run.train(image) for image in batch["image"]], "label": batch["label"]}


def of_a_module(batch):
    return {"pixel_values": [presets.train_tf(image) for image in batch["image"]], "label": batch["label"]}


def by_default(batch, tf=pipeline):
    return {"pixel_values": [tf(image) for image in batch["image"]], "label": batch["label"]}


def by_keyword(batch, *, tf=pipeline):
    return by_default(batch, tf)


def given_as(batch, tf):
    return {"pixel_values": [tf(image) for image in batch["image"]], "label": batch["label"]}


def one(image):
    return pipeline(image.convert("RGB"))


def by_another(batch):
    return {"pixel_values": [one(image) for image in batch["image"]], "label": batch["label"]}


def closed():
    inner = recipe()

    def prepare(batch):
        batch["pixel_values"] = [inner(image) for image in batch["image"]]
        del batch["image"]
        return batch

    return prepare


def wrapped(function):
    @functools.wraps(function)
    def called(batch):
        return function(batch)

    return called


class Processor:
    def __init__(self):
        self.train, self.val = recipe(), recipe(1.0)

    def prepare(self, batch):
        return self(batch)

    def __call__(self, batch):
        return {"pixel_values": [self.train(image) for image in batch["image"]], "label": batch["label"]}


FUNCTIONS = {
    "as documented": as_documented,
    "a new batch": new_batch,
    "map": by_map,
    "lambda": lambda batch: {"pixel_values": [pipeline(image) for image in batch["image"]], "label": batch["label"]},
    "closure": closed(),
    "default": by_default,
    "keyword": by_keyword,
    "partial": functools.partial(given_as, tf=recipe()),
    "argument": functools.partial(lambda tf, batch: given_as(batch, tf), recipe()),
    "method": Processor().prepare,
    "object": Processor(),
    "another function": by_another,
    "decorated": wrapped(as_documented),
    "dict": of_a_dict,
    "namespace": of_a_namespace,
    "module": of_a_module,
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_functions_of_with_transform_give_the_same_pictures(name):
    function = FUNCTIONS[name]
    dataset = table().with_transform(function)
    before = {**function.__globals__} if isinstance(function, types.FunctionType) else {}
    loader = loaded(dataset, collate_fn=collate)
    assert torch.equal(images_of(loader), expected())
    assert dataset.format["format_kwargs"]["transform"] is function
    assert all(function.__globals__[name] is value for name, value in before.items())
    again = loaded(loader.dataset, collate_fn=collate)  # as a framework does that builds the loader anew
    assert torch.equal(images_of(again), expected())


@pytest.mark.parametrize("name", ["as documented", "partial", "method", "dict", "namespace"])
def test_functions_in_workers_that_were_started_anew(name):
    """Pickled by their names, with the lifted pipeline beside them."""
    loader = loaded(table().with_transform(FUNCTIONS[name]), collate_fn=collate)
    copied = pickle.loads(pickle.dumps(loader.dataset))
    assert [sample["pixel_values"].shape for sample in copied.__getitems__([0, 1])] == [(3, 24, 24)] * 2
    assert "Deferred" in type(copied[0]["pixel_values"]).__name__


def test_a_function_in_a_worker():
    dataset = table().with_transform(as_documented)
    loader = loaded(dataset, collate_fn=collate, num_workers=1, multiprocessing_context="forkserver")
    assert torch.equal(images_of(loader), expected())


def test_set_transform_and_albumentations():
    boxes = A.Compose([A.HorizontalFlip(), A.Normalize(), ToTensorV2()])

    def prepare(batch):
        return {"image": [boxes(image=np.array(image))["image"] for image in batch["image"]], "label": batch["label"]}

    dataset = table().select(range(COUNT))
    dataset.set_transform(prepare)
    loader = loaded(dataset)  # torch's own collate function
    assert {batch["image"].dtype for batch in loader} == {torch.float32}
    assert loader.stats()["lifted"] == COUNT


LATER = st.sets(st.integers(2, COUNT - 1))  # two samples are read when the loader is made


@pytest.mark.filterwarnings("ignore:lift=True had no effect")  # nearly all samples are touched
@settings(max_examples=12, deadline=None)
@given(touched=LATER, second=LATER, size=st.integers(1, 5))
def test_every_sample_is_what_the_function_gives(touched, second, size):
    """Of samples that a function works on, or puts through another pipeline, nothing is lifted."""
    first, rare = recipe(1.0), recipe(0.0)

    def prepare(batch):
        made = []
        for image, label in zip(batch["image"], batch["number"], strict=True):
            picture = (rare if label in second else first)(image)
            made.append(picture * 0.5 if label in touched else picture)
        return {"pixel_values": made, "label": batch["label"]}

    dataset = table().add_column("number", list(range(COUNT))).with_transform(prepare)
    loader = smartaug.DataLoader(dataset, size, lift=True, seed=0, device="cpu", collate_fn=collate)
    torch.testing.assert_close(
        torch.cat([batch["pixel_values"] for batch in loader]),
        torch.cat([batch["pixel_values"] for batch in TorchDataLoader(dataset, size, collate_fn=collate)]),
    )


def stacked(batch):
    return {"pixel_values": torch.stack([pipeline(image) for image in batch["image"]]), "label": batch["label"]}


def makes_it(batch):
    made = recipe()
    return {"pixel_values": [made(image) for image in batch["image"]], "label": batch["label"]}


def calls_both(batch):
    second = [other(image) for image in batch["image"]]
    return {"pixel_values": [pipeline(image) for image in batch["image"]], "second": second, "label": batch["label"]}


def counts(batch):
    global pipeline
    pipeline = pipeline
    return new_batch_of(batch, pipeline)


def new_batch_of(batch, tf):
    return {"pixel_values": [tf(image) for image in batch["image"]], "label": batch["label"]}


class ImageProcessor:
    image_mean, image_std = (0.5,) * 3, (0.2,) * 3

    def __call__(self, image):
        return torch.zeros(3, 4, 4)


processor = ImageProcessor()


def by_processor(batch):
    return {"pixel_values": [processor(image) for image in batch["image"]], "label": batch["label"]}


REFUSED = {
    "stack": (
        stacked,
        r"stacked \(test_lift_holders.py, line \d+\) works on the image .* into a list \(batch.*torch.st",
    ),
    "inside": (makes_it, r"makes_it \(test_lift_holders.py, line \d+\) names no pipeline .* once, outside of the"),
    "several": (calls_both, r"calls_both \(.*\) calls several pipelines \(.*other, pipeline\).* into one Compose"),
    "assigned": (counts, r"counts \(.*\) names no pipeline of a known library"),
    "processor": (by_processor, r"processor is an image processor.*do_rescale=False.*Normalize\(processor.image_mean"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_not_lifted_says_which_line_to_change(name):
    function, words = REFUSED[name]
    dataset = table().with_transform(function)
    with pytest.warns(smartaug.NoEffectWarning, match=words):
        assert smartaug.lift(dataset).augment is None
    with pytest.warns(smartaug.NoEffectWarning, match=words):
        loader = loaded(dataset, collate_fn=collate)
    assert next(iter(loader))["pixel_values"].dtype == torch.float32


@pytest.mark.parametrize("form", [None, "torch", "numpy"])
def test_tables_without_a_function_say_so(form):
    with pytest.warns(smartaug.NoEffectWarning, match="Dataset keeps no pipeline, since it has no function of with_tr"):
        assert "nothing is lifted" in smartaug.lift(table().with_format(form)).explain()


def test_streams_and_dicts_of_tables_say_what_to_write():
    from datasets import DatasetDict

    with pytest.warns(smartaug.NoEffectWarning, match="IterableDataset keeps no pipeline of a known library"):
        smartaug.lift(table().to_iterable_dataset())
    with pytest.raises(TypeError, match=r"got DatasetDict; write one of them: lift\(datasets\['train'\]\)"):
        smartaug.lift(DatasetDict({"train": table()}))


def test_parts_of_tables_are_lifted():
    whole = table().with_transform(as_documented)
    for part in (Subset(whole, range(4)), ConcatDataset([whole, whole]), whole.shuffle(seed=0), whole.select([3, 1])):
        loader = loaded(part, collate_fn=collate)
        list(loader)
        assert loader.stats()["lifted"] == len(part)


@pytest.mark.parametrize("form", [None, "torch", "numpy"])
def test_a_dataset_around_a_table_of_any_format(form):
    class Around(Dataset):
        def __init__(self):
            self.table = table().with_format(form)
            tensors = [v2.RandomHorizontalFlip(), v2.ToDtype(torch.float32, scale=True)]
            self.transform = v2.Compose(tensors if form == "torch" else [v2.ToImage(), *tensors])

        def __len__(self):
            return COUNT

        def __getitem__(self, index):
            row = self.table[index]
            return self.transform(row["image"]), row["label"]

    assert images_of(loaded(Around())).dtype == torch.float32


# --- changes after lifting -------------------------------------------------------------------------------------------


def test_another_pipeline_of_a_function_is_noticed(monkeypatch):
    dataset = table().with_transform(as_documented)
    loader = loaded(dataset, collate_fn=collate)
    images_of(loader)
    with monkeypatch.context() as patch:
        patch.setattr(sys.modules[__name__], "pipeline", recipe())
        with pytest.raises(RuntimeError, match=r"Dataset\.pipeline was Compose.* make the loader anew"):
            next(iter(loader))
    next(iter(loader))
    dataset.set_transform(new_batch)  # which calls the same pipeline
    with pytest.raises(RuntimeError, match="by which Dataset reaches its pipeline was replaced"):
        next(iter(loader))
    dataset.reset_format()
    with pytest.raises(RuntimeError, match="is not there now"):
        next(iter(loader))


def test_another_entry_of_a_dict_is_noticed(monkeypatch):
    loader = loaded(table().with_transform(of_a_dict), collate_fn=collate)
    images_of(loader)
    monkeypatch.setitem(PIPELINES, "test", recipe())
    with pytest.raises(RuntimeError, match="or partial by which Dataset reaches its pipeline was replaced or changed"):
        next(iter(loader))


def test_a_setting_of_the_pipeline_in_a_function_is_watched():
    inner = recipe()
    dataset = table().with_transform(functools.partial(given_as, tf=inner))
    loader = loaded(dataset, collate_fn=collate)
    inner.transforms[1].p = 0.9
    with pytest.raises(RuntimeError, match="changed after lift=True took it over"):
        next(iter(loader))


SCALE = 1.0


def scaled(batch):
    return new_batch({**batch, "label": [label * SCALE for label in batch["label"]]})


def test_other_globals_are_read_when_the_function_reads_them(monkeypatch):
    loader = loaded(table().with_transform(scaled), collate_fn=collate)
    assert next(iter(loader))["label"].tolist() == [0, 1, 2, 0]
    monkeypatch.setattr(sys.modules[__name__], "SCALE", 3.0)
    assert next(iter(loader))["label"].tolist() == [0, 3, 6, 0]


# --- objects that hold a pipeline ------------------------------------------------------------------------------------


class Preset:
    def __init__(self):
        self.transforms, self.strong = recipe(), False

    def __call__(self, image):
        return self.transforms(image)


class Module(nn.Module):
    def __init__(self):
        super().__init__()
        self.tf = nn.Sequential(v2.RandomHorizontalFlip(), v2.ToImage(), v2.ToDtype(torch.float32, scale=True))

    def forward(self, image):
        return self.tf(image)


class Views:
    def __init__(self, *pipelines):
        self.pipelines = list(pipelines)

    def __call__(self, image):
        return [one(image) for one in self.pipelines]


class Indexed(Dataset):
    def __init__(self, inner):
        self.inner = inner

    def __len__(self):
        return len(self.inner)

    def __getitem__(self, index):
        return (*self.inner[index], index)


class Modes(Dataset):
    """A pipeline for each mode."""

    def __init__(self):
        self.tfs, self.mode = {"train": recipe(), "val": recipe(1.0)}, "train"

    def __len__(self):
        return COUNT

    def __getitem__(self, index):
        return self.tfs[self.mode](Image.fromarray(PICTURES[index])), index % 3


def unchanged(value):
    return value


class Transforms(Pictures):
    """Its ``transform`` is a function without a pipeline, its ``transforms`` the pipeline."""

    def __init__(self):
        super().__init__(unchanged, transforms=recipe())

    def __getitem__(self, index):
        return self.transforms(Image.fromarray(PICTURES[index])), self.transform(index % 3)


class Method(Modes):
    def __init__(self):
        self.pipeline = recipe()

    def transform(self, image):
        return self.pipeline(image)

    def __getitem__(self, index):
        return self.transform(Image.fromarray(PICTURES[index])), index % 3


HOLDERS = {
    "preset": lambda: Pictures(Preset()),
    "lambda": lambda: Pictures(lambda image: pipeline(image.convert("RGB"))),
    "partial": lambda: Pictures(functools.partial(lambda image, tf: tf(image), tf=recipe())),
    "method": lambda: Pictures(Preset().__call__),
    "inside another dataset": lambda: Indexed(Pictures(recipe())),
    "a preset inside": lambda: Indexed(Subset(Pictures(Preset()), range(COUNT))),
    "dict": Modes,
    "another name": lambda: Pictures(one, aug=Preset()),
    "both usual names": Transforms,
    "a method": Method,
}


@pytest.mark.parametrize("name", HOLDERS)
def test_holders_give_the_same_pictures(name):
    dataset = HOLDERS[name]()
    before = dict(vars(dataset))
    for form in (dataset, Subset(dataset, np.arange(COUNT))):
        assert torch.equal(images_of(loaded(form)), expected())
    assert vars(dataset) == before


def test_a_module_that_holds_a_pipeline():
    dataset = Pictures(Module())
    inside = dataset.transform.tf
    assert images_of(loaded(dataset)).dtype == torch.float32
    assert dataset.transform.tf is inside


def test_folds_and_concatenations():
    from sklearn.model_selection import KFold

    preset = Preset()
    whole = ConcatDataset([Pictures(preset), Pictures(preset)])
    for train, _ in KFold(3).split(np.arange(len(whole))):
        loader = loaded(Subset(whole, train))
        list(loader)
        assert loader.stats()["lifted"] == 16


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_cross_validation_by_skorch():
    import skorch
    from sklearn.model_selection import cross_val_score
    from skorch.helper import SliceDataset

    loaders = []

    class Kept(smartaug.DataLoader):
        def __init__(self, *args, **kwargs):
            super().__init__(*args, **kwargs)
            loaders.append(self)

    net = skorch.NeuralNetClassifier(
        nn.Sequential(nn.Flatten(), nn.Linear(3 * 24 * 24, 3)),
        criterion=nn.CrossEntropyLoss,
        iterator_train=Kept,
        iterator_train__lift=True,
        max_epochs=1,
        batch_size=4,
        train_split=None,
        verbose=0,
        classes=[0, 1, 2],
    )
    cross_val_score(net, SliceDataset(Pictures(Preset())), np.arange(COUNT) % 3, cv=3, error_score="raise")
    assert [loader.stats()["lifted"] for loader in loaders] == [8, 8, 8]


def test_what_is_assigned_to_a_holder_reaches_its_copy():
    dataset = Pictures(Preset())
    loader = loaded(dataset)
    dataset.transform.strong = True
    images_of(loader)
    assert loader.dataset.transform.strong
    assert loader.dataset.transform is not dataset.transform
    dataset.transform.transforms = recipe()
    with pytest.raises(RuntimeError, match=r"Pictures\.transform\.transforms was Compose"):
        next(iter(loader))


def test_views_of_one_pipeline_get_draws_of_their_own():
    drawn = T.Compose([T.RandomHorizontalFlip(), T.RandomRotation(30), T.ToTensor()])
    loader = loaded(Pictures(Views(drawn, drawn)), views="independent")
    (first, second), _ = next(iter(loader))
    assert loader.stats()["lifted"] == 4
    assert not torch.equal(first, second)


def test_views_of_different_pipelines_are_told_to_lift_each():
    class Two:
        def __init__(self):
            self.whole, self.part = recipe(), recipe()

        def __call__(self, image):
            return [self.whole(image), self.part(image)]

    lifted = smartaug.lift(Pictures(Two()))
    assert lifted.augment is None
    assert "lift each of the pipelines in its attributes whole, part by itself" in lifted.explain()


def test_a_table_of_several_labels(tmp_path):
    import pandas as pd

    frame = pd.DataFrame({"file": [f"{n}.jpg" for n in range(COUNT)], "a": np.arange(COUNT) % 2, "b": 1.0})
    for name, picture in zip(frame["file"], PICTURES, strict=True):
        Image.fromarray(picture).save(tmp_path / name, quality=95)

    class Table(Dataset):
        def __init__(self):
            self.frame, self.aug = frame, recipe()

        def __len__(self):
            return len(self.frame)

        def __getitem__(self, index):
            image = Image.open(tmp_path / self.frame.iloc[index, 0]).convert("RGB")
            return self.aug(image), torch.tensor(self.frame.iloc[index, 1:].astype(float).to_numpy())

    loader = loaded(Table())
    images_of(loader)
    assert loader.stats()["decoded"] == COUNT


def test_a_data_module_of_lightning():
    import lightning

    class Module(lightning.LightningDataModule):
        def setup(self, stage):
            self.train, _ = torch.utils.data.random_split(Pictures(Preset()), [8, 4])

        def train_dataloader(self):
            return smartaug.DataLoader(self.train, 4, shuffle=True, lift=True)

    class Net(lightning.LightningModule):
        def __init__(self):
            super().__init__()
            self.net, self.seen = nn.Sequential(nn.Flatten(), nn.Linear(3 * 24 * 24, 3)), []

        def training_step(self, batch, _):
            images, labels = batch
            self.seen.append(images.dtype)
            return nn.functional.cross_entropy(self.net(images), labels)

        def configure_optimizers(self):
            return torch.optim.SGD(self.parameters(), 0.01)

    net, module = Net(), Module()
    quiet = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
    lightning.Trainer(max_epochs=1, accelerator="cpu", enable_model_summary=False, **quiet).fit(net, module)
    assert net.seen == [torch.float32] * 2


class Classifier(nn.Module):
    def __init__(self):
        super().__init__()
        self.net, self.seen = nn.Sequential(nn.Flatten(), nn.Linear(3 * 24 * 24, 3)), set()

    def forward(self, pixel_values, labels):
        self.seen.add((pixel_values.dtype, pixel_values.min().item() < -1))
        logits = self.net(pixel_values)
        return {"loss": nn.functional.cross_entropy(logits, labels), "logits": logits}


def for_a_trainer(samples):
    batch = collate(samples)
    return {"pixel_values": batch["pixel_values"], "labels": batch["label"]}


@pytest.mark.parametrize("way", ["its loader", "two arguments"])
def test_hugging_faces_trainer(tmp_path, way):
    """With a loader of its own, or with the lifted dataset and a collate function that carries the rest."""
    import transformers

    class Augmenting(transformers.Trainer):
        def get_train_dataloader(self):
            self.made = loaded(self.train_dataset, collate_fn=self.data_collator)
            return self.accelerator.prepare(self.made)

    dataset, collator, kind = table().with_transform(as_documented), for_a_trainer, Augmenting
    if way == "two arguments":
        lifted = smartaug.lift(dataset)
        dataset, kind = lifted.dataset, transformers.Trainer
        collator = smartaug.Collate(for_a_trainer, augment=lifted.augment, seed=0)
    arguments = transformers.TrainingArguments(
        output_dir=str(tmp_path),
        per_device_train_batch_size=4,
        num_train_epochs=1,
        remove_unused_columns=False,
        use_cpu=True,
        report_to=[],
        save_strategy="no",
        disable_tqdm=True,
        dataloader_pin_memory=False,
    )
    model = Classifier()
    trainer = kind(model, arguments, train_dataset=dataset, data_collator=collator)
    trainer.train()
    assert trainer.state.global_step == 3
    assert model.seen == {(torch.float32, True)}  # normalised once
    if way == "its loader":
        assert trainer.made.stats()["lifted"] == COUNT


def test_dictionaries_of_monai_are_told_what_to_write():
    import monai.transforms as mt

    image = mt.EnsureChannelFirstd("image", channel_dim=-1)
    drawn = [mt.RandFlipd("image", prob=0.25), mt.OneOf([mt.RandCoarseDropoutd("image", 1, 4, prob=1.0)])]
    dataset = [{"image": picture.astype(np.float32), "label": 1} for picture in PICTURES[:4]]

    class Dictionaries(Dataset):
        def __init__(self, transform):
            self.transform = transform

        def __len__(self):
            return len(dataset)

        def __getitem__(self, index):
            return self.transform(dict(dataset[index]))

    with pytest.warns(smartaug.NoEffectWarning) as warned:
        loaded(Dictionaries(mt.Compose([image, *drawn])))
    written = "augment=[smartaug.Flip(p=0.25), smartaug.Erase(p=1.0)]"
    assert f"take RandFlipd, RandCoarseDropoutd out of this Compose, and write {written}" in str(warned[0].message)
    stages = [smartaug.Flip(p=0.25), smartaug.Erase(p=1.0)]
    batch = next(iter(smartaug.DataLoader(Dictionaries(mt.Compose([image])), 4, augment=stages)))
    assert batch["image"].shape == (4, 3, 28, 30)
    assert "smartaug has none of these" in smartaug.lift(mt.Compose([image])).explain()


# --- paths and functions ---------------------------------------------------------------------------------------------


def test_functions_keep_what_they_are():
    def outer(default=other, *, keyword=pipeline):
        "Said."
        return default, keyword, pipeline, len, __name__

    made = Refilled(outer, {("default", "default"): 1, ("default", "keyword"): 2, ("global", "pipeline"): 3})
    assert made() == (1, 2, 3, len, __name__)
    assert made(keyword=5) == (1, 5, 3, len, __name__)
    assert (made.__name__, made.__doc__) == ("outer", "Said.")
    assert outer() == (other, pipeline, pipeline, len, __name__)


def test_variables_that_a_function_assigns_or_looks_up_otherwise_are_left_out():
    inner = recipe()

    def assigns():
        nonlocal inner
        inner = recipe()
        return inner

    def looks_up():
        return globals()["pipeline"], pipeline

    assert ("cell", "inner") not in variables(assigns)
    assert not any(kind == "global" for kind, _ in variables(looks_up))


STRUCTURES = st.recursive(
    st.integers(),
    lambda inside: st.lists(inside, max_size=3) | st.dictionaries(st.text(max_size=2), inside, max_size=3),
    max_leaves=8,
)


def places(part, path=()):
    yield path
    pairs = part.items() if isinstance(part, dict) else enumerate(part) if isinstance(part, list) else ()
    for key, value in pairs:
        yield from places(value, (*path, ("item", key)))


@settings(max_examples=30, deadline=None)
@given(STRUCTURES, st.data())
def test_another_value_is_put_at_one_place_of_a_copy(part, data):
    path = data.draw(st.sampled_from(list(places(part))))
    old, new = {"old": 0}, object()
    part = old if not path else part
    if path:
        read(part, path[:-1])[path[-1][1]] = old
    before = pickle.dumps(part)
    copied = replaced(part, {id(old): new})
    assert read(copied, path) is new
    assert pickle.dumps(part) == before
    for other_path in places(part):
        if other_path[: len(path)] != path and path[: len(other_path)] != other_path:
            assert read(copied, other_path) is read(part, other_path)


def test_cycles_and_large_lists_end():
    around = types.SimpleNamespace(tf=pipeline, many=list(range(10_000)))
    around.me, around.list = around, [around, pipeline]
    (found,) = pipelines_in(around)
    assert found.pipeline is pipeline
    assert found.paths == ((("attribute", "tf"),), (("attribute", "list"), ("item", 1)))
