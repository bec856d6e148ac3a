"""AugMix: what it adds up, and that its draws follow torchvision's tables and the paper's distributions."""

import pytest
import torch
from torchvision.transforms.autoaugment import AugMix as TorchvisionAugMix

import smartaug.augment as A
from smartaug.augment import backends
from smartaug.augment.plan import Branches, Plan


def drawn(augmix, count=3000, size=32):
    return augmix.plan((count, 3, size, size), index=torch.arange(count), seed=0)


@pytest.mark.parametrize("backend", backends.NAMES)
def test_adds_up_its_branches(backend):
    images = (torch.rand(6, 3, 20, 24, generator=torch.Generator().manual_seed(0)) * 255).to(torch.uint8)
    plan = A.AugMix(5).plan(images.shape, index=torch.arange(6), seed=1)
    (segment,) = plan.segments
    assert isinstance(segment, Branches)
    assert len(segment.branches) == 3
    expected = images * segment.weights[:, 0, None, None, None].double()
    for k, branch in enumerate(segment.branches, 1):
        part = backends.execute(Plan(plan.shape, branch), images, backend)
        expected += part * segment.weights[:, k, None, None, None].double()
    found = backends.execute(plan, images, backend)
    assert (found - expected.floor()).abs().max() <= 1
    assert plan.output_shape == tuple(images.shape)
    assert plan.moves_pixels


@pytest.mark.parametrize("alpha", [1.0, 0.4, 3.0])
def test_weights(alpha):
    weights = drawn(A.AugMix(alpha=alpha), 6000).segments[0].weights.double()
    torch.testing.assert_close(weights.sum(1), torch.ones(6000, dtype=torch.float64), rtol=0, atol=1e-5)
    own, shares = weights[:, 0], weights[:, 1:] / weights[:, 1:].sum(1, keepdim=True)
    assert abs(float(own.mean()) - 0.5) < 0.02
    assert abs(float(own.var()) - 0.25 / (2 * alpha + 1)) < 0.01
    shares = shares[own < 0.999]
    assert ((shares.mean(0) - 1 / 3).abs() < 0.02).all()
    assert ((shares.var(0) - (2 / 9) / (3 * alpha + 1)).abs() < 0.01).all()


@pytest.mark.parametrize("all_ops", [True, False])
def test_operations_are_torchvisions(all_ops):
    severity = 4
    theirs = TorchvisionAugMix(severity, all_ops=all_ops)._augmentation_space(10, (32, 32))
    allowed = {}
    for name, (values, signed) in theirs.items():
        listed = values[:severity].tolist() if values.ndim else [0.0]
        listed = [float(int(v)) if name.startswith("Translate") else v for v in listed]
        allowed[name] = {round(sign * v, 3) + 0.0 for v in listed for sign in ((1, -1) if signed else (1,))}
    trace = drawn(A.AugMix(severity, all_ops=all_ops)).trace
    names = [trace.names[op] for op in trace.ops.flatten().tolist()]
    found = {}
    for name, magnitude in zip(names, trace.magnitudes.flatten().tolist(), strict=True):
        found.setdefault(name, set()).add(round(magnitude, 3) + 0.0)
    found.pop("Identity")
    assert found == allowed
    counts = torch.tensor([names.count(name) for name in allowed], dtype=torch.float64)
    assert ((counts / counts.sum() * len(allowed) - 1).abs() < 0.06).all()


def test_depth_of_chains():
    ops = drawn(A.AugMix()).trace.ops.view(-1, 3, 3)
    depth = (ops != 0).sum(2).flatten()
    share = depth.bincount(minlength=4) / len(depth)
    assert share[0] == 0
    assert ((share[1:] - 1 / 3).abs() < 0.02).all()
    assert (drawn(A.AugMix(chain_depth=2)).trace.ops != 0).sum(1).eq(6).all()
