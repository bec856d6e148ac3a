"""``Lift(decode="batch")``: workers hand on files and crops, the loader decodes the batch, with the same pixels."""

import contextlib
import io
import pickle

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torchvision import transforms as v1
from torchvision.datasets import ImageFolder
from torchvision.transforms import v2

import smartaug
from smartaug import coreset, reweight
from smartaug.lift.decode import decoders, on_device
from smartaug.lift.decode.encoded import Counts, Encoded
from smartaug.lift.decode.parts import Part, Parts
from smartaug.loading import small_tensors
from smartaug.loading.copy_ahead import CopyAhead
from tests.test_lift_decode import BROKEN, FIRST, OPENED, PLAIN, WHOLE, Opens, encoded, epoch, folder, photo, pipeline

nvimgcodec = pytest.importorskip("nvidia.nvimgcodec")
__all__ = ["folder"]  # the fixture
SIMPLEJPEG = decoders.decoder_named("simplejpeg")


def part_of(data, box=None, size=None):
    with Image.open(io.BytesIO(data)) as image:
        left, top, right, bottom = box or (0, 0, *image.size)
        whole = image.size
    return Part(Encoded(data, whole, SIMPLEJPEG, Counts(), "batch"), (left, top, right, bottom), size or (
        bottom - top, right - left))  # fmt: skip


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("m", [v1, v2])
@pytest.mark.filterwarnings("ignore::UserWarning")  # v2.ToTensor is deprecated
def test_pixels_are_those_of_exact(m, workers):
    more = {"num_workers": 2, "multiprocessing_context": "fork"} if workers else {}
    for first in (m.RandomCrop(24), m.RandomResizedCrop(24), m.Resize((30, 21)), m.CenterCrop(50)):
        dataset = Opens(OPENED["converted"][1])
        dataset.transform = m.Compose([first, m.RandomHorizontalFlip(), m.ToTensor()])
        wanted, _ = epoch(dataset, "exact", **more)
        ours, loader = epoch(dataset, "batch", **more)
        assert torch.equal(ours, wanted)
        stats = loader.stats()
        inside = type(first).__name__ != "CenterCrop"  # which goes beyond the image, so that Pillow pads it
        assert (stats["decoded"], stats["decoded_batch"]) == (8, 8 if inside else 0)
        assert stats["lifted"] == 8
        assert stats["decoded_by_dataset"] == {}
        told = "8 of them with their batch, on the CPU, by nvImageCodec" if inside else "with their batch where"
        assert told in loader.explain()


HANDED_ON = {  # shares of the files, at least and at most
    "RandomResizedCrop": (1, 1),
    "Resize, RandomCrop": (1, 1),  # padding and cropping are lifted
    "timm": (0.9, 1),  # a box that reaches beyond the image is Pillow's
    "mirrored before": (0.1, 0.9),  # what is mirrored is decoded before
}


@pytest.mark.parametrize("name", FIRST)
def test_a_folder_of_all_kinds_of_files(folder, name):
    dataset = ImageFolder(str(folder), transform=pipeline(v1, FIRST[name](v1)))
    wanted, others = epoch(dataset, "region")
    ours, loader = epoch(dataset, "batch", num_workers=2, multiprocessing_context="fork")
    assert torch.equal(ours, wanted)
    stats, known = loader.stats(), others.stats()
    assert (stats["decoded"], stats["decoded_by_dataset"]) == (known["decoded"], known["decoded_by_dataset"])
    every = 12 + sum(file.startswith("plain") for file in WHOLE)
    least, most = HANDED_ON.get(name, (0, 0))
    assert known["decoded"] == every
    every -= 2  # one is progressive, one has more behind its end
    assert least * every <= stats["decoded_batch"] <= most * every


def test_datasets_that_use_their_pictures_get_pixels():
    class Uses(Opens):
        def __getitem__(self, index):
            image = self.transform(self.opened(self.files[index]))
            return image, index, float(image.mean()) if index % 2 else -1.0

    made = {}
    for decode in ("exact", "batch"):
        torch.manual_seed(0)
        dataset = Uses(OPENED["converted"][1])
        loader = smartaug.DataLoader(dataset, batch_size=4, lift=smartaug.Lift(decode=decode), seed=1)
        with pytest.warns(smartaug.NoEffectWarning):
            made[decode] = [torch.cat(parts) for parts in zip(*loader, strict=True)]
        assert loader.stats()["decoded"] == 8
    for ours, wanted in zip(made["batch"], made["exact"], strict=True):
        assert torch.equal(ours, wanted)


