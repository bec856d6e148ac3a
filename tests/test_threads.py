"""Rows of a batch shared among threads: each row once, whatever the number of threads; the bytes are those of one."""

import importlib
import threading

import pytest
import torch

from smartaug._base.threads import over_rows
from smartaug.augment.backends.torch.run import run

tones = importlib.import_module("smartaug.lift.albumentations.ops.tone")  # `smartaug.lift` itself is a function


@pytest.fixture(params=[1, 2, 3])
def threads(request):
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield request.param
    torch.set_num_threads(before)


@pytest.mark.parametrize("rows", [0, 1, 2, 7, 40])
def test_every_row_runs_once(threads, rows):
    done, lock = [], threading.Lock()

    def piece(first, last):
        with lock:
            done.extend(range(first, last))

    over_rows(piece, rows)
    assert sorted(done) == list(range(rows))


def test_what_a_piece_raises_is_raised_when_all_have_ended(threads):
    ended = []

    def piece(first, last):
        if first <= 3 < last:
            raise ValueError("row 3")
        ended.append(last)

    with pytest.raises(ValueError, match="row 3"):
        over_rows(piece, 16)
    count = len(ended)
    over_rows(lambda first, last: None, 16)
    assert len(ended) == count


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("name", ["ColorJitter", "HueSaturationValue", "GaussianBlur"])
def test_opencv_gives_the_bytes_of_one_thread(threads, name, channels):
    spans, make = {
        "ColorJitter": ([(0.5, 1.5)] * 3 + [(-0.2, 0.2)], tones.color_jitter),
        "HueSaturationValue": ([(-20, 20)] * 3, tones.hue_saturation_value),
        "GaussianBlur": ([(0.5, 2.0)], lambda *given: tones.gaussian_blur(*given, sizes=(3, 7))),
    }[name]
    images = torch.randint(0, 256, (6, channels, 96, 160), dtype=torch.uint8)
    before = images.clone()
    plan = tones.Drawn(name, spans, make).plan(images.shape, index=torch.arange(6), epoch=0, seed=0)
    found = run(plan.segments, images)
    (call,) = plan.segments
    for row in range(6):
        alone = images[row : row + 1]
        own = call.function(alone, *(a[row : row + 1] for a in call.arguments), *(h[row : row + 1] for h in call.host))
        assert torch.equal(found[row : row + 1], own)
    assert torch.equal(images, before)
    strided = images.contiguous(memory_format=torch.channels_last)
    again = run(plan.segments, strided)
    assert torch.equal(again, found)
    assert channels == 1 or again.is_contiguous(memory_format=torch.channels_last)
