"""The Triton backend against the torch backend: on CUDA where there is one, else by Triton's interpreter.

The interpreter is chosen before triton is imported, so it runs in a process of its own, which repeats this file. What
the interpreter cannot show, that the kernels compile, is shown by compiling them for a GPU that need not be there; what
neither can show is skipped without CUDA.
"""

import dataclasses
import importlib
import os
import subprocess
import sys

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from test_augment_tables import cap_agrees, tone_agrees, with_cap
from test_backends import CASES, in_unit, pictures, planned, plans, same

import smartaug.augment as A
from smartaug import draws
from smartaug.augment import backends
from smartaug.augment.backends.tables import tones
from smartaug.augment.backends.tables.filters import FILTERS
from smartaug.augment.backends.tables.tones import TONES
from smartaug.augment.backends.triton import run as triton_backend
from smartaug.augment.plan import Erase, Filter, Lookup, Mix, Noise, Plan, Store, Tone, Warp
from smartaug.augment.targets import Heatmap, Mask
from smartaug.augment.targets.maps import move_map
from smartaug.augment.unequal import shape_of

INTERPRETED = triton_backend.interpreted()
CUDA = torch.cuda.is_available() and not INTERPRETED
DEVICE = "cuda" if CUDA else "cpu"
FLOATS = [torch.float32, torch.float16, torch.bfloat16]
SHAPES = [(3, 3, 9, 17), (2, 1, 8, 8), (2, 3, 1, 1), (0, 3, 6, 5)]

pytestmark = pytest.mark.skipif(not triton_backend.installed(), reason="triton is not installed")
conforms = pytest.mark.skipif(not (INTERPRETED or CUDA), reason="run by test_through_the_interpreter, or on CUDA")
compiles = pytest.mark.skipif(INTERPRETED, reason="the interpreter does not compile")
on_cuda = pytest.mark.skipif(not CUDA, reason="only CUDA synchronises, captures graphs and has streams")


@pytest.mark.skipif(INTERPRETED or CUDA, reason="this is where it runs")
@pytest.mark.skipif(torch.__version__ < "2.7", reason="triton 3.2's interpreter fails on scalars of NumPy 2.5")
@pytest.mark.timeout(1200)
@pytest.mark.parametrize(
    "chosen",
    [
        pytest.param(
            "any_plan or whole_policies and dtype1 or masks_move and shape1 or no_kernel or unequal", id="short"
        ),
        pytest.param("", id="all", marks=pytest.mark.slow),
    ],
)
def test_through_the_interpreter(chosen):
    command = [sys.executable, "-m", "pytest", "-n", "0", "-p", "no:cacheprovider", "-k", chosen, __file__]
    done = subprocess.run(command, env={**os.environ, "TRITON_INTERPRET": "1"}, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]


def by_triton(segments, images):
    """The segments by Triton, on DEVICE and back."""
    plan = Plan(tuple(images.shape), tuple(segments))
    return backends.execute(plan, images.to(DEVICE), "triton").cpu()


def by_torch(segments, images):
    return backends.execute(Plan(tuple(images.shape), tuple(segments)), images, "torch")


def agree(plan, found, expected):
    """`same`, but for one grey level where a blur's sums may be rounded in another order."""
    blurred = any(isinstance(s, Filter) and bool((s.op == FILTERS.index("GaussianBlur")).any()) for s in plan.segments)
    if not (blurred and found.dtype == expected.dtype == torch.uint8):
        same(found, expected)
    else:
        assert found.shape == expected.shape
        assert int((found.int() - expected.int()).abs().max()) <= 1


def near(found, expected):
    """Equal bytes for uint8, within 1/255 for floats."""
    assert (found.shape, found.dtype) == (expected.shape, expected.dtype)
    if found.dtype == torch.uint8:
        assert torch.equal(found, expected)
    else:
        torch.testing.assert_close(found.double(), expected.double(), rtol=1e-2, atol=1 / 255)