def two_views(transform):
    return lambda image: [transform(image), transform(image)]


def cutmix_of_lists(samples):
    images, labels = torch.utils.data.default_collate(samples)
    return v2.CutMix(num_classes=8)(images, labels)


SAMPLES = {
    "dict": lambda image, index: {"image": image, "label": index},
    "nested": lambda image, index: ((image, index), {"index": index}),
}


class Shaped(Opens):
    def __init__(self, shape):
        super().__init__(OPENED["converted"][1], FILES)
        self.shape = shape

    def __getitem__(self, index):
        return self.shape(self.transform(self.opened(self.files[index])), index)


FILES = [encoded(Image.fromarray(photo(40 + 7 * n, 90 - 5 * n)), quality=85) for n in range(8)]


def batches(dataset, decode, **options):
    torch.manual_seed(2)
    loader = smartaug.DataLoader(dataset, batch_size=4, lift=smartaug.Lift(decode=decode), seed=3, **options)
    return list(loader), loader


def assert_same(ours, wanted):
    ours, wanted = (torch.utils._pytree.tree_flatten(part)[0] for part in (ours, wanted))
    assert len(ours) == len(wanted) > 0
    for one, other in zip(ours, wanted, strict=True):
        assert type(one) is type(other)
        assert torch.equal(one, other) if isinstance(one, torch.Tensor) else one == other


@pytest.mark.parametrize("shape", SAMPLES)
def test_every_structure(shape):
    made = {decode: batches(Shaped(SAMPLES[shape]), decode) for decode in ("exact", "batch")}
    assert_same(made["batch"][0], made["exact"][0])
    assert made["batch"][1].stats()["decoded_batch"] == 8


def test_two_views_of_a_file_count_once():
    made = {}
    for decode in ("exact", "batch"):
        dataset = Opens(OPENED["converted"][1], FILES)
        dataset.transform = two_views(dataset.transform)
        made[decode] = batches(dataset, decode)
    assert_same(made["batch"][0], made["exact"][0])
    stats = made["batch"][1].stats()
    assert (stats["decoded"], stats["decoded_batch"]) == (8, 8)


def test_a_collate_function_that_mixes_gets_pixels():
    made = {}
    for decode in ("exact", "batch"):
        with pytest.warns(smartaug.NoEffectWarning):
            made[decode], _ = batches(Opens(OPENED["converted"][1], FILES), decode, collate_fn=cutmix_of_lists)
    assert_same(made["batch"], made["exact"])


def test_pictures_in_lists_and_of_unequal_size_are_decoded_where_they_are_read():
    made = {}
    for decode in ("exact", "batch"):
        dataset = Opens(OPENED["converted"][1], FILES)
        dataset.transform = v1.Compose([v1.Resize(30), v1.RandomHorizontalFlip(), v1.ToTensor()])
        made[decode], loader = batches(dataset, decode, collate_fn=lambda samples: tuple(zip(*samples, strict=True)))
    assert_same(made["batch"], made["exact"])
    assert (loader.stats()["decoded"], loader.stats()["decoded_batch"]) == (8, 0)


def test_plain_passes_coresets_weights_pictures_and_resuming(tmp_path):
    made = {}
    for decode in ("exact", "batch"):
        dataset = Opens(OPENED["converted"][1], FILES)
        options = {"coreset": smartaug.Coreset(0.5, select=coreset.RandomSubset()), "shuffle": True}
        found, loader = batches(dataset, decode, **options)
        with loader.plain():
            found += list(loader)
        state = None
        for number, batch in enumerate(loader):
            found.append(batch)
            if number == 0:
                state = loader.state_dict()
                break
        again = smartaug.DataLoader(dataset, 4, lift=smartaug.Lift(decode=decode), seed=3, **options)
        again.load_state_dict(state)
        found += list(again)
        before = loader.stats()["decoded"]
        smartaug.plots.batch(loader, tmp_path / f"{decode}.png")
        assert loader.stats()["decoded"] == before
        made[decode] = found
    ours, wanted = ([[leaf.plain if isinstance(leaf, smartaug.Target) else leaf for leaf in b] for b in made[decode]]
                    for decode in ("batch", "exact"))  # fmt: skip
    assert_same(ours, wanted)


