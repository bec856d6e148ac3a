"""The command ``smartaug``."""

from __future__ import annotations

import argparse
import importlib
import importlib.metadata
import sys
from collections.abc import Sequence


def parser() -> argparse.ArgumentParser:
    """The parser of the command line, with one subcommand per job."""
    top = argparse.ArgumentParser(prog="smartaug", description=__doc__)
    top.add_argument("--version", action=_Version, nargs=0, dest=argparse.SUPPRESS, help="show the version and exit")
    jobs = top.add_subparsers(dest="job", required=True)
    demo = jobs.add_parser("demo", help="train a small CNN through torch's loader, then through smartaug's")
    demo.add_argument("--data", metavar="FOLDER", help="a folder of images per class; default: scikit-learn's digits")
    demo.add_argument("--epochs", type=_positive, metavar="N", help="default: 15 on the digits, 3 on a folder")
    demo.add_argument("--limit", type=_positive, metavar="N", help="use only N training images")
    demo.add_argument("--device", help="where to train and augment; default: the accelerator, else the CPU")
    demo.add_argument("--seed", type=int, default=0)
    demo.add_argument("--workers", type=int, metavar="N", help="default: 0 on the digits, 2 on a folder")
    demo.add_argument("--out", default="smartaug-demo.png", metavar="FILE", help="picture to write (%(default)s)")
    inspect = jobs.add_parser("inspect", help="show what a pipeline does to images")
    inspect.add_argument(
        "target",
        nargs="?",
        metavar="SCRIPT.py:NAME",
        help="your own dataset, loader, transform or augmentations, or a function that returns one; its code runs",
    )
    inspect.add_argument(
        "--data", metavar="FOLDER", help="a folder of images per class; default: scikit-learn's digits"
    )
    inspect.add_argument("--augment", metavar="TEXT", help="such as 'PadCrop(4), Flip(), RandAugment(2, 9)'")
    inspect.add_argument(
        "--moments",
        action="store_true",
        help="mean, deviation and eigen-images of each stage, and what it does to the loss of a small network",
    )
    inspect.add_argument("--images", type=_positive, default=4, metavar="N", help="images to show (%(default)s)")
    inspect.add_argument("--nodes", type=_positive, default=1024, metavar="N", help="transforms at most (%(default)s)")
    inspect.add_argument("--epochs", type=_positive, metavar="N", help="of the network; default: 15 or 3 on a folder")
    inspect.add_argument("--device", help="where to train and integrate; default: the CPU")
    inspect.add_argument("--seed", type=int, default=0)
    inspect.add_argument("--out", default="smartaug-inspect.png", metavar="FILE", help="picture to write (%(default)s)")
    _bench(jobs.add_parser("bench", help="measure your own loader: torch's against smartaug's"))
    return top


def _bench(job: argparse.ArgumentParser) -> None:
    job.description = (
        "Measures your own loader as it is against smartaug's with lift=True: speed, where the time goes, whether the "
        "images are the same, memory, and the line to write. The script or module that you name is imported: its code "
        'runs, but for what stands under if __name__ == "__main__".'
    )
    job.add_argument(
        "target", nargs="?", metavar="SCRIPT.py:NAME", help="a DataLoader, a dataset, or a function that returns one"
    )
    job.add_argument("--data", metavar="FOLDER", help="instead: images, in class folders or without")
    job.add_argument(
        "--transform", metavar="MODULE:NAME", help="of a PIL image, with --data; default: the usual at 224"
    )
    job.add_argument(
        "--model", metavar="SCRIPT.py:NAME", help="a module, or a function that returns one: measured, too"
    )
    job.add_argument("--batch-size", type=_positive, default=64, metavar="N", help="of a dataset (%(default)s)")
    job.add_argument("--workers", type=_counts, metavar="N,N,...", help="numbers of workers to try, such as 0,2,4")
    job.add_argument("--seconds", type=float, default=60.0, metavar="S", help="about how long (%(default)s)")
    job.add_argument("--seed", type=int, default=0)
    job.add_argument("--json", metavar="FILE", help="write all figures there")
    job.add_argument("--out", metavar="FILE", help="write a picture there")


def _counts(text: str) -> list[int]:
    return [int(part) for part in text.split(",")]


class _Version(argparse.Action):
    """Print the version, which is read only when the option is given."""

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> None:
        print(f"smartaug {importlib.metadata.version('smartaug')}")
        parser.exit()


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"must be at least 1, got {text}")
    return number


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command line. Returns the exit status: 0, 130 after Ctrl-C, 1 after an error that was printed."""
    arguments = vars(parser().parse_args(argv))
    job = arguments.pop("job")
    try:
        importlib.import_module(f".{job}", __package__).run(**arguments)
    except KeyboardInterrupt:
        print("\ninterrupted", file=sys.stderr)
        return 130
    except (FileNotFoundError, MemoryError, ValueError) as error:
        print(f"smartaug: {error}", file=sys.stderr)
        return 1
    except ModuleNotFoundError as error:
        print(f'smartaug: {job} needs {error.name}: pip install "smartaug[demo]"', file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
