"""The benchmark of loaders of files: what is missing gets a row, and what gives other images is refused."""

import subprocess
import sys
import time

import pytest
import torch

from benchmarks import files, jpeg, readers, tables
from benchmarks.readers import Job


@pytest.fixture(scope="module")
def job(tmp_path_factory):
    return Job(files.jpegs(tmp_path_factory.mktemp("jpegs"), 16, 32), size=32, workers=0, batch_size=8)


def not_there(job):
    import a_package_that_nobody_has  # noqa: F401


def test_a_missing_package_gives_a_row_and_the_others_are_measured(job):
    makers = {files.ORIGINAL: readers.original, "absent": not_there, files.LIMIT: readers.decode_only}
    rows = files.contest(makers, job, repeats=2)
    assert rows["absent"] == {"missing": "not installed: No module named 'a_package_that_nobody_has'"}
    assert tables.speed_of(rows["absent"]) == "not installed"
    assert rows[files.ORIGINAL]["ratio"]["median"] == 1
    assert rows[files.LIMIT]["images_per_second"]["median"] > rows[files.ORIGINAL]["images_per_second"]["median"]


@pytest.mark.parametrize("maker", [readers.on_tensors, readers.on_arrays])
def test_contestants_give_the_images_of_the_original(job, maker):
    labels = [label for _, label in job.files().samples]

    def averages(make):  # of 8 epochs of 16 images, each drawn anew: the means of two epochs differ by 0.19 (s.d.)
        epoch = make(job)
        made = [files.warmed_up("own", epoch, labels, 32) for _ in range(8)]
        return [sum(one[name] for one in made) / len(made) for name in ("mean", "sd")]

    assert averages(maker) == pytest.approx(averages(readers.original), abs=0.4)


def test_processor_seconds_count_this_process_and_its_children():
    busy = "import time\nwhile time.process_time() < 0.2: pass\nprint(flush=True)\ninput()"
    before, started = jpeg.processor_seconds(), time.process_time()
    with subprocess.Popen(
        [sys.executable, "-Sc", busy], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    ) as child:
        child.stdout.readline()
        after, own = jpeg.processor_seconds(), time.process_time() - started
        child.kill()
    assert after - before - own == pytest.approx(0.2, abs=0.05)


def test_an_epoch_that_leaves_images_out_or_is_of_another_size_is_refused(job):
    labels = [label for _, label in job.files().samples]
    epoch = readers.original(job)
    with pytest.raises(RuntimeError, match="own: 16 labels, which are not those of the 17 images"):
        files.warmed_up("own", epoch, [*labels, 0], 32)
    with pytest.raises(RuntimeError, match=r"own: batch of \(8, 3, 32, 32\) torch.float32"):
        files.warmed_up("own", epoch, labels, 64)
    with pytest.raises(RuntimeError, match="uint8"):
        files.warmed_up("own", lambda: iter([(torch.zeros(8, 3, 32, 32, dtype=torch.uint8), labels)]), labels, 32)


def test_what_is_faster_than_lifted_and_what_was_wanted_is_said():
    speeds = {files.ORIGINAL: 100, files.LIFTED: 250, "DALI": 300, "albumentations": 249, files.LIMIT: 999}
    rows = {
        name: {"images_per_second": {"median": speed}, "ratio": {"median": speed / 100}}
        for name, speed in speeds.items()
    }
    rows["FFCV"] = {"missing": "not installed: ..."}
    assert files.missed(rows) == {"missed": "DALI is faster, ×1.20"}
    assert files.missed(rows, {files.LIFTED: 3})["missed"].endswith("; smartaug, lift=True ×2.5, ×3 wanted")
    del rows["DALI"]
    assert files.missed(rows) == {}