def test_a_reweighter_and_its_validation_files():
    made = {}
    for decode in ("exact", "batch"):
        dataset = Opens(OPENED["converted"][1], FILES)
        dataset.targets = [index % 2 for index in range(8)]
        torch.manual_seed(0)
        model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(3 * 24 * 24, 8))
        evaluated = v1.Compose([v1.Resize((24, 24)), v1.ToTensor()])
        train, validation = smartaug.split_validation(dataset, 0.5, seed=0, transform=evaluated)
        method = reweight.SAFLEX(model, validation)
        loader = smartaug.DataLoader(train, 4, lift=smartaug.Lift(decode=decode), reweight=method, seed=3)
        torch.manual_seed(1)
        made[decode] = [(images, target.weight, target.plain) for images, target in loader]
    assert_same(made["batch"], made["exact"])


def test_broken_files():
    files = [PLAIN, BROKEN["half.jpg"], PLAIN]
    for decode in ("exact", "batch"):
        with pytest.raises(OSError, match="truncated"):
            epoch(Opens(OPENED["converted"][1], files), decode)
    ended = [PLAIN, BROKEN["half, with an end.jpg"], BROKEN["zeros within.jpg"], PLAIN]
    try:
        wanted = epoch(Opens(OPENED["converted"][1], ended), "user")[0]
    except OSError as error:
        with pytest.raises(OSError, match=str(error)[:10]):
            epoch(Opens(OPENED["converted"][1], ended), "batch")
    else:
        ours, loader = epoch(Opens(OPENED["converted"][1], ended), "batch")
        assert (ours - wanted).abs().max() <= 1
        assert loader.stats()["decoded"] + sum(loader.stats()["decoded_by_dataset"].values()) == 4


def test_a_file_that_the_library_cannot_decode_is_pillows(monkeypatch):
    dataset = Opens(OPENED["converted"][1], FILES)
    wanted, _ = epoch(dataset, "exact")
    right, calls = on_device.region.decode_region, []

    def every_third_fails(data, box):
        calls.append(box)
        return None if len(calls) % 3 == 0 else right(data, box)

    monkeypatch.setattr(on_device.region, "decode_region", every_third_fails)
    ours, loader = epoch(dataset, "batch")
    assert torch.equal(ours, wanted)
    stats = loader.stats()
    assert (stats["decoded"], stats["decoded_batch"]) == (6, 6)
    assert stats["decoded_by_dataset"] == {"damaged, or of a rare kind": 2}


@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_a_batch_of_parts_is_each_part_by_itself(data):
    size = data.draw(st.tuples(st.integers(2, 60), st.integers(2, 60)))
    rows = []
    for number in range(data.draw(st.integers(1, 5))):
        if number and data.draw(st.booleans()):
            rows.append(torch.randint(256, (3, *size), dtype=torch.uint8))
            continue
        file = data.draw(st.sampled_from(FILES))
        with Image.open(io.BytesIO(file)) as image:
            wide, tall = image.size
        left, top = data.draw(st.integers(0, wide - 1)), data.draw(st.integers(0, tall - 1))
        right, bottom = data.draw(st.integers(left + 1, wide)), data.draw(st.integers(top + 1, tall))
        rows.append(part_of(file, (left, top, right, bottom), size))
    parts = small_tensors.loads(small_tensors.dumps(Parts.of(rows)))
    assert parts.shape == (len(rows), 3, *size)
    assert parts.pin_memory() is parts
    made = on_device.decoded(parts, torch.device("cpu"))
    assert made.by_pillow == set()
    wanted = [row if isinstance(row, torch.Tensor) else row.pixels() for row in rows]
    assert torch.equal(made.images, torch.stack(wanted))


@pytest.mark.parametrize("size", [(1, 24), (24, 1), (1, 1)])
def test_to_one_pixel_files_are_resized_where_they_are_read(size):
    """torch resizes bytes to one pixel in other ways than to more."""
    made = {}
    for decode in ("exact", "batch"):
        dataset = Opens(OPENED["converted"][1], FILES)
        dataset.transform = v1.Compose([v1.RandomResizedCrop(size), v1.RandomHorizontalFlip(), v1.ToTensor()])
        made[decode], loader = batches(dataset, decode)
    assert_same(made["batch"], made["exact"])
    assert (loader.stats()["decoded"], loader.stats()["decoded_batch"]) == (8, 0)


def counts(loader):
    return [loader.stats()[name] for name in ("decoded", "decoded_batch", "decoded_by_dataset")]