def uniform(*shape, low=0.0, high=1.0, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return low + (high - low) * torch.rand(shape, generator=generator, dtype=torch.float64)


@conforms
@pytest.mark.parametrize("shape", [(3, 9, 17), (3, 3, 18, 34), (3, 4, 6)])
def test_masks_move_alike(shape):
    """At any resolution: uint8 to the byte, whatever the plan."""
    mask = (uniform(*shape) * 255).to(torch.uint8)
    chain = A.Compose([A.RandomResizedCrop((7, 12)), A.Flip()])
    for augmentation in (A.Affine(40, (0.2, 0.1)), chain, A.RandAugment()):
        plan = planned(augmentation, (3, 3, 9, 17))
        for kind in (Mask(9), Heatmap(9)):
            found = move_map(plan, mask.to(DEVICE), kind, "triton").cpu()
            assert torch.equal(found, move_map(plan, mask, kind, "torch"))
    whole = move_map(plan, mask.long().to(DEVICE), Mask(9)).cpu()
    assert torch.equal(whole, move_map(plan, mask, Mask(9)).long())


@conforms
@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("make", CASES)
def test_gives_the_bytes_of_torch(make, shape):
    images, augmentation = pictures(shape), make()
    plan = planned(augmentation, shape)
    expected = backends.execute(plan, images, "torch")
    given = images.to(DEVICE)
    agree(plan, backends.execute(plan, given, "triton").cpu(), expected)
    assert torch.equal(given.cpu(), images)


@conforms
@pytest.mark.parametrize("make", CASES)
def test_channels_last(make):
    """The same values, the memory format kept, the input left as it is."""
    shape = (3, 3, 9, 6)
    images, plan = pictures(shape), planned(make(), shape)
    last = images.to(DEVICE).contiguous(memory_format=torch.channels_last)
    before = last.clone()
    found = backends.execute(plan, last, "triton")
    assert found.is_contiguous(memory_format=torch.channels_last)
    agree(plan, found.cpu(), backends.execute(plan, images, "torch"))
    assert torch.equal(last, before)


@conforms
@pytest.mark.filterwarnings("ignore:.*not writable.*:UserWarning")
def test_forms_of_input():
    images = pictures((3, 3, 9, 6))
    plan = planned(A.Compose([A.RandAugment(), A.MixUp(), A.Normalize()]), images.shape)
    expected = backends.execute(plan, images, "torch")
    wide = torch.empty(3, 3, 9, 12, dtype=torch.uint8, device=DEVICE)
    wide[..., ::2] = images.to(DEVICE)
    array = images.numpy().copy()
    array.flags.writeable = False
    for form in (wide[..., ::2], torch.from_numpy(array).to(DEVICE), images.to(DEVICE).flip(0).flip(0)):
        before = form.clone()
        same(backends.execute(plan, form, "triton").cpu(), expected)
        assert torch.equal(form, before)


@conforms
@pytest.mark.parametrize("dtype", [torch.uint8, *FLOATS])
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("name", TONES)
def test_tones(name, channels, dtype):
    """Every tone, uint8 and floats, with a row left alone; Equalize and AutoContrast also on a flat channel."""
    op = torch.full((3,), TONES.index(name))
    op[1] = 0
    top = {"Posterize": 8.0, "Solarize": 255.0, "Hue": 0.5}.get(name, 2.0)
    amount = uniform(3, high=top).float()
    tone = Tone(op, amount.floor() if name == "Posterize" else amount)
    images = pictures((3, channels, 20, 70), torch.uint8)
    images[2, 0] = 77
    images = images if dtype == torch.uint8 else images.to(dtype) / 255
    near(by_triton([tone], images), by_torch([tone], images))


@conforms
@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32])
@pytest.mark.parametrize("padding", ["constant", "edge", "reflect", "symmetric"])
@pytest.mark.parametrize("interpolation", ["nearest", "bilinear"])
def test_warps(interpolation, padding, dtype):
    """Any affine map: of some rows, to another size, within bounds; small images are reflected several times."""
    images = pictures((3, 3, 7, 5), dtype)
    matrix = uniform(3, 2, 3, low=-2.0, high=2.0) * torch.tensor([1.0, 1.0, 6.0])
    active = torch.tensor([True, False, True])
    bounds = torch.tensor([[0.0, 3.5, 1.0, 4.0]], dtype=torch.float64).expand(3, 4)
    how = {"interpolation": interpolation, "padding": padding}
    store = Store((0.4, 0.5, 0.6), (0.2, 0.3, 0.4))
    for segments in (
        [Warp(matrix, (7, 5), fill=(10.0, 99.6, 200.0), active=active, **how)],
        [Warp(matrix, (3, 11), fill=(31.0,), **how), store],
        [Warp(matrix, (6, 6), bounds=bounds, **how)],
        [Warp(matrix.round(), (7, 5), grid=True, bounds=bounds, **how)],
        [Warp(matrix.clamp(0, 0.3), (4, 4), inside=True, **how), store],
    ):
        segments = segments if dtype == torch.uint8 else [in_unit(segment) for segment in segments]
        near(by_triton(segments, images), by_torch(segments, images))


