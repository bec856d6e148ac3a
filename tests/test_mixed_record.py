"""What a coreset records of rows that MixUp or CutMix made: every sample by its shares of the rows it is in."""

import copy
import io

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.utils.data import TensorDataset

import smartaug
from smartaug._base.row_extras.mixed import Mixed
from smartaug.batch import Target
from smartaug.coreset.record import _NOT_FINITE, _SEEN, pack, unpack
from tests import reference_coreset as reference


@st.composite
def mixed_batches(draw):
    """Logits, the samples of the rows, their labels and what they are made of; now and then a row alone, or twice."""
    rows, classes, width = draw(st.integers(1, 9)), draw(st.sampled_from([2, 3, 40])), draw(st.integers(2, 4))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**31)))
    index = torch.randint(0, 100, (rows,), generator=generator) if draw(st.booleans()) else torch.randperm(100)[:rows]
    label = index % classes
    picked = torch.randint(0, rows, (rows, width), generator=generator)
    picked[:, 0] = torch.arange(rows)
    shares = torch.rand(rows, width, generator=generator).softmax(1) ** draw(st.sampled_from([1, 8]))
    shares = shares / shares.sum(1, keepdim=True)
    alone = torch.rand(rows, generator=generator) < 0.2
    shares[alone] = 0.0
    shares[alone, 0] = 1.0
    parts = index[picked]
    if draw(st.booleans()):
        parts[:, -1] = 777  # of another piece of the batch
        parts[alone, -1] = index[alone]
    soft = (shares[..., None] * nn.functional.one_hot(label[picked], classes)).sum(1)
    return 3 * torch.randn(rows, classes, generator=generator), index, label, Mixed(parts, shares, soft)


@settings(max_examples=80, deadline=None)
@given(mixed_batches())
def test_samples_get_the_share_weighted_mean_of_their_rows(batch):
    logits, index, label, mixed = batch
    packed = pack(logits, label, mixed=(index, mixed))
    wanted = reference.mixed_record(logits, *mixed, index, label)
    residual = unpack(packed.values, packed.classes, logits.shape[1])
    met = set()
    for row, sample in enumerate(index.tolist()):
        if sample in met:
            continue  # the table keeps the first row of a sample
        met.add(sample)
        total = float(mixed.shares[mixed.parts == sample].sum())
        if abs(total - 0.25) < 1e-5:
            continue  # on the edge
        assert (int(packed.status[row]) == _SEEN) == (sample in wanted)
        if sample in wanted:
            near = 1e-5 if packed.classes is None else 0.1
            assert torch.allclose(residual[row].double(), wanted[sample][0], atol=near)
            assert float(residual[row].sum()) == pytest.approx(0, abs=1e-4 if packed.classes is None else 1e-2)
            assert float(packed.loss[row]) == pytest.approx(float(wanted[sample][1]), abs=1e-4, rel=1e-4)
            assert int(packed.label[row]) == int(label[row])


def test_rows_alone_are_what_they_were_bit_for_bit():
    logits, label, index = torch.randn(6, 5), torch.arange(6) % 5, torch.arange(6)
    shares = torch.tensor([[1.0, 0.0]] * 6)
    mixed = Mixed(index[:, None].repeat(1, 2), shares, nn.functional.one_hot(label, 5).float())
    for mine, plain in zip(pack(logits, label, mixed=(index, mixed)), pack(logits, label), strict=True):
        assert mine is plain is None or torch.equal(mine, plain)


def test_a_row_that_is_not_finite_tells_nothing():
    index, label, shares = torch.tensor([4, 7]), torch.tensor([0, 1]), torch.tensor([[0.6, 0.4], [0.7, 0.3]])
    mixed = Mixed(torch.tensor([[4, 7], [7, 4]]), shares, torch.tensor([[0.6, 0.4], [0.3, 0.7]]))
    logits = torch.tensor([[torch.nan, 0.0], [1.0, 2.0]])
    packed = pack(logits, label, mixed=(index, mixed))
    assert packed.status.tolist() == [_SEEN, _SEEN]  # 0.3 of the first sample is in the second row
    assert torch.allclose(packed.values[0], logits[1].softmax(0) - mixed.soft[1])
    assert pack(logits * torch.nan, label, mixed=(index, mixed)).status.tolist() == [_NOT_FINITE] * 2


def test_what_rows_are_made_of_follows_them():
    mixed = Mixed(torch.arange(8).view(4, 2), torch.rand(4, 2), torch.rand(4, 3))
    target = Target(torch.arange(4), None, torch.rand(4, 3), torch.arange(4) * 2, "key", mixed)
    stream = io.BytesIO()
    torch.save(target, stream)
    stream.seek(0)
    for made, rows in (
        (target[1:3], [1, 2]),
        (target[torch.tensor([3, 0])], [3, 0]),
        (target.flip(0), [3, 2, 1, 0]),
        (target.split(3)[1], [3]),
        (torch.cat([target[2:], target[:2]]), [2, 3, 0, 1]),
        (copy.deepcopy(target), [0, 1, 2, 3]),
        (torch.load(stream, weights_only=True), [0, 1, 2, 3]),
        (target.float(), [0, 1, 2, 3]),
    ):
        assert all(torch.equal(part, whole[rows]) for part, whole in zip(made._mixed, mixed, strict=True))
    plain = Target(torch.tensor([1, 2]), None, None, torch.tensor([50, 60]), "key")
    both = torch.cat([target, plain])._mixed
    assert both.parts[4:].tolist() == [[50, 50], [60, 60]]
    assert both.shares[4:].tolist() == [[1, 0], [1, 0]]
    assert both.soft[4:].tolist() == [[0, 1, 0], [0, 0, 1]]