@pytest.mark.parametrize("opened", ["converted", "unconverted"])
def test_pictures_that_the_dataset_keeps_are_decoded_once_more_and_then_kept(opened, monkeypatch):
    kept_by, decoded_at = {}, []

    class Keeps(Opens):
        def __getitem__(self, index):
            if index not in kept_by:
                kept_by[index] = self.opened(self.files[index])
            return self.transform(kept_by[index]), index

    def counted(data):
        decoded_at.append(len(data))
        return SIMPLEJPEG(data)

    made = {}
    monkeypatch.setattr(smartaug.loading.fetch, "decoder_named", lambda name: counted)
    for decode in ("exact", "batch"):
        kept_by.clear(), decoded_at.clear()
        torch.manual_seed(2)
        dataset = Keeps(OPENED[opened][1], FILES)
        loader = smartaug.DataLoader(dataset, batch_size=4, lift=smartaug.Lift(decode=decode), seed=3)
        made[decode] = [batch for _ in range(4) for batch in loader], loader.stats()
    assert_same(made["batch"][0], made["exact"][0])
    assert len(decoded_at) == 7  # the loader looked at the first sample when it was made
    ours, wanted = made["batch"][1], made["exact"][1]
    assert (ours["decoded"], ours["decoded_by_dataset"]) == (wanted["decoded"], wanted["decoded_by_dataset"])
    assert ours["decoded_batch"] == ours["decoded"] == 7


def test_files_that_the_library_would_decode_without_a_word_of_their_damage():
    place = PLAIN.rfind(b"\xff\xda") + 100
    marked = PLAIN[:place] + b"\xff\x12" + PLAIN[place + 2 :]
    part = (10, 5, 40, 33)
    assert on_device.region.decode_region(marked, part) is not None  # with pixels left as they were
    progressive = encoded(Image.fromarray(photo(46, 70)), progressive=True)
    scans = [place for place in range(len(progressive)) if progressive[place : place + 2] == b"\xff\xda"]
    fewer = progressive[: scans[4]] + b"\xff\xd9"
    for data in (marked, fewer, progressive, PLAIN + b"more", PLAIN[:-2], b"\xff\xd8\xff"):
        assert not on_device.region.is_one_scan(data)
    for data in (PLAIN, PLAIN + bytes(7), b"\xff\xd8\xff" + PLAIN[2:], *FILES):
        assert on_device.region.is_one_scan(data)

    class Skips(Opens):
        def __getitem__(self, index):
            try:
                return super().__getitem__(index)
            except OSError:
                return super().__getitem__(0)

    files = [PLAIN, marked, fewer, progressive, PLAIN + b"more", PLAIN[:-2], b"", PLAIN]
    made = {decode: epoch(Skips(OPENED["converted"][1], files), decode) for decode in ("exact", "batch", "region")}
    assert torch.equal(made["batch"][0], made["exact"][0])
    assert torch.equal(made["region"][0], made["exact"][0])
    ours, wanted = made["batch"][1].stats(), made["exact"][1].stats()
    assert (ours["decoded"], ours["decoded_by_dataset"]) == (wanted["decoded"], wanted["decoded_by_dataset"])
    assert ours["decoded_batch"] == 2 + 3  # and the first again, in place of those that cannot be read


def test_two_views_of_a_file_that_the_library_cannot_decode_count_once(monkeypatch):
    dataset = Opens(OPENED["converted"][1], FILES)
    dataset.transform = two_views(dataset.transform)
    wanted, _ = batches(dataset, "exact")
    monkeypatch.setattr(on_device.region, "decode_region", lambda data, box: None)
    ours, loader = batches(dataset, "batch")
    assert_same(ours, wanted)
    assert counts(loader) == [0, 0, {"damaged, or of a rare kind": 8}]


def test_pictures_of_the_users_own_class_are_not_asked_for_parts():
    class Tile(Image.Image):
        def part(self):
            raise AssertionError("the user's")

    def opened(data):
        tile = Tile()
        tile.im, tile._mode, tile._size = Image.new("RGB", (30, 20)).im, "RGB", (30, 20)
        return tile

    dataset = Opens(opened, FILES)
    dataset.transform = v1.Compose([v1.RandomHorizontalFlip(), v1.ToTensor()])
    assert [images.shape for images, _ in batches(dataset, "batch")[0]] == [(4, 3, 20, 30)] * 2


def test_rows_that_differ_are_not_brought_together():
    part = part_of(PLAIN)
    assert Parts.of([part, part_of(PLAIN, size=(9, 9))]) is None
    assert Parts.of([part, torch.zeros(3, 46, 71, dtype=torch.uint8)]) is None
    assert Parts.of([part, torch.zeros(3, 46, 70)]) is None
    assert Parts.of([part, torch.zeros(3, 46, 70, dtype=torch.uint8)]).shape == (2, 3, 46, 70)