@conforms
@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32, torch.float16])
@pytest.mark.parametrize("channels", [1, 3])
def test_filters_erase_and_mix(channels, dtype):
    images = pictures((4, channels, 9, 11), dtype)
    unit = 1.0 if dtype == torch.uint8 else 1 / 255
    partner, share = torch.tensor([2, 0, 3, 0]), uniform(4).float()
    boxes = torch.tensor([[0, 0, 9, 11], [2, 3, 4, 5], [8, 10, 1, 1], [3, 3, 0, 4]])
    segments = [
        Filter(torch.tensor([1, 0, 1, 1]), uniform(4, high=3.0).float()),
        Filter(torch.tensor([2, 1, 0, 2]), torch.tensor([0.3, 2.0, 1.0, 4.0]), (5, 3)),
        Erase(torch.stack([boxes, boxes.flip(0) - 2], 1), tuple(40.0 * n * unit for n in range(channels))),
        Mix(partner, share),
        Mix(partner, share, boxes),
    ]
    for segment in segments:
        found, expected = by_triton([segment], images), by_torch([segment], images)
        if dtype == torch.uint8:
            agree(Plan(tuple(images.shape), (segment,)), found, expected)
        else:
            near(found, expected)
    store = Store((0.4,) * channels, (0.2,) * channels)
    near(by_triton([*segments[3:], store], images), by_torch([*segments[3:], store], images))


@conforms
@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32, torch.float16])
@pytest.mark.parametrize("channels", [1, 3])
def test_lookup_and_noise(channels, dtype):
    images = pictures((4, channels, 9, 11), dtype)
    some = torch.tensor([True, False, True, True])
    numbers = uniform(4, high=40.0).float(), uniform(4, high=9.0).float() - 4
    key = draws.key(0, 1, torch.arange(4))
    for segment in (
        Lookup(uniform(4, 256, high=300.0).float() - 20, some),
        Lookup(uniform(4, channels, 256, high=255.0).float()),
        Noise(key, *numbers, shared=True),
        Noise(key, *numbers, active=some),
    ):
        found, expected = by_triton([segment], images), by_torch([segment], images)
        if dtype == torch.uint8:
            assert torch.equal(found, expected)
        else:
            near(found, expected)


