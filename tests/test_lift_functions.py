"""Copies of the user's functions with another pipeline run as the functions do, or are not made.

Every program gives with ``lift=True`` what torch's loader gives: the pipelines here always draw the same.
"""

import contextlib
import functools
import sys
import types

import pytest
import torch

import smartaug
from smartaug.lift.holders.functions import Refilled
from tests.test_lift_copies import COUNT, Pictures, check, recipe

pipeline, weak = recipe(), recipe(0.0)
LEVEL = 2
presets = types.ModuleType("presets_of_functions")
presets.tf, presets.read = pipeline, 0
sys.modules["presets_of_functions"] = presets


def step(image):
    return pipeline(image)


step.calls = step.function = 0
same = step


def calls():
    return step.calls


def writes_attributes(image):
    step.calls += 1
    assert calls() == step.calls
    assert step.__code__.co_name == "step"
    assert "LEVEL" in step.__globals__
    return step(image)


def names_it_twice(image):
    return same(image) if same is step else None


def writes_to_a_module(image):
    presets.read += 1
    assert sys.modules["presets_of_functions"].read == presets.read
    return presets.tf(image)


def again(image, left=3):
    return pipeline(image) if left == 0 else again(image, left - 1)


@contextlib.contextmanager
def given_one():
    yield pipeline


def with_a_context(image):
    with given_one() as one:
        return one(image)


def counted(function):
    count = 0

    @functools.wraps(function)
    def counts(image):
        nonlocal count
        count += 1
        return function(image)

    return counts


@counted
def decorated(image):
    return pipeline(image)


class OfGlobals:
    def run(self, image):
        return pipeline(image)


def defines(image):
    class Local:
        level = LEVEL

    return pipeline(image) if Local.level == 2 else None


def assigns(image):
    global seen_size
    seen_size = image.size
    assert size_seen() == image.size
    return pipeline(image)


def size_seen():
    return seen_size


def evaluates(image):
    return pipeline(image) if image.size == (1, 1) else eval("pipeline")(image)


switched = pipeline


def switch():
    global switched
    switched = weak if switched is pipeline else pipeline


def is_switched(image):
    switch()
    return switched(image)


def switched_in_closure():
    tf, other = recipe(), recipe(0.0)

    def change():
        nonlocal tf, other
        tf, other = other, tf

    def prepare(image):
        change()
        return tf(image)

    return prepare


TAKEN = {
    "attributes of a function": writes_attributes,
    "two names": names_it_twice,
    "an attribute of a module": writes_to_a_module,
    "recursion": again,
    "a context": with_a_context,
    "decorated": decorated,
    "a bound method": OfGlobals().run,
}
LEFT = {
    "a class": (defines, "it defines a class, so the globals that it reads are not taken over: give it the pipeline"),
    "assigned": (assigns, "it assigns the global seen_size, so the globals that it reads are not taken over"),
    "eval": (evaluates, "it calls eval(), so the globals"),
    "switched": (is_switched, "is_switched stays in the worker"),
    "switched in a closure": (switched_in_closure(), "prepare stays in the worker"),
}


@pytest.mark.parametrize("name", TAKEN)
@pytest.mark.parametrize("started", ["here", "anew"])
def test_functions_run_as_ever(name, started):
    others = {"num_workers": 1, "multiprocessing_context": "forkserver"} if started == "anew" else {}
    check(lambda: Pictures(TAKEN[name]), COUNT, **others)


@pytest.mark.parametrize("name", LEFT)
def test_functions_that_are_left_alone(name):
    global switched
    function, words = LEFT[name]
    switched = pipeline
    if name.startswith("switched"):
        with pytest.warns(smartaug.NoEffectWarning, match=words):
            assert next(iter(smartaug.DataLoader(Pictures(function), 4, lift=True)))[0].dtype == torch.float32
    else:
        check(lambda: Pictures(function), 0, words)


def test_relative_imports():
    scope = {"__name__": "tests.made", "__package__": "tests", "pipeline": pipeline}
    exec("def prepare(image):\n    from .lifting import DRAWS\n    return pipeline(image) if DRAWS else None", scope)
    check(lambda: Pictures(scope["prepare"]), COUNT)


def test_a_pipeline_that_is_bound_anew_is_read_where_it_is():
    """By the function itself, as a worker sees it; in the main process the next batch raises."""
    one, two, three = object(), object(), object()
    scope = {"one": one, "three": three}
    exec("def read(): return one", scope)
    made = Refilled(scope["read"], {("global", "one"): two})
    assert made() is two
    scope["one"] = three
    assert made() is three

    def closed():
        return one

    made = Refilled(closed, {("cell", "one"): two})
    assert made() is two
    one = three
    assert made() is three

    def assigned_meanwhile():
        return [setter(four), one]

    def setter(value):
        nonlocal one
        one = value

    four = object()
    made = Refilled(assigned_meanwhile, {("cell", "one"): two})
    with pytest.raises(RuntimeError, match=r"a variable of assigned_meanwhile \(test_lift_functions.py, line \d+\)"):
        made()