def test_whole_pictures_and_boxes_give_what_parts_give():
    """What runs on CUDA, where whole pictures are decoded, with those that the CPU decoded."""
    boxes = [(3, 2, 40, 33), (0, 0, 20, 46), (10, 5, 11, 30)]
    whole = [torch.from_numpy(SIMPLEJPEG(PLAIN).copy()).permute(2, 0, 1) for _ in boxes]
    wanted = torch.stack([part_of(PLAIN, box, (24, 24)).pixels() for box in boxes])
    assert torch.equal(on_device._resized(whole, boxes, (24, 24)), wanted)


def test_without_the_library_it_says_what_to_install(monkeypatch):
    monkeypatch.setattr(on_device.region.importlib.util, "find_spec", lambda name: None)
    on_device.region.why_not.cache_clear()
    try:
        with pytest.raises(ImportError, match=r'lift=Lift\(decode="batch"\) needs nvImageCodec.*write lift=True'):
            epoch(Opens(OPENED["converted"][1]), "batch")
    finally:
        on_device.region.why_not.cache_clear()


def test_counts_of_a_loader_are_pickled():
    _, loader = epoch(Opens(OPENED["converted"][1]), "batch")
    counts = pickle.loads(pickle.dumps(loader._pipeline.files))
    assert counts.stats() == {"decoded": 8, "decoded_batch": 8, "decoded_by_dataset": {}}


class NoStream:
    """In place of a CUDA stream."""

    synchronized = 0

    def __init__(self, device):
        pass

    def wait_stream(self, other):
        pass

    def synchronize(self):
        NoStream.synchronized += 1


@pytest.fixture
def no_streams(monkeypatch):
    monkeypatch.setattr(torch.cuda, "Stream", NoStream)
    monkeypatch.setattr(torch.cuda, "current_stream", NoStream)
    monkeypatch.setattr(torch.cuda, "stream", lambda stream: contextlib.nullcontext())


def test_the_decoders_stream_is_empty_after_an_error_too(no_streams, monkeypatch):
    monkeypatch.setattr(on_device, "_stream", NoStream)
    before = NoStream.synchronized
    with pytest.raises(OSError, match="here"), on_device._own_stream(torch.device("cpu")):
        raise OSError("here")
    assert NoStream.synchronized == before + 1
    assert not on_device._lock.locked()


def test_a_file_that_fails_while_batches_are_copied_ahead_costs_its_own_batch_alone(no_streams):
    header = FILES[1].index(b"\xff\xc4") + 5
    files = [FILES[0], FILES[1][:header] + bytes([255] * 16) + FILES[1][header + 16 :], *FILES[2:4]]
    made = {}
    for ahead in (False, True):
        loader = smartaug.DataLoader(
            Opens(OPENED["converted"][1], files), 1, lift=smartaug.Lift(decode="batch"), seed=3
        )
        found = iter(loader)
        if ahead:
            found._source = CopyAhead(found._batches, torch.device("cpu"), loader._pipeline)
        torch.manual_seed(0)
        made[ahead] = [next(found)]
        with pytest.raises(OSError, match="broken data stream"):
            next(found)
        made[ahead] += list(found)
    assert len(made[True]) == 3
    assert_same(made[True], made[False])


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
class TestOnCuda:
    def test_pixels_are_close_to_pillows(self, folder):
        dataset = ImageFolder(str(folder), transform=pipeline(v1, [v1.RandomResizedCrop(24)]))
        wanted, _ = epoch(dataset, "exact", device="cuda")
        ours, loader = epoch(dataset, "batch", device="cuda")
        assert (ours - wanted).abs().max() <= on_device.LEVELS + 1
        assert loader.stats()["decoded_batch"] > 0
        assert "by nvJPEG; pixels up to" in loader.explain()

    def test_nothing_that_other_work_still_reads_is_overwritten(self):
        """nvJPEG's hardware engine does not wait for the stream that it is given."""
        side = encoded(Image.fromarray(photo(600, 900)), quality=90)
        parts = Parts.of([part_of(side, (0, 0, 800, 500), (224, 224)) for _ in range(16)])
        wanted = on_device.decoded(parts, torch.device("cuda")).images.cpu()
        square = torch.randn(4096, 4096, device="cuda")
        for _ in range(20):
            left = [torch.full((3, 600, 900), 7, dtype=torch.uint8, device="cuda") for _ in range(32)]
            for _ in range(10):
                square = (square @ square).clamp(-1, 1)
            sums = torch.stack([one.long().sum() for one in left])
            del left
            made = on_device.decoded(parts, torch.device("cuda")).images
            assert bool((sums == 7 * 3 * 600 * 900).all())
            assert np.array_equal(made.cpu(), wanted)