@conforms
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_whole_policies_on_floats(dtype):
    """Buffers alternate and dtypes change within one plan; what comes behind Normalize runs too."""
    shape = (6, 3, 12, 10)
    images = pictures(shape, dtype)
    # no segment that turns a rounding error into a level
    augmentation = A.Compose(
        [A.PadCrop(3), A.Flip(), A.Affine(30, interpolation="bilinear"), A.Sharpness(2.0), A.MixUp()]
    )
    plan = planned(A.Compose([augmentation, A.Normalize(0.4, 0.3, dtype=torch.float16), A.Flip(), A.Erase()]), shape)
    for form in (images, images.contiguous(memory_format=torch.channels_last)):
        found = backends.execute(plan, form.to(DEVICE), "triton").cpu()
        expected = backends.execute(plan, form, "torch")
        assert (found.shape, found.dtype) == (expected.shape, expected.dtype)
        torch.testing.assert_close(found, expected, rtol=0, atol=3 / 255 if dtype == torch.float32 else 0.1)


@conforms
@settings(max_examples=20, deadline=None)
@given(plans())
def test_any_plan_gives_the_same_bytes(plan):
    segments = [
        dataclasses.replace(segment, op=segment.op.clamp(max=FILTERS.index("Sharpness")))
        if isinstance(segment, Filter)
        else segment
        for segment in plan.segments
    ]
    images = pictures(plan.shape)
    expected = by_torch(segments, images)
    same(by_triton(segments, images), expected)
    last = by_triton(segments, images.contiguous(memory_format=torch.channels_last))
    same(last, expected)


@conforms
def test_replays_the_same_bytes():
    images = pictures((6, 3, 40, 33)).to(DEVICE)
    plan = planned(A.Compose([A.RandAugment(2), A.CutMix(), A.Normalize(dtype=torch.float16)]), images.shape)
    program = triton_backend.prepare(plan.segments, images)
    found = program(images)
    for again in (program(images), backends.execute(plan, images, "triton")):
        assert torch.equal(again, found)
    with pytest.raises(ValueError, match=r"prepared for torch.uint8 images \(6, 3, 40, 33\).*call prepare again"):
        program(images[:4])


@conforms
def test_what_has_no_kernel_is_left_to_torch():
    images = pictures((4, 3, 8, 8)).to(DEVICE)
    plan = planned(A.Compose([A.Flip(), A.AugMix(), A.Normalize(dtype=torch.float64), A.Flip()]), images.shape)
    choices = backends.explain(plan, images, "triton")
    assert [choice.backend for choice in choices] == ["triton", "torch", "torch", "torch"]
    assert [choice.reason.split()[0] for choice in choices] == ["uint8", "consists", "Normalize", "triton"]
    assert "float64" in choices[3].reason
    same(backends.execute(plan, images, "triton").cpu(), backends.execute(plan, images.cpu(), "torch"))
    for refused, reason in (
        (images.double(), "images are torch.float64"),
        (images[:, :2], "images have 2 channels"),
        (images.float().requires_grad_(), "images require gradients"),
    ):
        with pytest.raises(ValueError, match=f"triton.* but {reason}; .*leave backend=None"):
            backends.explain(plan, refused, "triton")


@conforms
@pytest.mark.parametrize("row", tones.TABLE, ids=lambda row: row.name)
def test_every_tone_of_the_table(row):
    tone_agrees(row, "triton", run=lambda plan, images, _: by_triton(plan.segments, images))


@conforms
@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32])
def test_a_row_and_a_function_a_backend_make_a_tone(dtype, tmp_path, monkeypatch):
    """By CONTRIBUTING, in a copy of the package: no other line is touched."""
    cap_agrees(with_cap(tmp_path, monkeypatch), dtype, "triton", DEVICE)


@conforms
@pytest.mark.parametrize("suffix", ["", tones.STATISTICS])
def test_a_function_that_is_not_there_is_named(monkeypatch, suffix):
    from smartaug.augment.backends.triton import tone

    monkeypatch.setattr(tones, "TABLE", (*tones.TABLE, tones.Operation("Toy", measures=True)))
    with pytest.raises(NotImplementedError, match=rf"triton/tone.py lacks Toy of .*; write toy{suffix}\(\) there"):
        tones.functions(vars(tone), "triton/tone.py", suffix)


