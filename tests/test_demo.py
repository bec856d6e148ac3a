"""``smartaug demo`` as a user runs it: digits, folders, mistakes, Ctrl-C."""

import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from PIL import Image

from smartaug.cli import main as cli


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Two classes of images of unequal size, in train and test folders."""
    root, random = tmp_path_factory.mktemp("photos"), np.random.default_rng(0)
    for part, count in (("train", 40), ("test", 6)):
        for label, colour in (("dark", 60), ("light", 190)):
            where = root / part / label
            where.mkdir(parents=True)
            for number in range(count):
                pixels = random.integers(colour - 50, colour + 50, (12 + number % 3, 14, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(where / f"{number:03}.png")
    return root


def rows(text):
    """The two result rows of the printed table, as lists of words."""
    lines = [line.split() for line in text.splitlines()]
    return [next(line for line in lines if line[:1] == [name]) for name in ("torch", "smartaug")]


def test_digits(tmp_path, capsys):
    picture = tmp_path / "digits.png"
    assert cli.main(["demo", "--epochs", "2", "--limit", "256", "--out", str(picture)]) == 0
    told = capsys.readouterr().out
    theirs, ours = rows(told)
    assert theirs[-1] == ours[-1] == "512"
    assert told.rstrip().endswith("+ criterion = smartaug.Loss(nn.CrossEntropyLoss())")  # the lines to change
    with Image.open(picture) as image:
        assert image.size[0] > 500


@pytest.mark.parametrize("part", ["", "train"])
def test_a_folder_of_images(folder, tmp_path, capsys, part):
    arguments = ["--data", str(folder / part), "--epochs", "3", "--workers", "0", "--out", str(tmp_path / "a.png")]
    assert cli.main(["demo", *arguments]) == 0
    out = capsys.readouterr().out
    assert f"{80 if not part else 64} + {12 if not part else 16} images of 12×12" in out
    for row in rows(out):
        assert float(row[-3]) > 50  # dark and light are told apart


def test_mistakes_are_told_in_one_line(tmp_path, capsys):
    assert cli.main(["demo", "--data", str(tmp_path / "nowhere")]) == 1
    assert "there is no such folder" in capsys.readouterr().err
    (tmp_path / "empty").mkdir()
    assert cli.main(["demo", "--data", str(tmp_path / "empty")]) == 1
    assert cli.main(["demo", "--limit", "3", "--out", str(tmp_path / "a.png")]) == 1
    assert "raise --limit" in capsys.readouterr().err
    assert cli.main(["demo", "--device", "cuda:99"]) == 1
    assert cli.main(["demo", "--out", str(tmp_path / "nowhere" / "a.png")]) == 1
    assert "there is no folder" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        cli.main(["demo", "--epochs", "0"])


def _interruptible():
    """In the child: a shell ignores Ctrl-C in what it runs in the background, and children inherit that."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


def test_the_first_ctrl_c_leaves_cleanly(folder, tmp_path):
    command = [sys.executable, "-m", "smartaug", "demo", "--epochs", "5000", "--out", str(tmp_path / "a.png")]
    command += ["--data", str(folder), "--workers", "2"]
    with subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        preexec_fn=_interruptible,
    ) as process:
        try:
            assert "images of" in process.stdout.readline()
            time.sleep(2)
            os.killpg(process.pid, signal.SIGINT)  # what a terminal does: the workers get it, too
            _, err = process.communicate(timeout=30)
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
    assert process.returncode == 130
    assert "interrupted" in err
    assert "Traceback" not in err
