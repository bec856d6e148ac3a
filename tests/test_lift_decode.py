"""JPEG files of a dataset, decoded by another library: everything else sees Pillow's own pictures."""

import copy
import io
import os
import pickle
import threading
from typing import ClassVar

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageDraw, ImageFilter, ImageOps, ImageStat
from PIL.Image import open as open_by_name
from PIL.JpegImagePlugin import JpegImageFile
from timm.data.transforms import RandomResizedCropAndInterpolation
from torchvision import transforms as v1
from torchvision.datasets import ImageFolder
from torchvision.datasets.folder import default_loader
from torchvision.transforms import InterpolationMode, v2

import smartaug
from smartaug.lift.decode import decoders, opening, region
from smartaug.lift.decode.opening import Opening
from smartaug.lift.decode.resampling import resized


def photo(height, width, noise=12, seed=0):
    """Smooth colours with some noise: what JPEG files hold."""
    random = np.random.default_rng((height, width, seed))
    y, x = np.mgrid[:height, :width]
    waves = [127 + 90 * np.sin(x / 9 + k) + 30 * np.cos(y / 7 - k) for k in range(3)]
    return np.clip(np.stack(waves, 2) + random.normal(0, noise, (height, width, 3)), 0, 255).astype(np.uint8)


def encoded(image, kind="JPEG", **options):
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def corpus():
    """Files by name; "plain ..." are those that another library decodes."""
    image = Image.fromarray(photo(46, 70))
    files = {}
    for name, options in {
        "4:4:4": {"subsampling": 0},
        "4:2:2": {"subsampling": 1},
        "4:2:0": {"subsampling": 2},
        "progressive": {"progressive": True},
        "optimised, poor": {"optimize": True, "quality": 5},
        "restart markers": {"restart_marker_blocks": 2},
        "comment and profile": {"comment": b"a comment", "icc_profile": bytes(300), "dpi": (300, 300)},
    }.items():
        files[f"plain, {name}.jpg"] = encoded(image, **{"quality": 90, **options})
    for size in ((1, 1), (1, 9), (17, 1), (8, 8), (15, 33)):
        files[f"plain, {size}.jpg"] = encoded(Image.fromarray(photo(*size)))
    for orientation in range(1, 9):
        exif = Image.Exif()
        exif[0x0112] = orientation
        files[f"plain, turned {orientation}.jpg"] = encoded(image, exif=exif)
    files["plain, more behind.jpg"] = encoded(image) + b"more behind the end"
    files["grey.jpg"] = encoded(image.convert("L"))
    files["CMYK.jpg"] = encoded(image.convert("CMYK"))
    files["stored as RGB.jpg"] = encoded(image, keep_rgb=True)
    files["several pictures.jpg"] = encoded(image, "MPO", save_all=True, append_images=[image])
    files["16 bits.png"] = encoded(
        Image.fromarray(np.random.default_rng(0).integers(0, 1 << 16, (20, 30)).astype(np.uint16)), "PNG"
    )
    files["palette.png"] = encoded(image.quantize(16), "PNG", transparency=0)
    files["with alpha.png"] = encoded(image.convert("RGBA"), "PNG")
    files["a.webp"] = encoded(image, "WEBP")
    return files