@conforms
def test_an_unknown_code_leaves_samples_as_they_are(monkeypatch):
    """Past the check on the host, whether the table says that it mixes channels, measures, or neither."""
    from smartaug.augment.backends.triton import launch

    images, code = pictures((4, 3, 7, 6)), len(tones.TONES)
    monkeypatch.setattr(tones, "TONES", (*tones.TONES, "Toy"))
    for mixes, measures in ((False, False), (True, False), (False, True)):
        monkeypatch.setattr(launch, "_MIXES_CHANNELS", np.append(launch._MIXES_CHANNELS[:code], mixes))
        monkeypatch.setattr(launch, "_MEASURED", np.append(launch._MEASURED[:code], measures))
        assert torch.equal(by_triton([Tone(torch.full((4,), code), torch.ones(4))], images), images)


@conforms
def test_an_unknown_code_is_refused():
    for segment in (Tone(torch.tensor([-1]), torch.ones(1)), Filter(torch.tensor([3]), torch.ones(1))):
        with pytest.raises(ValueError, match=r"op has the codes \[(-1|3)\]"):
            by_triton([segment], pictures((1, 3, 4, 4)))


@conforms
def test_the_declared_kinds_are_those_with_kernels():
    from smartaug.augment.backends.triton import launch

    assert {*launch.STEPS, *launch.CLOSES, Store} == triton_backend.RUNS


@conforms
@settings(max_examples=4 if INTERPRETED else 30, deadline=None)
@given(st.integers(0, 999), st.sampled_from(["bilinear", "bicubic"]), st.sampled_from([1, 3]))
def test_unequal_images_become_the_bytes_of_the_cpu(seed, mode, channels):
    sides = torch.randint(1, 40, (3, 2), generator=torch.Generator().manual_seed(seed)).tolist()
    images = [pictures((1, channels, *size))[0] for size in sides]
    crop = A.RandomResizedCrop((9, 14), (0.05, 1.0), (0.3, 3.0), mode, antialias=True)
    plan = crop.sample(shape_of(images), draws.key(seed, 0, torch.arange(3), 0))
    there = [image.to(DEVICE) for image in images]
    assert backends.explain_unequal(plan, there, "triton")[0].backend == "triton"
    same(backends.execute_unequal(plan, there, "triton").cpu(), backends.execute_unequal(plan, images, "torch"))


@conforms
def test_unequal_images_that_have_no_kernel_are_left_to_torch():
    images = [pictures((1, 3, *size))[0] for size in ((9, 12), (15, 8))]
    floats = [image.float() / 255 for image in images]
    for crop, own, why in (
        (A.Crop(7), images, "Warp of unequal images has no kernel"),
        (A.Resize(7, antialias=True), floats, "images are no uint8"),
    ):
        plan = crop.sample(shape_of(own), draws.key(0, 0, torch.arange(2), 0))
        there = [image.to(DEVICE) for image in own]
        (choice,) = backends.explain_unequal(plan, there, "triton")
        assert (choice.backend, choice.reason) == ("torch", f"one image after the other: {why}")
        near(backends.execute_unequal(plan, there, "triton").cpu(), backends.execute_unequal(plan, own, "torch"))


@compiles
def test_cpu_images_say_what_to_type():
    images = pictures((2, 3, 8, 8))
    with pytest.raises(ValueError, match=r"on CUDA.*images are on cpu; write images.cuda\(\), or leave backend=None"):
        A.RandAugment(backend="triton")(images)
    with pytest.raises(ValueError, match='or "triton" for images on CUDA'):
        A.RandAugment(backend="cuda")


