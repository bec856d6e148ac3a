"""Pictures of batches in words, recording during training, and the page afterwards."""

import copy
import html.parser

import pytest
import torch
from PIL import Image
from torch import nn
from torch.utils.data import Dataset, IterableDataset
from torchvision import transforms as T

import smartaug
from smartaug.augment import (
    ColorJitter,
    Compose,
    CutMix,
    Flip,
    Normalize,
    OneOf,
    PadCrop,
    RandAugment,
    RandomApply,
    Sharpness,
)
from smartaug.augment.plan import Plan, Trace
from smartaug.cli.recorder import Recorder
from smartaug.loading.pictures.words import amount, makers, received

CLASSES = ["ant", "bee", "cat"]


class Pictures(Dataset):
    classes = CLASSES

    def __init__(self, size=30, floats=False):
        self.images = torch.randint(
            0, 256, (size, 3, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(0)
        )
        self.floats = floats

    def __len__(self):
        return len(self.images)

    def __getitem__(self, index):
        return self.images[index].float() / 255 if self.floats else self.images[index], index % 3


class ByParity:
    """Weight 0 for odd samples, 2 for even ones; the label of sample 0 moves to class 2."""

    def __call__(self, batch, trace):
        even = batch.index % 2 == 0
        weight = 2.0 * even.float()
        soft = torch.nn.functional.one_hot(batch.target, 3).float()
        soft[batch.index == 0] = torch.tensor([0.2, 0.1, 0.7])
        return weight, soft


def loader(**settings):
    stages = [PadCrop(1), RandAugment(1, 9), Normalize(0.5, 0.25)]
    return smartaug.DataLoader(
        Pictures(), **{"batch_size": 10, "shuffle": True, "augment": stages, "seed": 0, "device": "cpu", **settings}
    )


def test_magnitudes_have_units():
    policy = RandAugment()
    for name, magnitude, maker, said in (
        ("Rotate", 12.0, policy, "12°"),
        ("Brightness", 0.25, policy, "×1.25"),
        ("Brightness", 1.25, ColorJitter(0.4), "×1.25"),
        ("Sharpness", 2.0, Sharpness(2), "×2.00"),
        ("Brightness", 0.25, None, "0.25"),
        ("Brightness", 1.25, RandomApply([ColorJitter(0.4)]), "×1.25"),
        ("Brightness", 0.25, OneOf([policy, Flip()]), "×1.25"),
        ("Brightness", 0.25, OneOf([policy, ColorJitter(0.4)]), "0.25"),
        ("Rotate", -0.0, policy, "0°"),
        ("TranslateX", -3.0, policy, "-3 px"),
        ("Posterize", 4.0, policy, "to 4 bits"),
        ("Hue", 0.1, ColorJitter(), "36°"),
        ("Erase", 0.12, None, "12 % area"),
        ("HorizontalFlip", 0.0, Flip(), ""),
        ("Something", 3.0, None, "3"),
    ):
        assert amount(name, magnitude, maker) == said


def test_a_plan_in_words_names_partners_and_who_drew_what():
    stages = Compose([Flip(1.0), Compose([ColorJitter(0.4), RandAugment(2, 9)]), CutMix(p=1.0)])
    by = makers(stages, (5, 3, 8, 8))
    assert [type(one).__name__ for one in by] == ["Flip", "ColorJitter", "RandAugment", "RandAugment", "CutMix"]
    plan = stages.plan((5, 3, 8, 8), index=torch.arange(5), seed=0)
    for row in range(5):
        told = received(plan, row, by, [100, 101, 102, 103, 104])
        assert told[0] == "HorizontalFlip"
        assert told[1].startswith("Brightness ×")
        partner = 100 + int(plan.mixes[0].partner[row])
        share = f"{100 * float(plan.mixes[0].share[row]):.0f}"
        assert told[-1] == f"CutMix with sample {partner}, {share} % own"
    still = Plan((1, 3, 8, 8), (), Trace(torch.zeros(1, 1, dtype=torch.int64), torch.zeros(1, 1), ("Identity",)))
    assert received(still, 0, [None], [0]) == []


def caught_captions(monkeypatch):
    """What is written below the pictures, as the list that a call fills."""
    from smartaug.loading.pictures import show

    found, draw = [], show.image_grid

    def noted(images, captions, *arguments, **settings):
        found.extend(captions)
        return draw(images, captions, *arguments, **settings)

    monkeypatch.setattr(show, "image_grid", noted)
    return found


@pytest.mark.filterwarnings("ignore::smartaug.NoEffectWarning")  # no loss is computed here
def test_a_batch_is_shown_and_training_goes_on_as_if_it_was_not(tmp_path, monkeypatch):
    captions = caught_captions(monkeypatch)
    torch.manual_seed(1)
    plain = [images for images, _ in loader(reweight=ByParity())]
    torch.manual_seed(1)
    shown = loader(reweight=ByParity())
    recorder = smartaug.plots.record(shown)
    path = smartaug.plots.batch(shown, tmp_path / "a.png", images=4)
    assert shown.stats()["batches"] == 0
    again = [images for images, _ in shown]
    assert all(torch.equal(a, b) for a, b in zip(plain, again, strict=True))
    with Image.open(path) as image:
        assert image.size[0] > 500
    assert captions[:2] == ["sample 0: ant", "sample 3: ant"]
    assert captions[4].splitlines()[-2:] == ["weight 2.00", "cat 0.70, ant 0.20"]
    assert captions[5].splitlines()[-2:] == ["weight 0.00", "ant 1.00"]
    assert "px off centre" in captions[4]
    recorder.stop()
    assert recorder.samples == 30  # the batch that was only shown is not among them


def test_seeds_that_are_still_to_be_read_are_not_read_by_showing(tmp_path):
    shown = loader(seed=None)
    smartaug.plots.batch(shown, tmp_path / "a.png", images=2)
    torch.manual_seed(77)
    next(iter(shown))
    assert shown.state_dict()["stages"]["seed"] == 77


def test_lifted_views_and_mixtures_are_shown(tmp_path, monkeypatch):
    captions = caught_captions(monkeypatch)
    mixed = loader(augment=[CutMix(p=1.0, num_classes=3)])
    smartaug.plots.batch(mixed, tmp_path / "a.png", images=3)
    assert all("CutMix with sample" in caption for caption in captions[3:])
    floats = smartaug.DataLoader(Pictures(floats=True), 5, augment=[Flip(), nn.Identity()], device="cpu")
    assert smartaug.plots.batch(floats, tmp_path / "b.png").stat().st_size > 1000


class Lifted(Pictures):
    """As users write it: a transform of their own on a PIL image."""

    def __init__(self):
        super().__init__()
        self.transform = T.Compose([T.RandomHorizontalFlip(1.0), T.ToTensor(), T.Normalize((0.5,) * 3, (0.5,) * 3)])

    def __getitem__(self, index):
        return self.transform(T.functional.to_pil_image(self.images[index])), index % 3


@pytest.mark.parametrize("augment", [None, [RandAugment(1, 9), CutMix(p=1.0, num_classes=3)]])
def test_lifted_transforms_are_shown(tmp_path, monkeypatch, augment):
    captions = caught_captions(monkeypatch)
    lifted = smartaug.DataLoader(Lifted(), 6, shuffle=True, lift=True, augment=augment, device="cpu")
    lifted.show(tmp_path / "a.png", images=3)
    assert captions[:3] == ["sample 0: ant", "sample 5: cat", "sample 11: cat"]
    assert all(caption.startswith("HorizontalFlip") for caption in captions[3:])
    assert all("CutMix with sample" in caption for caption in captions[3:]) == (augment is not None)


def test_the_method_writes_what_the_function_writes(tmp_path, monkeypatch):
    captions = caught_captions(monkeypatch)
    subset = smartaug.DataLoader(torch.utils.data.Subset(Pictures(), [3, 4]), 2, augment=Flip(), device="cpu")
    subset.show(tmp_path / "a.png")
    assert captions[:2] == ["sample 0: ant", "sample 1: bee"]
    by_method = loader().show(tmp_path / "a.png", images=2)
    assert by_method.read_bytes() == smartaug.plots.batch(loader(), tmp_path / "b.png", images=2).read_bytes()
    assert by_method._repr_png_() == by_method.read_bytes()  # a notebook shows it
    assert loader().show(tmp_path / "c.pdf", images=2)._repr_png_() is None


class Stream(IterableDataset):
    def __iter__(self):
        return iter([(torch.full((3, 4, 4), row, dtype=torch.uint8), row % 2) for row in range(9)])


def test_streams_and_wrapped_loaders_are_shown(tmp_path, monkeypatch):
    captions = caught_captions(monkeypatch)
    batches = [(torch.zeros(2, 3, 4, 4), torch.zeros(2))]
    for given in (
        smartaug.wrap(batches, augment=Flip(1.0), device="cpu"),
        smartaug.DataLoader(Stream(), 2, augment=Flip(1.0), device="cpu"),
        smartaug.wrap(torch.utils.data.DataLoader(Stream(), 2), augment=Flip(1.0), device="cpu"),
        smartaug.wrap(torch.utils.data.DataLoader(Pictures(), 2), augment=Flip(1.0), device="cpu"),
    ):
        captions.clear()
        given.show(tmp_path / "a.png")
        assert captions[2:] == ["HorizontalFlip"] * 2
        assert given.stats()["batches"] == 0
        assert len(list(given)) > 0


def test_what_cannot_be_shown_is_refused(tmp_path):
    with pytest.raises(ValueError, match="has no stages"):
        smartaug.plots.batch(torch.utils.data.DataLoader(Pictures()), tmp_path / "a.png")
    with pytest.raises(ValueError, match="has no stages"):
        smartaug.DataLoader(Pictures()).show(tmp_path / "a.png")
    with pytest.raises(ValueError, match="has no images"):
        smartaug.wrap([(torch.zeros(2, 5), torch.zeros(2))], augment=[nn.Identity()], device="cpu").show()
    with pytest.raises(ValueError, match="batch_size=64"):
        smartaug.DataLoader(Pictures(), None, augment=Flip()).show()


def trained(given, epochs=3):
    criterion, model = smartaug.Loss(nn.CrossEntropyLoss()), nn.Sequential(nn.Flatten(), nn.Linear(192, 3))
    for _ in range(epochs):
        for images, target in given:
            criterion(model(images), target).backward()


def test_a_recorder_sums_up_what_the_stages_did():
    given = loader(reweight=ByParity())
    recorder = smartaug.plots.record(given)
    trained(given)
    recorder.stop()
    assert [(epoch.number, epoch.drawn, epoch.covered) for epoch in recorder.epochs] == [(n, 30, 30) for n in range(3)]
    for epoch in recorder.epochs:
        assert epoch.zero == pytest.approx(0.5)
        assert (epoch.weights[0], epoch.weights[-1]) == (0.0, 2.0)
        assert epoch.moved == pytest.approx(0.8 / 30)
        assert epoch.changed == pytest.approx(1 / 30)
    mean = recorder.weight_sum / recorder.weight_count
    assert mean.tolist() == [2.0, 0.0] * 15
    assert int(recorder.label_now[0]) == 2
    assert recorder.operations["PadCrop"].count == 90
    assert sum(one.count for name, one in recorder.operations.items() if name != "PadCrop") == 90
    trained(given, 1)
    assert len(recorder.epochs) == 3  # stopped


class AtTheLoss(ByParity):
    """The same weights, made when the loop's own output is there."""

    def __call__(self, batch, trace):
        return None, None

    def settle(self, output, target):
        return super().__call__(smartaug.Batch(None, target.plain, None, None, target.index), None)


def test_a_recorder_follows_subsets_and_weights_that_come_with_the_loss():
    half = smartaug.Coreset(0.5, select=smartaug.coreset.Uniform())
    given = loader(coreset=half, reweight=AtTheLoss())
    recorder = Recorder(given)
    trained(given, 2)
    recorder.stop()
    assert [epoch.drawn for epoch in recorder.epochs] == [15, 15]
    seen = recorder.weight_count > 0
    assert int(recorder.weight_count.sum()) == 30
    assert torch.equal(recorder.weight_sum[seen] / recorder.weight_count[seen], 2.0 * (seen.nonzero()[:, 0] % 2 == 0))
    assert recorder.epochs[0].covered == 15 <= recorder.epochs[1].covered == int((recorder.seen >= 0).sum())


def test_a_copy_of_the_loader_is_not_recorded():
    given = loader()
    recorder = smartaug.plots.record(given)
    other = copy.deepcopy(given)
    list(other)
    assert recorder.samples == 0
    list(given)
    assert recorder.samples == 30
    recorder.stop()


class Page(html.parser.HTMLParser):
    """Collects headings, text, addresses; fails on tags that do not close."""

    def __init__(self):
        super().__init__()
        self.open, self.sources, self.text = [], [], []

    def handle_starttag(self, tag, attrs):
        values = dict(attrs)
        self.sources += [values[name] for name in ("src", "href") if name in values]
        if tag not in ("meta", "img", "br"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text.append(data)


def test_the_page_holds_everything(tmp_path):
    given = loader(reweight=ByParity(), coreset=smartaug.Coreset(0.5, select=smartaug.coreset.Uniform()))
    smartaug.plots.record(given)
    trained(given)
    path = smartaug.plots.report(given, tmp_path / "a.html", samples=3)
    page = Page()
    page.feed(path.read_text(encoding="utf-8"))
    assert not page.open
    assert page.sources
    assert all(source.startswith("data:image/png;base64,") for source in page.sources)  # nothing from elsewhere
    text = "\n".join(page.text)
    for words in (
        "Weights over the epochs", "Labels moved", "Most trusted", "Most doubted", "weight 2.00 (", "weight 0.00 (",
        "stored as", "PadCrop", "Samples met", "in the last epoch", "Seconds by part", "reweight: ByParity", "samples",
    ):  # fmt: skip
        assert words in text, words


def test_the_page_says_what_there_is_nothing_of(tmp_path):
    given = loader(augment=None, lift=False, coreset=smartaug.Coreset(0.5, select=smartaug.coreset.Uniform()))
    recorder = smartaug.plots.record(given)
    list(given)
    text = smartaug.plots.report(recorder, tmp_path / "a.html").read_text()
    for words in ("No stage made weights.", "No stage made soft labels.", "No stage draws operations."):
        assert words in text


def test_recording_that_is_missing_or_double_is_refused(tmp_path):
    given = loader()
    with pytest.raises(ValueError, match="nothing was recorded; write recorder ="):
        smartaug.plots.report(given, tmp_path / "a.html")
    recorder = smartaug.plots.record(given)
    with pytest.raises(ValueError, match="recorded already"):
        smartaug.plots.record(given)
    with pytest.raises(ValueError, match="train first"):
        smartaug.plots.report(recorder, tmp_path / "a.html")
    with pytest.raises(ValueError, match="needs a smartaug loader with stages"):
        smartaug.plots.record(torch.utils.data.DataLoader(Pictures()))
