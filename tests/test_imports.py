"""Imports go downward, and optional packages are imported only where they are used."""

import ast
import subprocess
import sys
from pathlib import Path

import smartaug

ROOT = Path(smartaug.__file__).parent
# lowest first; modules of one layer do not import each other, but for the files inside a package
LAYERS = [
    ["notices", "draws", "leaves", "fetch", "head", "labels", "logits", "ranks"],
    ["batch", "untouched"],
    ["grads_call"],
    ["grads_tangents"],
    ["grads"],
    ["augment", "reweight", "coreset"],
    ["shared_epoch", "per_sample"],
    ["lift", "dataset"],
    ["stages", "batch_fetch", "selection"],
    ["pipeline_inputs", "pipeline_augment", "pipeline_reweight"],
    ["pipeline"],
    ["collate", "sampler", "loss", "order"],
    ["moments"],
    ["side_stream"],
    ["loader_coreset", "loader_iterator", "loader_lift", "loader_state"],
    ["loader"],
    ["wrapped"],
    ["plots"],
    ["demo"],
    ["inspect"],
    ["cli"],
]
AUGMENT_LAYERS = [
    ["plan", "autoaugment", "cubic", "gauss", "lab"],
    ["backends", "checks", "rectangles", "space"],
    ["labels"],
    ["augmentation"],
    ["ops", "crops", "geometry", "tone", "mix", "policies", "foreign", "choose", "masks"],
    ["augmix", "compose"],
    ["partly"],
]
LIFT_LAYERS = [
    ["steps", "head", "noise", "opencv_rows"],
    ["opencv_geometry", "opencv_tone", "perspective", "timm_ops"],
    ["albumentations_geometry", "albumentations_head", "albumentations_values", "torchvision_geometry"],
    ["torchvision_values"],
    ["registry"],
    ["torchvision", "timm", "albumentations", "kornia"],
    ["lifted", "probe"],
    ["datasets"],
]


def imported(path):
    """Names of the package's own modules that the file imports, as paths below the package."""
    package = path.relative_to(ROOT).parent.parts
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.level:
            base = package[: len(package) - node.level + 1]
            if node.module:
                yield (*base, *node.module.split("."))
            else:
                yield from ((*base, alias.name) for alias in node.names)


def rank(layers, name):
    found = [number for number, layer in enumerate(layers) if name in layer]
    assert found, f"{name} has no place in the layers of tests/test_imports.py: give it one"
    return found[0]


def check(layers, folder):
    for path in sorted(folder.rglob("*.py")):
        parts = path.relative_to(folder).with_suffix("").parts
        if parts[0] in ("__init__", "__main__"):
            continue
        for target in imported(path):
            inside = target[len(folder.relative_to(ROOT).parts) :]
            if target[: len(folder.relative_to(ROOT).parts)] != folder.relative_to(ROOT).parts or not inside:
                continue
            if inside[0] != parts[0]:
                assert rank(layers, inside[0]) < rank(layers, parts[0]), f"{path.name} imports {'.'.join(inside)}"


def test_imports_go_downward():
    check(LAYERS, ROOT)


def test_imports_of_augmentations_go_downward():
    check(AUGMENT_LAYERS, ROOT / "augment")


def test_imports_of_lift_go_downward():
    check(LIFT_LAYERS, ROOT / "lift")


def test_importing_smartaug_imports_nothing_optional():
    code = "import sys, smartaug; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    optional = {"torchvision", "albumentations", "matplotlib", "numba", "sklearn", "PIL", "lightning", "accelerate"}
    assert optional.isdisjoint(loaded)


def test_public_names_are_sorted_and_there():
    assert smartaug.__all__ == sorted(smartaug.__all__, key=str)
    assert all(hasattr(smartaug, name) for name in smartaug.__all__)