@compiles
def test_missing_triton_is_named(monkeypatch):
    monkeypatch.setattr(triton_backend, "installed", lambda: False)
    with pytest.raises(ImportError, match="pip install triton"):
        A.RandAugment(backend="triton")
    images = pictures((2, 3, 8, 8)).to(DEVICE)
    plan = planned(A.Flip(), images.shape)
    (choice,) = backends._triton_choices(plan.segments, images, None)
    assert (choice.backend, choice.reason) == ("torch", "triton is not installed: pip install triton")
    if CUDA:
        same(backends.execute(plan, images).cpu(), backends.execute(plan, images.cpu(), "torch"))


@compiles
def test_importing_does_not_import_triton():
    code = "import sys, smartaug.augment, smartaug.augment.backends.triton; assert 'triton' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)


class Compiler:
    """Stands in for a kernel: compiles each kind of launch for sm_90, once, and computes nothing."""

    _TYPES = {torch.uint8: "u8", torch.float32: "fp32", torch.float16: "fp16", torch.bfloat16: "bf16"} | {
        torch.int32: "i32",
        torch.int64: "i64",
    }

    def __init__(self, kernel, made):
        self.kernel, self.made = kernel, made

    def __getitem__(self, grid):
        return self.launch

    def launch(self, *arguments, **how):
        from triton.backends.compiler import GPUTarget
        from triton.compiler import ASTSource, compile

        options = {name: how.pop(name) for name in ("num_warps", "enable_fp_fusion")}
        signature = dict.fromkeys(how, "constexpr")
        constants, divisible = dict(how), {}
        for n, (name, value) in enumerate(zip(self.kernel.arg_names, arguments, strict=False)):
            if isinstance(value, torch.Tensor):
                signature[name] = "*" + self._TYPES[value.dtype]
            elif value == 1:  # as Triton specialises
                signature[name], constants[name] = "constexpr", 1
            else:
                signature[name] = "i32"
            if isinstance(value, torch.Tensor) or value % 16 == 0:
                divisible[(n,)] = [["tt.divisibility", 16]]
        signature = {name: signature[name] for name in self.kernel.arg_names}
        key = (self.kernel.__name__, *signature.items(), *constants.items(), *divisible)
        if key not in self.made:
            source = ASTSource(self.kernel, signature, constants, divisible)
            self.made[key] = compile(source, target=GPUTarget("cuda", 90, 32), options=options)


KERNELS = {
    "warp": ["warp"],
    "tone": ["tone", "statistics"],
    "resample": ["resample"],
    "pixels": ["lookup", "noise", "sharpness", "blur_columns", "blur_rows", "erase", "mix", "store"],
}


@compiles
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("count", [pytest.param(1, id="short"), pytest.param(3, id="all", marks=pytest.mark.slow)])
def test_kernels_compile_for_a_gpu(count, monkeypatch, tmp_path):
    """Each kernel, for uint8 and floats, both layouts, one and three channels, to machine code without fused sums."""
    pytest.importorskip("triton", minversion="3.4")
    backend = pytest.importorskip("triton.backends.nvidia.compiler", reason="this triton compiles for other GPUs")
    if not os.path.exists(backend.get_ptxas(90).path):
        pytest.skip("ptxas is not there")
    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
    made = {}
    for module, names in KERNELS.items():
        there = importlib.import_module(f"smartaug.augment.backends.triton.{module}")
        for name in names:
            monkeypatch.setattr(there, name, Compiler(getattr(there, name), made))
    augmentations = [
        A.RandAugment(14),
        A.Compose([A.RandAugment(interpolation="bilinear"), A.Erase(1.0), A.CutMix(), A.Normalize()]),
        A.Compose([A.RandomResizedCrop(20), A.MixUp(), A.GaussianBlur((3, 5)), A.Normalize(dtype=torch.bfloat16)]),
        A.Compose([A.PadCrop(3, mode="reflect"), A.ColorJitter(0.1, 0.1, 0.1, 0.1)]),
        A.PadCrop(3, mode="symmetric"),
    ]
    for shape, last, dtype in [
        ((8, 3, 32, 48), False, torch.uint8),
        ((8, 3, 33, 33), True, torch.uint8),
        ((4, 1, 32, 32), False, torch.bfloat16),
    ][:count]:
        images = torch.zeros(shape, dtype=dtype)
        images = images.contiguous(memory_format=torch.channels_last) if last else images
        for augmentation in augmentations:
            triton_backend.prepare(planned(augmentation, shape).segments, images)(images)
        drawn = torch.ones(shape[0]), torch.zeros(shape[0])
        for segment in (
            Lookup(torch.zeros(shape[0], 256)),
            Lookup(torch.zeros(shape[0], shape[1], 256)),
            Noise(torch.zeros(shape[0], dtype=torch.int64), *drawn),
            Noise(torch.zeros(shape[0], dtype=torch.int64), *drawn, shared=True),
        ):
            triton_backend.prepare([segment], images)(images)
        if dtype == torch.uint8:
            crop = A.RandomResizedCrop(20, antialias=True)
            segment = crop.sample(shape_of(images), draws.key(0, 0, torch.arange(len(images)), 0)).segments[0]
            backends.unequal.run("triton", segment, list(images))
    assert {key[0] for key in made} == {name for names in KERNELS.values() for name in names}
    for kernel in made.values():
        assert kernel.asm["cubin"]
        for rounds_otherwise in ("fma.rn.f32", "div.full.f32", "div.approx"):  # than the torch backend does
            assert rounds_otherwise not in kernel.asm["ptx"]