WHOLE = corpus()
PLAIN = encoded(Image.fromarray(photo(46, 70)), quality=90)
BROKEN = {
    "half.jpg": PLAIN[: len(PLAIN) // 2],
    "no end.jpg": PLAIN[:-2],
    "half, with an end.jpg": PLAIN[: len(PLAIN) // 2] + b"\xff\xd9",
    "zeros within.jpg": PLAIN[:-300] + bytes(40) + PLAIN[-260:],
    "header only.jpg": PLAIN[:20],
    "none.jpg": b"",
}


def seen(image):
    """What a program can find out about an image."""
    assert isinstance(image, Image.Image)
    return image.mode, image.size, image.info, image.getbands(), image.tobytes()


def drawn_on(image):
    ImageDraw.Draw(image).rectangle((1, 1, 4, 3), fill=7)
    return image


def thumbnail(image):
    image.thumbnail((9, 9))
    return image


def pasted(image):
    image.paste(Image.new(image.mode, (2, 2)), (1, 1))
    return image


def drafted(image):
    image.draft("L", (8, 8))
    return image


def loaded_first(image):
    image.load()
    return image.convert("RGB")


def closed_first(image):
    image.close()
    return image.convert("RGB")


def used_again(image):
    small = image.convert("RGB").crop((0, 0, 1, 1))
    image.putpixel((0, 0), 0)
    return seen(small), seen(image), seen(image.convert("RGB"))


def kept(image):
    first = np.asarray(image)
    image.load()
    return first, first.flags.writeable


def in_place(image):
    ImageOps.exif_transpose(image, in_place=True)
    return image


USES = {
    "array": lambda image: (np.asarray(image), np.array(image), np.asarray(image).dtype),
    "array, kept": kept,
    "pixels": lambda image: [image.getpixel((0, 0)), image.load()[0, 0], image.getextrema(), image.getbbox()],
    "attributes": lambda image: (
        [image.mode, image.size, image.format, image.info, image.width, image.is_animated]
        if hasattr(image, "is_animated")
        else [image.mode, image.size, image.format, image.info, image.width, image.getexif().get(0x0112)]
    ),
    "bytes": lambda image: (image.tobytes(), image.tobytes("raw", "BGR") if image.mode == "RGB" else None),
    "RGB": lambda image: image.convert("RGB"),
    "RGB, with": lambda image: image.__enter__().convert("RGB") if image.__exit__(None, None, None) else None,
    "grey": lambda image: image.convert("L"),
    "palette": lambda image: image.convert("P", palette=Image.Palette.ADAPTIVE, colors=8),
    "matrix": lambda image: image.convert("RGB", (0.5, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1, 0)),
    "copies": lambda image: seen(image.copy()) + seen(copy.copy(image)) + seen(copy.deepcopy(image)),
    "pickle": lambda image: pickle.loads(pickle.dumps(image)),
    "crop": lambda image: [image.crop(box) for box in (None, (2, 3, 9, 8), (1.4, 0.6, 5.5, 7.5), (-2, 0, 4, 99))],
    "odd crops": lambda image: image.crop((5, 0, 2, 3)),
    "empty crop": lambda image: image.crop((3, 3, 3, 3)).size,
    "crop of crop": lambda image: image.crop((2, 3, 40, 30)).crop((1, 1, 20, 12)).resize((7, 5), Image.Resampling.BOX),
    "resize": lambda image: [image.resize((9, 7)), image.resize((9, 7), 2), image.resize((4, 4), 3, (1, 1, 9.5, 8))],
    "reducing gap": lambda image: image.resize((3, 3), 2, reducing_gap=2.0),
    "resize to nothing": lambda image: image.resize((0, 4)).size,
    "turns": lambda image: [image.transpose(method) for method in Image.Transpose],
    "wrong turn": lambda image: image.transpose(9),
    "rotate": lambda image: [image.rotate(angle) for angle in (0, 90, 180, 31)],
    "by orientation": ImageOps.exif_transpose,
    "by orientation, in place": in_place,
    "ops": lambda image: [ImageOps.mirror(image), ImageOps.fit(image, (5, 6)), ImageOps.expand(image, 2)],
    "thumbnail": thumbnail,
    "drawn on": drawn_on,
    "pasted": pasted,
    "put": lambda image: image.putdata([0]) or image,
    "alpha": lambda image: image.putalpha(9) or image,
    "filter": lambda image: image.filter(ImageFilter.BLUR),
    "point": lambda image: image.point(lambda value: value // 2),
    "split": lambda image: [*image.split(), image.getchannel(0), Image.merge("L", image.split()[:1])],
    "statistics": lambda image: (ImageStat.Stat(image).mean, image.histogram(), image.entropy()),
    "blend": lambda image: Image.blend(image, image, 0.5),
    "saved": lambda image: encoded(image, "PNG"),
    "draft": drafted,
    "loaded first": loaded_first,
    "closed first": closed_first,
    "used again": used_again,
    "verify": lambda image: (image.verify(), image.size),
    "repr": lambda image: repr(image).partition(" at ")[0],
    "equal": lambda image: (image == image.copy(), image.convert("RGB") == image.convert("RGB"), image == 3),
    "frame": lambda image: (image.tell(), image.seek(0), image.size),
    "reduce": lambda image: image.reduce(2),
    "quantize": lambda image: image.quantize(4),
    "torchvision": lambda image: [v1.functional.to_tensor(image), v2.functional.pil_to_tensor(image)],
    "torchvision's resize": lambda image: v1.functional.resize(image, 11),
}


def outcome(use, way, data, path):
    """What ``use`` makes of an opened file, as comparable values; the class and text of what it raises."""
    try:
        return compared(use(way(data, path)))
    except Exception as error:
        return type(error), str(error).partition(" at 0x")[0].partition("<_io")[0]


def compared(value):
    if isinstance(value, Image.Image):
        return seen(value)
    if isinstance(value, (list, tuple)):
        return [compared(part) for part in value]
    if isinstance(value, (np.ndarray, torch.Tensor)):
        array = np.asarray(value)
        return array.dtype, array.shape, array.tobytes()
    return value


def from_closed_file(data, path):
    with open(path, "rb") as file:
        return Image.open(file).convert("RGB")


WAYS = {
    "path": lambda data, path: Image.open(path),
    "bytes": lambda data, path: Image.open(io.BytesIO(data)),
    "function": lambda data, path: open_by_name(path, formats=["JPEG", "PNG", "WEBP", "MPO"]),
    "converted": lambda data, path: Image.open(path).convert("RGB"),
    "file, closed": from_closed_file,
    "default_loader": lambda data, path: default_loader(path),
}
DECODERS = {name: decoders.decoder_named(name) for name in decoders.NAMES}


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("files")
    for name, data in {**WHOLE, **BROKEN}.items():
        (folder / name).write_bytes(data)
    return folder


@pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning")  # Pillow's own, of files that are not decoded
@pytest.mark.parametrize(
    ("decoder", "partly"),
    [*(("simplejpeg", partly) for partly in ("", "scaled", "region", "batch")), ("torchvision", "")],
)
def test_every_use_of_every_file_gives_what_pillow_gives(files, decoder, partly):
    if partly in ("region", "batch"):
        pytest.importorskip("nvidia.nvimgcodec")
    wrong = []
    for number, (name, data) in enumerate({**WHOLE, **BROKEN}.items()):
        ways = list(WAYS.items())
        for place, (use_name, use) in enumerate(USES.items()):
            way_name, way = ways[(number + place) % len(ways)]
            wanted = outcome(use, way, data, files / name)
            with Opening(DECODERS[decoder], partly):
                got = outcome(use, way, data, files / name)
            if got != wanted:
                wrong.append((name, way_name, use_name))
    assert not wrong


@pytest.mark.parametrize("decoder", DECODERS)
def test_plain_files_are_decoded_and_others_left_to_pillow(decoder):
    for name, data in WHOLE.items():
        with Opening(DECODERS[decoder]) as opening:
            Image.open(io.BytesIO(data)).convert("RGB")
        counted = opening.counts
        if name.startswith("plain"):
            assert (counted.decoded, sum(counted.by_dataset.values())) == (1, 0), name
        else:
            assert counted.decoded == 0, name
    assert {"grey.jpg", "CMYK.jpg", "stored as RGB.jpg"} <= WHOLE.keys()


@settings(max_examples=150, deadline=None)
@given(
    places=st.lists(st.integers(150, len(PLAIN) - 1), max_size=4),
    values=st.lists(st.integers(0, 255), min_size=4, max_size=4),
    length=st.integers(1, len(PLAIN)) | st.just(len(PLAIN)),
    decoder=st.sampled_from(sorted(DECODERS)),
)
def test_damaged_files_give_what_pillow_gives(places, values, length, decoder):
    data = bytearray(PLAIN)
    for place, value in zip(places, values, strict=False):
        data[place] = value
    data = bytes(data[:length])
    use, way = USES["RGB"], WAYS["bytes"]
    wanted = outcome(use, way, data, None)
    with Opening(DECODERS[decoder]):
        assert outcome(use, way, data, None) == wanted


def test_pictures_do_not_share_memory_that_is_used_again():
    first, second = (encoded(Image.fromarray(photo(40, 50, seed=seed))) for seed in (1, 2))
    with Opening(DECODERS["simplejpeg"]):
        one = Image.open(io.BytesIO(first)).convert("RGB")
        kept_array, cut = np.asarray(one), one.crop((3, 4, 20, 30))
        before = kept_array.copy()
        del one
        other = Image.open(io.BytesIO(second)).convert("RGB")
        assert np.array_equal(kept_array, before)
        assert np.array_equal(np.asarray(cut), before[4:30, 3:20])
        assert not np.array_equal(np.asarray(other), before)


def test_only_the_thread_and_the_block_are_concerned(tmp_path):
    path = tmp_path / "a.jpg"
    path.write_bytes(PLAIN)
    before, types = Image.OPEN["JPEG"], []
    with Opening(DECODERS["simplejpeg"]) as opening:
        other = threading.Thread(target=lambda: types.append(type(Image.open(path).convert("RGB"))))
        other.start()
        other.join()
        with pytest.raises(OSError, match="truncated"), Opening(DECODERS["torchvision"]):
            Image.open(io.BytesIO(BROKEN["half.jpg"])).load()
        Image.open(path).convert("RGB")
    assert Image.OPEN["JPEG"] is before
    assert types == [Image.Image]
    assert opening.counts.decoded == 1
    assert type(Image.open(path).convert("RGB")) is Image.Image


def test_an_opener_that_wraps_this_one_meanwhile_stays_and_ends():
    before, file = Image.OPEN["JPEG"], encoded(Image.fromarray(photo(20, 30)))
    calls = []
    try:
        with Opening(decoders.decoder_named("simplejpeg")):
            inner = Image.OPEN["JPEG"]
            Image.OPEN["JPEG"] = (lambda *given: calls.append(1) or inner[0](*given), inner[1])
            Image.open(io.BytesIO(file)).load()
        wrapping = Image.OPEN["JPEG"]
        with Opening(decoders.decoder_named("simplejpeg")) as opening:
            Image.open(io.BytesIO(file)).load()
            assert opening.counts.decoded == 1
        assert Image.OPEN["JPEG"] is wrapping  # the user's
        assert type(Image.open(io.BytesIO(file))) is JpegImageFile
        assert len(calls) == 3
    finally:
        Image.OPEN["JPEG"] = before


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_child_that_is_forked_meanwhile_has_pillows_opener():
    """As where another loader starts its workers while a thread reads samples."""
    before, inside, done = Image.OPEN["JPEG"], threading.Event(), threading.Event()

    def read():
        with Opening(decoders.decoder_named("simplejpeg")), opening._lock:  # the worst moment
            inside.set()
            done.wait(30)

    thread = threading.Thread(target=read)
    thread.start()
    assert inside.wait(30)
    child = os.fork()
    if not child:
        fine = Image.OPEN["JPEG"] is before
        with Opening(decoders.decoder_named("simplejpeg")):
            fine = fine and Image.OPEN["JPEG"] is not before
        os._exit(0 if fine and Image.OPEN["JPEG"] is before else 1)
    done.set()
    thread.join()
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert Image.OPEN["JPEG"] is before


def test_a_decoder_with_other_pixels_is_not_used(monkeypatch):
    assert decoders._why_not("simplejpeg") is None
    right = DECODERS["simplejpeg"]

    def off_by_one(data):
        made = right(data)
        return None if made is None else made ^ np.uint8(1)

    monkeypatch.setattr(decoders, "decoder_named", lambda name: off_by_one)
    assert "pixels" in decoders._why_not("simplejpeg")
    monkeypatch.setattr(decoders, "decoder_named", lambda name: lambda data: np.zeros((45, 70, 3), np.uint8))
    assert "pixels" in decoders._why_not("simplejpeg")


@settings(max_examples=40, deadline=None)
@given(
    size=st.tuples(st.integers(1, 300), st.integers(1, 300)),
    wanted=st.tuples(st.integers(1, 230), st.integers(1, 230)),
    seed=st.integers(0, 99),
)
def test_resizing_is_pillows_within_one_grey_level(size, wanted, seed):
    image = np.random.default_rng(seed).integers(0, 256, (*size, 3), dtype=np.uint8) if seed % 2 else photo(*size)
    theirs = np.asarray(Image.fromarray(image).resize(wanted[::-1], Image.Resampling.BILINEAR)).astype(int)
    away = np.abs(resized(image, *wanted).astype(int) - theirs)
    assert (away > 1).mean() <= 1e-4  # 0 but in one of 10⁷ values, of which a small image may have one
    assert away.max() <= 2


# --- in loaders ------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """An `ImageFolder` of larger plain files and of all the others."""
    root = tmp_path_factory.mktemp("tree")
    (root / "0").mkdir()
    for number in range(12):
        size = (40 + 10 * number, 40 + 83 * number % 120)
        (root / "0" / f"{number:02}.jpg").write_bytes(encoded(Image.fromarray(photo(*size)), quality=85))
    (root / "1").mkdir()
    for name, data in WHOLE.items():
        (root / "1" / name).write_bytes(data)
    return root


def pipeline(m, first):
    return m.Compose([*first, m.RandomHorizontalFlip(), m.ToTensor()])


def epoch(dataset, decode, **options):
    """The images of an epoch in order, as uint8, and the loader."""
    lift = smartaug.Lift(decode=decode)
    loader = smartaug.DataLoader(dataset, batch_size=8, lift=lift, seed=5, **options)
    images = torch.cat([batch for batch, *_ in loader])
    return (images * 255).round().to(torch.int64), loader


FIRST = {
    "RandomResizedCrop": lambda m: [m.RandomResizedCrop(24)],
    "bicubic": lambda m: [m.RandomResizedCrop(24, interpolation=InterpolationMode.BICUBIC)],
    "nearest": lambda m: [m.RandomResizedCrop(24, interpolation=InterpolationMode.NEAREST)],
    "Resize, CenterCrop": lambda m: [m.Resize(30), m.CenterCrop(24)],
    "Resize, RandomCrop": lambda m: [m.Resize((40, 33)), m.RandomCrop(24, padding=3)],
    "timm": lambda m: [RandomResizedCropAndInterpolation(24, interpolation="bilinear")],
    "mirrored before": lambda m: [m.RandomVerticalFlip(), m.Lambda(lambda image: image), m.RandomResizedCrop(24)],
    "own code between": lambda m: [m.Lambda(lambda image: image.resize((50, 44), 2)), m.RandomCrop(24)],
}


@pytest.mark.parametrize("m", [v1, v2])
@pytest.mark.parametrize("name", FIRST)
@pytest.mark.filterwarnings("ignore::UserWarning")  # v2.ToTensor is deprecated
def test_a_folder_of_all_kinds_of_files_gives_the_users_pictures(folder, name, m):
    dataset = ImageFolder(str(folder), transform=pipeline(m, FIRST[name](m)))
    theirs, _ = epoch(dataset, "user")
    ours, loader = epoch(dataset, "exact")
    away = (theirs - ours).abs()
    bilinear = name in ("RandomResizedCrop", "timm", "Resize, CenterCrop", "Resize, RandomCrop", "mirrored before")
    assert away.max() <= (1 if bilinear else 0)
    assert (away > 0).double().mean() < 0.06
    plain = sum(file.startswith("plain") for file in WHOLE)
    stats = loader.stats()
    assert stats["decoded"] == 12 + plain
    assert sum(stats["decoded_by_dataset"].values()) == len(WHOLE) - plain
    assert stats["decoded_by_dataset"]["CMYK"] == stats["decoded_by_dataset"]["grey"] == 1
    assert "decode: simplejpeg" in loader.explain()
    assert f"{12 + plain} JPEG files so far, pixels as Pillow's; " in loader.explain()
    assert 'by the dataset\'s own code: Lift(decode="user")' in epoch(dataset, "user")[1].explain()


class Opens(torch.utils.data.Dataset):
    """A dataset that opens its files itself."""

    def __init__(self, opened, files=None):
        self.opened, self.files = opened, [PLAIN] * 8 if files is None else files
        self.transform = pipeline(v1, [v1.RandomResizedCrop(24)])

    def __len__(self):
        return len(self.files)

    def __getitem__(self, index):
        return self.transform(self.opened(self.files[index])), index


CORNER = Image.open(io.BytesIO(PLAIN)).getpixel((0, 0))


def touched(image):
    assert image.getpixel((0, 0)) == CORNER
    return image


def with_block(data):
    with Image.open(io.BytesIO(data)) as image:
        return image.convert("RGB")


OPENED = {
    "unconverted": (True, lambda data: Image.open(io.BytesIO(data))),
    "converted": (True, lambda data: Image.open(io.BytesIO(data)).convert("RGB")),
    "with": (True, with_block),
    "by orientation": (True, lambda data: ImageOps.exif_transpose(Image.open(io.BytesIO(data)))),
    "cropped": (True, lambda data: Image.open(io.BytesIO(data)).crop((3, 2, 60, 40))),
    "from an array": (True, lambda data: Image.fromarray(np.asarray(Image.open(io.BytesIO(data))))),
    "touched": (True, lambda data: touched(Image.open(io.BytesIO(data)).convert("RGB"))),
    "touched, unconverted": (True, lambda data: touched(Image.open(io.BytesIO(data)))),
    "resized": (True, lambda data: Image.open(io.BytesIO(data)).resize((50, 40), Image.Resampling.BILINEAR)),
    "painted": (True, lambda data: drawn_on(Image.open(io.BytesIO(data)).convert("RGB"))),
}


@pytest.mark.parametrize("name", OPENED)
def test_a_dataset_that_opens_its_files_gives_its_own_pictures(name):
    decoded, opened = OPENED[name]
    theirs, _ = epoch(Opens(opened), "user")
    ours, loader = epoch(Opens(opened), "exact")
    exact = name in ("from an array", "touched", "touched, unconverted", "resized", "painted")
    assert (theirs - ours).abs().max() <= (0 if exact else 1)
    assert loader.stats()["decoded"] == (8 if decoded else 0)


def test_broken_files_raise_where_they_raise_in_the_dataset():
    def or_grey(data):
        try:
            return Image.open(io.BytesIO(data)).convert("RGB")
        except OSError:
            return Image.new("RGB", (30, 30), (5, 5, 5))

    files = [PLAIN, BROKEN["half.jpg"], BROKEN["no end.jpg"], PLAIN]
    for decode in ("exact", "scaled"):
        ours, loader = epoch(Opens(or_grey, files), decode)
        assert [bool((image == 5).all()) for image in ours] == [False, True, True, False]
        assert loader.stats()["decoded_by_dataset"] == {"damaged, or of a rare kind": 2}
        with pytest.raises(OSError, match="truncated"):
            epoch(Opens(OPENED["converted"][1], files), decode)


def test_a_picture_that_the_dataset_keeps_stays_as_it_was():
    class Keeps(Opens):
        cache: ClassVar = {}

        def __getitem__(self, index):
            if index not in vars(self).setdefault("cache", {}):
                self.cache[index] = self.opened(self.files[index])
            return self.transform(self.cache[index]), index

    dataset = Keeps(OPENED["converted"][1])
    wanted = np.asarray(Image.open(io.BytesIO(PLAIN)))
    for _ in range(2):
        epoch(dataset, "exact")
    assert all(np.array_equal(np.asarray(image), wanted) for image in dataset.cache.values())


def test_scaled_decoding_is_asked_for_and_close():
    large = [encoded(Image.fromarray(photo(300, 260, noise=3))) for _ in range(6)]
    whole = v1.Compose([v1.Resize((50, 50)), v1.RandomHorizontalFlip(), v1.ToTensor()])
    datasets = [Opens(OPENED["converted"][1], large) for _ in range(2)]
    for dataset in datasets:
        dataset.transform = whole
    theirs, _ = epoch(datasets[0], "user")
    ours, loader = epoch(datasets[1], "scaled")
    assert loader.stats()["decoded_scaled"] == loader.stats()["decoded"] == 6
    assert loader.stats()["decoded_by_dataset"] == {}
    assert "6 of them smaller, as asked for" in loader.explain()
    assert 0 < (theirs - ours).abs().double().mean() < 3
    small = Opens(OPENED["converted"][1])  # 46×70, crops of 24×24: nothing shrinks by half
    ours, loader = epoch(small, "scaled")
    assert loader.stats()["decoded_scaled"] == 0
    assert (epoch(small, "user")[0] - ours).abs().max() <= 1


@pytest.mark.parametrize("workers", [0, 2])
def test_a_region_has_the_pixels_of_the_whole_file(workers):
    pytest.importorskip("nvidia.nvimgcodec")
    for crop in (v1.RandomCrop(24), v1.RandomResizedCrop(24)):
        dataset = Opens(OPENED["converted"][1])
        dataset.transform = v1.Compose([crop, v1.RandomHorizontalFlip(), v1.ToTensor()])
        more = {"num_workers": 2, "multiprocessing_context": "fork"} if workers else {}
        whole, _ = epoch(dataset, "exact", **more)
        ours, loader = epoch(dataset, "region", **more)
        assert torch.equal(ours, whole)
        stats = loader.stats()
        assert stats["decoded_region"] > stats["decoded"] // 2 > 0
        assert "only the part that is kept, by nvImageCodec" in loader.explain()


def test_the_second_part_of_a_file_comes_from_all_of_it(monkeypatch):
    pytest.importorskip("nvidia.nvimgcodec")
    wanted = np.asarray(Image.open(io.BytesIO(PLAIN)))
    with Opening(DECODERS["simplejpeg"], "region") as opening:
        opened = Image.open(io.BytesIO(PLAIN)).convert("RGB")
        parts = [np.asarray(opened.crop(box)) for box in ((3, 5, 20, 30), (0, 0, 9, 9), (3, 5, 20, 30))]
    assert (opening.counts.decoded, opening.counts.partly) == (1, 1)
    for made, (left, top, right, bottom) in zip(parts, ((3, 5, 20, 30), (0, 0, 9, 9), (3, 5, 20, 30)), strict=True):
        assert np.array_equal(made, wanted[top:bottom, left:right])


def test_regions_without_the_library_say_what_to_install(monkeypatch):
    monkeypatch.setattr(region.importlib.util, "find_spec", lambda name: None)
    region.why_not.cache_clear()
    try:
        with pytest.raises(ImportError, match="needs no GPU; pip install nvidia-nvimgcodec-cu12, or write lift=True"):
            epoch(Opens(OPENED["converted"][1]), "region")
    finally:
        region.why_not.cache_clear()


def test_files_are_counted_in_workers(folder):
    dataset = ImageFolder(str(folder), transform=pipeline(v1, FIRST["RandomResizedCrop"](v1)))
    alone, _ = epoch(dataset, "exact")
    ours, loader = epoch(dataset, "exact", num_workers=2, multiprocessing_context="forkserver")
    assert torch.equal(ours, alone)
    assert loader.stats()["decoded"] == 12 + sum(file.startswith("plain") for file in WHOLE)


def test_datasets_that_open_no_files_are_not_told_about():
    class Arrays(Opens):
        def __getitem__(self, index):
            return self.transform(Image.fromarray(photo(40, 40))), index

    loader = smartaug.DataLoader(Arrays(None), batch_size=4, lift=True)
    list(loader)
    assert list(loader.stats()["decoded_by_dataset"].values()) == [8]


@pytest.mark.parametrize("wrong", ["fast", None, True])
def test_lift_names_what_decode_takes(wrong):
    with pytest.raises(ValueError, match='"exact" or "scaled" or "region" or "batch" or "user"'):
        smartaug.Lift(decode=wrong)
