"""Imports go downward, and optional packages are imported only where they are used."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

import smartaug

ROOT = Path(smartaug.__file__).parent
# lowest first; rooms of one row do not import each other
LAYERS = [
    ["warnings", "draws"],
    # what several rooms use and none of them could own: without this folder, 16 more modules in the root
    ["_base"],
    ["batch"],
    ["grads"],
    ["augment", "reweight", "coreset"],
    ["lift"],
    ["pipeline"],
    ["loss"],
    ["moments", "loading"],
    ["cli"],
]
FILES = sorted(ROOT.rglob("*.py"))


def module_of(path):
    """The module's name below the package, as a tuple; a folder's `__init__` is the folder."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return parts[:-1] if parts[-1] == "__init__" else parts


MODULES = {module_of(path): path for path in FILES}


def imported(path):
    """The package's own modules that the file imports, wherever in it, as tuples below the package."""
    package = path.relative_to(ROOT).parent.parts
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.level:
            base = package[: len(package) - node.level + 1]
            module = (*base, *node.module.split(".")) if node.module else base
            for alias in node.names:
                name = (*module, alias.name)
                yield name if name in MODULES else module


def rank(room):
    found = [number for number, layer in enumerate(LAYERS) if room in layer]
    assert found, f"{room} has no place in the layers of tests/test_imports.py: give it one"
    return found[0]


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_go_downward(path):
    room = module_of(path)[:1]
    if not room or room[0] == "__main__":
        return
    for target in imported(path):
        assert target, f"{path} imports from the package's root; name the module"
        if target[0] != room[0]:
            assert rank(target[0]) < rank(room[0]), f"{path} imports {'.'.join(target)}, which is not below it"


def test_no_module_imports_itself_over_others():
    graph = {name: set(imported(path)) - {name} for name, path in MODULES.items()}
    while leaves := [name for name, targets in graph.items() if not targets & graph.keys()]:
        for name in leaves:
            del graph[name]
    assert not graph, f"import cycle among {sorted('.'.join(name) for name in graph)}"


def test_the_root_stays_small():
    entries = [entry for entry in ROOT.iterdir() if entry.name != "__pycache__"]
    assert len(entries) <= 20, "a new concept belongs into one of the rooms"


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_files_are_short(path):
    count = len(path.read_text().splitlines())
    assert count <= 400, f"{path} has {count} lines, and 400 are allowed: move one of its concepts to a file of its own"


FIRST_WORDS = {"meta"}  # the names of methods in papers: MetaAugment, Meta-Weight-Net


@pytest.mark.parametrize("folder", sorted({path.parent for path in FILES}), ids=lambda path: str(path.name))
def test_what_a_prefix_would_say_a_folder_says(folder):
    names = [entry.stem for entry in folder.iterdir() if entry.suffix == ".py" or (entry / "__init__.py").exists()]
    words = [name.strip("_").partition("_")[0] for name in names]
    families = {word for word in words if words.count(word) > 1} - FIRST_WORDS
    assert not families, f"several modules of {folder} begin with {sorted(families)}: make a folder of that name"


LONG = {  # longer than 50 lines, and why
    ("loading/dataloader.py", "__init__"): "torch's keywords and smartaug's, each on a line, and passed on",
    (
        "augment/backends/numba/program.py",
        "compiled",
    ): "one function, which numba compiles into one loop",
    ("augment/backends/numba/program.py", "run"): "that loop, over the steps of a sample",
    ("augment/backends/triton/warp.py", "warp"): "Triton passes each pointer and size of a kernel by itself",
}


FOLDERS = [
    path
    for path in sorted(ROOT.rglob("__init__.py"))
    if "|---|" in (ast.get_docstring(ast.parse(path.read_text())) or "")
]


@pytest.mark.parametrize("path", FOLDERS, ids=lambda path: str(path.parent.relative_to(ROOT.parent)))
def test_tables_of_folders_name_every_file(path):
    """By its name, or by that of the class that it is called after."""
    named = {
        name.rstrip("/").lower() for name in re.findall(r"`([^`\n]+)`", ast.get_docstring(ast.parse(path.read_text())))
    }
    inside = {file.stem for file in path.parent.glob("*.py")} | {
        file.parent.name for file in path.parent.glob("*/__init__.py")
    }
    missing = {name for name in inside if not name.startswith("__") and not {name, name.replace("_", "")} & named}
    assert not missing, f"give them a row in {path}"


def test_functions_are_short():
    long = {}
    for path in FILES:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                text = node.body[0] if ast.get_docstring(node) else None  # which is no code
                lines = node.end_lineno - node.lineno + 1 - (text.end_lineno - text.lineno + 1 if text else 0)
                if lines > 50:
                    long[path.relative_to(ROOT).as_posix(), node.name] = lines
    assert long.keys() == LONG.keys(), f"split what is not in LONG, and take out what is short by now: {long}"


def test_importing_smartaug_imports_nothing_optional():
    code = "import sys, smartaug; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    optional = {"torchvision", "albumentations", "matplotlib", "numba", "sklearn", "PIL", "lightning", "accelerate"}
    assert optional.isdisjoint(loaded)


def test_public_names_are_sorted_and_there():
    wanted = sorted(smartaug.__all__)
    misplaced = [name for name, right in zip(smartaug.__all__, wanted, strict=True) if name != right]
    assert not misplaced, (
        f"__all__ of smartaug/__init__.py must be in the order of sorted(); from {misplaced[0]} on it is not"
    )
    assert all(hasattr(smartaug, name) for name in smartaug.__all__)