@on_cuda
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_never_waits_for_the_device(dtype):
    images = pictures((16, 3, 32, 32)).cuda()
    augmentation = A.Compose(
        [
            A.RandomResizedCrop(24),
            A.Flip(),
            A.RandAugment(),
            A.GaussianBlur(3),
            A.Erase(),
            A.CutMix(),
            A.Normalize(dtype=dtype),
        ]
    )
    plan = planned(augmentation, images.shape)
    expected = backends.execute(plan, images)  # compiles, which loads modules
    torch.cuda.set_sync_debug_mode("error")
    try:
        found = augmentation.apply(images, plan)
        augmentation(images, index=torch.arange(16))
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert torch.equal(found, expected)


@on_cuda
def test_captured_in_a_graph():
    """A captured program gives new results when its input's memory is filled anew."""
    images = pictures((16, 3, 32, 32)).cuda()
    plan = planned(A.Compose([A.RandAugment(), A.MixUp(), A.Normalize(dtype=torch.bfloat16)]), images.shape)
    program = triton_backend.prepare(plan.segments, images)
    program(images)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        out = program(images)
    for seed in (1, 2):
        images.copy_(pictures((16, 3, 32, 32), seed=seed))
        graph.replay()
        assert torch.equal(out, program(images))


@on_cuda
def test_under_autocast_and_on_another_stream():
    images = pictures((16, 3, 32, 32)).cuda()
    plan = planned(A.Compose([A.RandAugment(), A.MixUp(), A.Normalize()]), images.shape)
    expected = backends.execute(plan, images)
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.autocast("cuda", dtype=torch.bfloat16), torch.cuda.stream(stream):
        found = backends.execute(plan, images)
    torch.cuda.current_stream().wait_stream(stream)
    assert found.dtype == torch.float32
    assert torch.equal(found, expected)


@on_cuda
def test_bfloat16_channels_last_and_large():
    """The usual output for training; more blocks than one a sample."""
    images = pictures((32, 3, 224, 224)).contiguous(memory_format=torch.channels_last)
    plan = planned(
        A.Compose([A.Flip(), A.RandAugment(), A.CutMix(), A.Normalize(0.4, 0.3, dtype=torch.bfloat16)]), images.shape
    )
    found = backends.execute(plan, images.cuda())
    assert {choice.backend for choice in backends.explain(plan, images.cuda())} == {"triton"}
    assert found.is_contiguous(memory_format=torch.channels_last)
    same(found.cpu(), backends.execute(plan, images, "torch"))