# --- whole runs ------------------------------------------------------------------------------------------------------

N, K = 400, 10


def pictures(noise=0.3):
    generator = torch.Generator().manual_seed(0)
    label = torch.arange(N) % K
    centre = torch.rand(K, 1, 6, 6, generator=generator)
    return (centre[label] + noise * torch.rand(N, 1, 6, 6, generator=generator)) / (1 + noise), label


def run(chosen, mixing, epochs, images, label, pieces=1, **settings):
    """The loader, after epochs of training in which each batch met `Loss` in so many pieces."""
    torch.manual_seed(0)
    loader = smartaug.DataLoader(
        TensorDataset(images, label), 40, shuffle=True, augment=mixing, coreset=chosen, seed=0, **settings
    )
    model = settings.get("reweight").model if "reweight" in settings else network()
    criterion, optimizer = smartaug.Loss(nn.CrossEntropyLoss()), torch.optim.SGD(model.parameters(), 0.3)
    for _ in range(epochs):
        for inputs, target in loader:
            optimizer.zero_grad()
            for part, its in zip(inputs.chunk(pieces), target.chunk(pieces), strict=True):
                (criterion(model(part), its) / pieces).backward()
            optimizer.step()
    return loader


def network():
    torch.manual_seed(1)
    return nn.Sequential(nn.Flatten(), nn.Linear(36, K))


MIXES = {
    "CutMix": lambda: smartaug.CutMix(),
    "MixUp 0.2": lambda: smartaug.MixUp(0.2),
    "both": lambda: [smartaug.MixUp(p=0.5), smartaug.CutMix(p=0.5)],
    "one of": lambda: smartaug.augment.OneOf([smartaug.MixUp(), smartaug.CutMix()]),
}


@pytest.mark.parametrize("pieces", [1, 2])
@pytest.mark.parametrize("mixing", MIXES.values(), ids=MIXES)
def test_nearly_all_samples_get_seen_under_mixing(mixing, pieces):
    select = smartaug.FacilityLocation(backend="torch")
    told = run(smartaug.Coreset(0.3, select=select), mixing(), 10, *pictures(), pieces=pieces).stats()["coreset"]
    assert told["unseen"] <= 0.05 * pieces * N  # a piece of a batch does not know the rows of the others
    assert told["nonfinite"] == 0


def test_selection_under_mixing_finds_the_wrong_labels_as_without():
    """MaxLoss collects wrong labels; it must find as many from mixed rows, but for a margin."""
    images, label = pictures()
    wrong = torch.arange(N) % 9 == 0
    label = torch.where(wrong, (label + 3) % K, label)
    found = {}
    for name, mixing in (("plain", None), ("mixed", smartaug.CutMix(num_classes=K))):
        chosen = smartaug.Coreset(0.25, select=smartaug.MaxLoss(), apply="augment")
        run(chosen, mixing or (lambda x: x), 12, images, label)
        found[name] = float(wrong[chosen.selection(11, N, 0)[0]].float().mean())
    assert float(wrong.float().mean()) == pytest.approx(0.11, abs=0.01)
    assert found["mixed"] > 0.25 > 2 * 0.11
    assert found["plain"] > 0.3


def test_reweighted_labels_are_not_taken_for_mixed_ones():
    images, label = pictures()
    held = (torch.rand(40, 1, 6, 6), torch.arange(40) % K)
    settings = {"reweight": smartaug.SAFLEX(network(), held)}
    for mixing in (None, smartaug.CutMix()):
        loader = run(smartaug.Coreset(0.5), mixing, 4, images, label, **settings)
        assert loader.stats()["coreset"]["unseen"] < 0.4 * N


def test_the_record_under_reweighting_is_against_the_mixed_label():
    images, label = pictures()
    held = (torch.rand(40, 1, 6, 6), torch.arange(40) % K)
    records = []
    for reweight in (None, smartaug.SAFLEX(network(), held)):
        chosen = smartaug.Coreset(0.5)
        loader = smartaug.DataLoader(
            TensorDataset(images, label), 40, augment=smartaug.MixUp(), coreset=chosen, seed=0, reweight=reweight
        )
        model = network()
        for inputs, target in loader:
            smartaug.Loss(nn.CrossEntropyLoss())(model(inputs), target)
        records.append(chosen._samples.record.embedding(torch.arange(N).numpy()).residual)
    assert torch.equal(*records)


def test_values_are_refused_before_a_model_sees_them():
    values = TensorDataset(torch.rand(8, 3, 4, 4), torch.linspace(0, 9, 8))
    with pytest.raises(TypeError, match="is values of a regression"):
        next(iter(smartaug.DataLoader(values, 4, coreset=smartaug.Coreset(0.5))))
