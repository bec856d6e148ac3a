"""`Target` is the user's target: its extras follow their rows exactly, and everything else is a plain tensor."""

import copy
import io
import pickle

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from smartaug import Loss, Target
from tests import reference

SHAPES = [(), (3,), (2, 4)]


def values(size, rest=()):
    """(B, *rest) int64; the numbers of row i start at 100 i."""
    count = int(torch.tensor(rest).prod()) if rest else 1
    return (torch.arange(size)[:, None] * 100 + torch.arange(count)).reshape(size, *rest)


def extras(size):
    return {
        "weight": torch.arange(size) + 0.5,
        "soft": torch.arange(size * 3).reshape(size, 3) / 10,
        "index": torch.arange(size) + 1000,
    }


def make(size, rest=(), carried=("weight", "soft", "index"), key="k"):
    return Target(values(size, rest), key=key, **{name: extras(size)[name] for name in carried})


def assert_rows(result, rows, size, carried=("weight", "soft", "index")):
    """``result`` is a Target whose extras are those of ``rows`` of the Target ``make(size)``."""
    assert type(result) is Target
    assert len(result) == len(rows)
    assert result._key == "k"
    for name, whole in extras(size).items():
        got = getattr(result, f"_{name}")
        if name in carried:
            assert torch.equal(got, whole[torch.tensor(rows, dtype=torch.int64)]), name
        else:
            assert got is None


def assert_plain(result):
    assert type(result) is Tensor


# --- what carries: operation, and what it does to a list of row numbers ----------------------------------------------

KEEPING = {
    "to(dtype)": lambda t: t.to(torch.float64),
    "to(device)": lambda t: t.to("cpu"),
    "to(device, non_blocking)": lambda t: t.to("cpu", non_blocking=True),
    "to(device, dtype, non_blocking, copy)": lambda t: t.to("cpu", torch.int32, True, True),
    "to(other)": lambda t: t.to(torch.zeros(1)),
    "cpu": lambda t: t.cpu(),
    "type(dtype)": lambda t: t.type(torch.float32),
    "type_as": lambda t: t.type_as(torch.zeros(1)),
    "casts": lambda t: t.int().short().char().long().bool().byte().half().bfloat16().double().float(),
    "contiguous": lambda t: t.contiguous(),
    "clone": lambda t: t.clone(),
    "torch.clone": lambda t: torch.clone(t, memory_format=torch.preserve_format),
    "torch.clone(input=)": lambda t: torch.clone(input=t),
    "detach": lambda t: t.detach(),
    "torch.detach": lambda t: torch.detach(t),
    "data": lambda t: t.data,
    "requires_grad_": lambda t: t.float().requires_grad_(),
    "view": lambda t: t.view(len(t), *t.shape[1:], 1),
    "view(dtype)": lambda t: t[:, None].view(torch.int32),
    "view_as": lambda t: t.view_as(torch.zeros(t.shape)),
    "reshape": lambda t: t.reshape(t.shape),
    "torch.reshape": lambda t: torch.reshape(t, (*t.shape, 1)),
    "reshape_as": lambda t: t.reshape_as(torch.zeros(t.shape)),
    "flatten(1)": lambda t: t[:, None].flatten(1),
    "torch.flatten": lambda t: torch.flatten(t[:, None], start_dim=1),
    "unflatten": lambda t: t[:, None].unflatten(1, (1, 1)),
    "ravel": lambda t: t.ravel() if t.ndim == 1 else t,
    "unsqueeze": lambda t: t.unsqueeze(1),
    "unsqueeze(-1)": lambda t: t.unsqueeze(-1),
    "torch.unsqueeze(input=)": lambda t: torch.unsqueeze(input=t, dim=1),
    "squeeze": lambda t: t.unsqueeze(1).squeeze(1),
    "torch.squeeze": lambda t: torch.squeeze(t[..., None], dim=-1),
    "expand": lambda t: t[:, None].expand(-1, 2, *t.shape[1:]),
    "expand_as": lambda t: t.expand_as(torch.zeros(t.shape)),
    "transpose": lambda t: t[:, None].transpose(1, -1),
    "torch.transpose(input=)": lambda t: torch.transpose(input=t[:, None], dim0=1, dim1=-1),
    "swapaxes": lambda t: t[:, None].swapaxes(1, -1),
    "swapdims": lambda t: torch.swapdims(t[:, None], 1, -1),
    "movedim": lambda t: t[:, None].movedim(1, -1),
    "torch.movedim": lambda t: torch.movedim(t[:, None], source=(1,), destination=(-1,)),
    "permute": lambda t: t[:, None, None].permute(0, 2, 1, *range(3, t.ndim + 2)),
    "permute(tuple)": lambda t: t[:, None].permute((0, *range(1, t.ndim + 1))),
    "torch.permute(input=)": lambda t: torch.permute(input=t, dims=tuple(range(t.ndim))),
    "permute(negative)": lambda t: t.permute(*range(-t.ndim, 0)),
    "mT": lambda t: t[:, None, None].mT,
    "[:]": lambda t: t[:],
    "[...]": lambda t: t[...],
    "[()]": lambda t: t[()],
    "[:, None]": lambda t: t[:, None],
    "[..., None]": lambda t: t[..., None],
    "[:, 0]": lambda t: t[:, None][:, 0],
    "[:, list]": lambda t: t[:, None][:, [0, 0]],
    "[:, mask]": lambda t: t[:, None][:, torch.tensor([True])],
    "[..., 0]": lambda t: t[..., None][..., 0],
    "select": lambda t: t[:, None].select(1, 0),
    "torch.select": lambda t: torch.select(input=t[:, None], dim=-t.ndim, index=0),
    "narrow(1)": lambda t: t[:, None].narrow(1, 0, 1),
    "split(1)": lambda t: t[:, None].split(1, dim=1)[0],
    "chunk(1)": lambda t: torch.chunk(t[:, None], 1, 1)[0],
    "unbind(1)": lambda t: t[:, None].unbind(1)[0],
    "flip(1)": lambda t: t[:, None].flip(1),
    "index_select(1)": lambda t: t[:, None].index_select(1, torch.tensor([0])),
    "repeat_interleave(1)": lambda t: t[:, None].repeat_interleave(2, 1),
    "deepcopy": copy.deepcopy,
    "copy": copy.copy,
    "pickle": lambda t: pickle.loads(pickle.dumps(t)),
    "torch.save": lambda t: saved(t),
    "torch.save in a dict": lambda t: saved({"target": t})["target"],
    "cat of one": lambda t: torch.cat([t]),
}

PICKING = {
    "[::2]": (lambda t: t[::2], lambda rows: rows[::2]),
    "[:2]": (lambda t: t[:2], lambda rows: rows[:2]),
    "[1:, ...]": (lambda t: t[1:, ...], lambda rows: rows[1:]),
    "[-2:, None]": (lambda t: t[-2:, None], lambda rows: rows[-2:]),
    "[::2][:, list]": (lambda t: t[:, None][::2, [0]], lambda rows: rows[::2]),
    "[..., mask]": (lambda t: t[torch.arange(len(t)) % 2 == 0, ...], lambda rows: rows[::2]),
    "[mask, None]": (lambda t: t[torch.arange(len(t)) % 2 == 0, None], lambda rows: rows[::2]),
    "[mask]": (lambda t: t[torch.arange(len(t)) % 2 == 0], lambda rows: rows[::2]),
    "[mask of itself]": (lambda t: t[t.flatten(1).amax(1) >= 100 if t.ndim > 1 else t >= 100], lambda rows: rows[1:]),
    "[tensor]": (lambda t: t[torch.arange(len(t)).flip(0)], lambda rows: rows[::-1]),
    "[tensor, 0]": (lambda t: t[:, None][torch.arange(len(t)).flip(0), 0], lambda rows: rows[::-1]),
    "[int32]": (lambda t: t[torch.arange(len(t), dtype=torch.int32)], lambda rows: rows),
    "[list]": (lambda t: t[[*range(len(t)), *range(len(t))]], lambda rows: rows * 2),
    "[list of bool]": (lambda t: t[[i % 2 == 0 for i in range(len(t))]], lambda rows: rows[::2]),
    "[range]": (lambda t: t[range(len(t))], lambda rows: rows),
    "[array]": (lambda t: t[np.arange(len(t))[::-1].copy()], lambda rows: rows[::-1]),
    "[array of bool]": (lambda t: t[np.arange(len(t)) % 2 == 0], lambda rows: rows[::2]),
    "flip": (lambda t: t.flip(0), lambda rows: rows[::-1]),
    "torch.flip(dims=)": (lambda t: torch.flip(t, dims=(0,)), lambda rows: rows[::-1]),
    "flip(0, 1)": (lambda t: t[:, None].flip(0, 1), lambda rows: rows[::-1]),
    "flip(list)": (lambda t: t[:, None].flip([-1, 0]), lambda rows: rows[::-1]),
    "narrow": (lambda t: t.narrow(0, 0, len(t) // 2), lambda rows: rows[: len(rows) // 2]),
    "torch.narrow(=)": (
        lambda t: torch.narrow(input=t, dim=-t.ndim, start=len(t) // 2, length=len(t) - len(t) // 2),
        lambda rows: rows[len(rows) // 2 :],
    ),
    "index_select": (lambda t: t.index_select(0, torch.arange(len(t)).flip(0)), lambda rows: rows[::-1]),
    "torch.index_select(=)": (
        lambda t: torch.index_select(input=t, dim=-t.ndim, index=torch.arange(len(t)).flip(0)),
        lambda rows: rows[::-1],
    ),
    "split": (lambda t: t.split(2)[-1], lambda rows: reference.split(rows, 2)[-1]),
    "torch.split(=)": (
        lambda t: torch.split(tensor=t, split_size_or_sections=3, dim=-t.ndim)[0],
        lambda rows: reference.split(rows, 3)[0],
    ),
    "split(sizes)": (lambda t: t.split([len(t) // 2, len(t) - len(t) // 2])[1], lambda rows: rows[len(rows) // 2 :]),
    "chunk": (lambda t: t.chunk(2)[-1], lambda rows: reference.chunk(rows, 2)[-1]),
    "torch.chunk(=)": (lambda t: torch.chunk(input=t, chunks=3, dim=0)[0], lambda rows: reference.chunk(rows, 3)[0]),
    "repeat_interleave": (lambda t: t.repeat_interleave(3, dim=0), lambda rows: reference.repeat(rows, 3)),
    "repeat_interleave(tensor)": (
        lambda t: t.repeat_interleave(torch.arange(len(t)), dim=0),
        lambda rows: reference.repeat(rows, list(range(len(rows)))),
    ),
    "torch.repeat_interleave(=)": (
        lambda t: torch.repeat_interleave(input=t, repeats=torch.full((len(t),), 2), dim=0, output_size=2 * len(t)),
        lambda rows: reference.repeat(rows, 2),
    ),
    "cat": (lambda t: torch.cat([t, t[:2]]), lambda rows: rows + rows[:2]),
    "cat(dim=-ndim)": (lambda t: torch.cat(tensors=(t, t), dim=-t.ndim), lambda rows: rows * 2),
    "concat": (lambda t: torch.concat([t, t], 0), lambda rows: rows * 2),
    "concatenate(axis=)": (lambda t: torch.concatenate([t, t], axis=0), lambda rows: rows * 2),
}
CARRYING = {**{name: (call, lambda rows: rows) for name, call in KEEPING.items()}, **PICKING}


def saved(value):
    file = io.BytesIO()
    torch.save(value, file)
    file.seek(0)
    return torch.load(file)  # weights_only=True is torch's default


@pytest.mark.parametrize("name", CARRYING)
@pytest.mark.parametrize("rest", SHAPES, ids=str)
@pytest.mark.parametrize("size", [0, 1, 5])
def test_extras_follow_their_rows(name, rest, size):
    call, pick = CARRYING[name]
    for carried in [("weight", "soft", "index"), ("weight",), ("soft",), ("index",), ()]:
        target = make(size, rest, carried)
        result = call(target)
        assert_rows(result, pick(list(range(size))), size, carried)
        expected = call(target.plain)
        assert result.dtype == expected.dtype
        assert torch.equal(result.plain, expected)


@pytest.mark.parametrize("rest", SHAPES, ids=str)
@pytest.mark.parametrize("size", [0, 1, 5])
def test_every_piece_follows(rest, size):
    rows = list(range(size))
    target = make(size, rest)
    for pieces, expected in [
        (target.split(2), reference.split(rows, 2)),
        (torch.chunk(target, 3), reference.chunk(rows, 3)),
        (target.split([1] * size) if size else (), [[row] for row in rows]),
    ]:
        assert len(pieces) == len(expected)
        for piece, kept in zip(pieces, expected, strict=True):
            assert_rows(piece, kept, size)


ANY = st.integers(0, 10**6)


@st.composite
def steps(draw):
    """Random operations along dimension 0, as (call on a tensor, twin on a list)."""
    name = draw(
        st.sampled_from(["slice", "mask", "index", "list", "narrow", "split", "chunk", "flip", "repeat", "cat"])
    )
    a, b = draw(ANY), draw(ANY)
    if name == "slice":
        where = slice(*(draw(st.none() | st.integers(-7, 7)) for _ in "ab"), draw(st.sampled_from([None, 1, 2, 3])))
        return lambda t: t[where], lambda rows: rows[where]
    if name == "mask":
        bits = draw(st.integers(0, 2**63 - 1))
        return (
            lambda t: t[torch.tensor([bits >> i % 60 & 1 for i in range(len(t))], dtype=torch.bool)],
            lambda rows: [row for i, row in enumerate(rows) if bits >> i % 60 & 1],
        )
    if name in ("index", "list"):
        count = draw(st.integers(0, 6))

        def chosen(size):
            return [(a + b * i) % size - size * (i % 2) for i in range(count)] if size else []

        wrap = list if name == "list" else lambda where: torch.tensor(where, dtype=torch.int64)
        return lambda t: t[wrap(chosen(len(t)))], lambda rows: [rows[i] for i in chosen(len(rows))]
    if name == "narrow":

        def span(size):
            start = a % (size + 1)
            return start, b % (size - start + 1)

        return lambda t: t.narrow(0, *span(len(t))), lambda rows: rows[span(len(rows))[0] :][: span(len(rows))[1]]
    if name == "split":
        return lambda t: t.split(1 + a % 4)[-1], lambda rows: reference.split(rows, 1 + a % 4)[-1]
    if name == "chunk":
        return lambda t: t.chunk(1 + a % 4)[0], lambda rows: reference.chunk(rows, 1 + a % 4)[0]
    if name == "flip":
        return lambda t: t.flip(0), lambda rows: rows[::-1]
    if name == "repeat":
        if a % 2:
            return lambda t: t.repeat_interleave(b % 3, dim=0), lambda rows: reference.repeat(rows, b % 3)
        return (
            lambda t: t.repeat_interleave(torch.tensor([(b + i) % 3 for i in range(len(t))], dtype=int), dim=0),
            lambda rows: reference.repeat(rows, [(b + i) % 3 for i in range(len(rows))]),
        )
    return lambda t: torch.cat([t, t.flip(0)]), lambda rows: rows + rows[::-1]


@settings(max_examples=200, deadline=None)
@given(chain=st.lists(steps(), max_size=5), size=st.integers(0, 6), rest=st.sampled_from(SHAPES))
def test_chains_of_operations_follow_the_list_twin(chain, size, rest):
    target, rows = make(size, rest), list(range(size))
    for call, twin in chain:
        target, rows = call(target), twin(rows)
    assert_rows(target, rows, size)
    assert torch.equal(target.plain, values(size, rest)[torch.tensor(rows, dtype=torch.int64)])


# --- what does not ---------------------------------------------------------------------------------------------------

PLAIN = {
    "==": lambda t: t == 1,
    "+": lambda t: t + 1,
    "reflected": lambda t: 1 - t,
    "-": lambda t: -t,
    "sum": lambda t: t.sum(),
    "sum(1)": lambda t: t.sum(1),
    "mean": lambda t: t.float().mean(),
    "argmax": lambda t: t.argmax(1),
    "max.values": lambda t: t.max(1).values,
    "stack": lambda t: torch.stack([t, t]),
    "hstack": lambda t: torch.hstack([t, t]),
    "cat(1)": lambda t: torch.cat([t, t], 1),
    "transpose(0, 1)": lambda t: t.transpose(0, 1),
    "transpose(input=)": lambda t: torch.transpose(input=t, dim0=0, dim1=1),
    "movedim": lambda t: t.movedim(1, 0),
    "permute": lambda t: t.permute(1, 0),
    "T": lambda t: t.T,
    "mT": lambda t: t.mT,
    "view(-1)": lambda t: t.view(-1),
    "flatten": lambda t: t.flatten(),
    "unsqueeze(0)": lambda t: t.unsqueeze(0),
    "expand": lambda t: t[:, 0].expand(4, 4),
    "expand_as": lambda t: t[:, 0].expand_as(torch.zeros(4, 4)),
    "select(0)": lambda t: t.select(0, 1),
    "unbind": lambda t: t.unbind()[0],
    "[0]": lambda t: t[0],
    "[tensor(0)]": lambda t: t[torch.tensor(0)],
    "[int64(0)]": lambda t: t[np.int64(0)],
    "[0, :]": lambda t: t[0, :],
    "[None]": lambda t: t[None],
    "[True]": lambda t: t[True],
    "[mask of elements]": lambda t: t[t > 100],
    "[rows, columns]": lambda t: t[torch.arange(4), torch.arange(4)],
    "[table]": lambda t: t[torch.tensor([[0, 1], [2, 3]])],
    "[:, a, b]": lambda t: t[:, None][:, [0, 0], [0, 1]],
    "table[target]": lambda t: torch.arange(1000)[t],
    "table[:, target]": lambda t: torch.zeros(2, 1000)[:, t],
    "repeat_interleave": lambda t: t.repeat_interleave(2),
    "repeat_interleave(target)": lambda t: torch.repeat_interleave(t[:, 0]),
    "index_select(target)": lambda t: torch.arange(1000).index_select(0, t[:, 0]),
    "repeat": lambda t: t.repeat(1, 1),
    "roll": lambda t: t.roll(1, 0),
    "sort": lambda t: t.sort(0).values,
    "where": lambda t: torch.where(t > 0, t, 0),
    "clamp": lambda t: t.clamp(0, 1),
    "gather": lambda t: t.gather(0, torch.zeros(1, 4, dtype=torch.int64)),
    "masked_select": lambda t: t.masked_select(t > 0),
    "zeros_like": lambda t: torch.zeros_like(t),
    "new_zeros": lambda t: t.new_zeros(4),
    "one_hot": lambda t: F.one_hot(t),
    "cross_entropy": lambda t: F.cross_entropy(torch.zeros(4, 1000), t[:, 0]),
    "matmul": lambda t: t @ t,
    "from numpy": lambda t: torch.from_numpy(t.numpy()),
    "row of an iteration": lambda t: next(iter(t)),
}


@pytest.mark.parametrize("name", PLAIN)
def test_every_other_operation_is_plain(name):
    target = make(4, (4,))  # as many columns as rows: the shape alone cannot tell
    result = PLAIN[name](target)
    assert_plain(result)
    assert torch.equal(result, PLAIN[name](target.plain))


def test_numbers_are_numbers():
    target = make(4)
    assert type(target.numpy()) is np.ndarray
    assert type(target.tolist()) is list
    assert type(target[2].item()) is int
    assert target.type() == "torch.LongTensor"
    assert target.size(0) == target.shape[0] == len(target) == 4
    assert target.size() == (4,)
    assert target.type(torch.float32).dtype == torch.float32


def test_in_place_operations_keep_the_object():
    target = make(4)
    before = target
    target += 1
    assert target is before
    assert target.mul_(2) is before
    target[1] = 7
    target[target == 7] = 8
    assert target.copy_(torch.zeros(4)) is before
    assert torch.add(torch.ones(4, dtype=torch.int64), 1, out=target) is before
    assert target.share_memory_() is before
    assert_rows(target, [0, 1, 2, 3], 4)
    out = torch.zeros(8, dtype=torch.int64)
    assert torch.cat([target, target], out=out) is out


CHANGES = {
    "item": lambda label: label.__setitem__(0, 0),
    "mask": lambda label: label.__setitem__(label == 3, 0),
    "method": lambda label: label.fill_(1),
    "view": lambda label: label[1:].fill_(1),
    "out": lambda label: torch.clamp(label, max=1, out=label),
    "detached": lambda label: label.detach().fill_(0),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_soft_labels_do_not_outlive_their_labels(change):
    """Remapped labels in the training loop had no effect on the loss, which took the soft labels."""
    label = Target(torch.arange(4), None, torch.eye(4), torch.arange(4))
    criterion, logits = Loss(torch.nn.CrossEntropyLoss()), torch.eye(4)
    derived = [label.clone(), label.float(), label[:3], label.flip(0)]
    torch.testing.assert_close(criterion(logits, label), F.cross_entropy(logits, torch.arange(4)))
    change(label)
    for read in (lambda: label.soft, lambda: criterion(logits, label)):
        with pytest.raises(RuntimeError, match="changed in place"):
            read()
    for copied in (*derived[:2], derived[3]):
        assert copied.soft is not None
    weighted = Target(torch.arange(4), torch.ones(4), None, torch.arange(4))
    change(weighted)
    assert weighted.weight.tolist() == [1, 1, 1, 1]


def test_copies_are_separate():
    target = make(3)
    for copied in (target.clone(), copy.deepcopy(target), pickle.loads(pickle.dumps(target)), saved(target)):
        copied.add_(1)
        copied.weight.zero_()
    assert_rows(target, [0, 1, 2], 3)
    assert torch.equal(target.plain, values(3))


def test_deepcopy_keeps_shared_parts_shared():
    target = make(3)
    first, second, weight = copy.deepcopy([target, target, target.weight])
    assert first is second
    assert first.weight is weight


def test_weight_reads_as_ones():
    for target in (Target(torch.zeros(3)), Target(torch.zeros(0)), torch.zeros(3).as_subclass(Target)):
        assert torch.equal(target.weight, torch.ones(len(target)))
        assert target.soft is None
        assert target.index is None


# --- joining targets that carry different things ---------------------------------------------------------------------


def test_cat_fills_in_what_a_piece_lacks():
    joined = torch.cat([make(2, carried=("weight",)), torch.tensor([5]), make(1, carried=("index",))])
    assert torch.equal(joined.weight, torch.tensor([0.5, 1.5, 1.0, 1.0]))
    assert joined.index is None
    assert joined.soft is None
    assert joined.plain.tolist() == [0, 100, 5, 0]


def test_cat_of_soft_and_hard_labels():
    soft = Target(torch.tensor([0, 1]), None, torch.tensor([[0.7, 0.3], [0.4, 0.6]]))
    wide = Target(torch.tensor([2]), None, torch.tensor([[0.0, 0.5, 0.5]]))
    joined = torch.cat([soft, torch.tensor([1]), wide])
    assert torch.equal(joined.soft, torch.tensor([[0.7, 0.3, 0], [0.4, 0.6, 0], [0, 1, 0], [0, 0.5, 0.5]]))
    assert_plain(torch.cat([soft, torch.tensor([-100])]))  # an ignored label has no distribution


def test_cat_of_two_pipelines_belongs_to_none():
    assert torch.cat([make(1), make(1, key="other")])._key is None
    assert torch.cat([make(1), make(1)])._key == "k"


# --- processes -------------------------------------------------------------------------------------------------------


def _answer(inbox, outbox):
    target = inbox.get()
    outbox.put((type(target).__name__, target.plain.sum().item(), target.weight.sum().item(), target._key))
    outbox.put(target + 0)
    inbox.get()  # the shared memory lives until it was read


def test_through_a_queue_to_a_process():
    context = torch.multiprocessing.get_context("fork")
    inbox, outbox = context.Queue(), context.Queue()
    process = context.Process(target=_answer, args=(inbox, outbox))
    process.start()
    target = make(5)
    inbox.put(target)
    assert outbox.get(timeout=30) == ("Target", 1000, 12.5, "k")
    assert torch.equal(outbox.get(timeout=30), target.plain)
    inbox.put(None)
    process.join(30)
    assert process.exitcode == 0
    for queue in (inbox, outbox):
        queue.close()
        queue.join_thread()


# --- what users do with targets --------------------------------------------------------------------------------------


def logits_for(target, classes=5):
    return torch.randn(len(target), classes)


def classes(size=12):
    label = torch.arange(size) % 5
    return Target(label, torch.rand(size), torch.rand(size, 5), torch.arange(size), "k")


def test_accuracy_by_hand():
    target = classes()
    pred = logits_for(target)
    correct = (pred.argmax(1) == target).sum()
    assert_plain(correct)
    assert correct == (pred.argmax(1) == target.plain).sum()
    assert (pred.argmax(1) == target).float().mean().item() == (pred.argmax(1) == target.plain).float().mean().item()
    top = pred.topk(3, 1).indices.t()
    assert torch.equal(top.eq(target.view(1, -1).expand_as(top)), top.eq(target.plain.view(1, -1).expand_as(top)))


def test_text():
    target = classes(3)
    assert f"{target[1]:d}|{target[1]}|{target.float().mean():.2f}" == "1|1|1.00"
    assert str(target) == "Target([0, 1, 2])"
    assert f"{target}" == "Target([0, 1, 2])"
    assert f"{target.sum():>4}" == "   3"


def test_iteration_and_membership():
    target = classes(4)
    assert [int(row) for row in target] == [0, 1, 2, 3]
    assert 2 in target
    assert dict(zip(target.tolist(), "abcd", strict=True)) == {0: "a", 1: "b", 2: "c", 3: "d"}
    assert np.array_equal(np.asarray(target), np.arange(4))
    assert torch.tensor(target.tolist()).equal(target.plain)


def test_torchmetrics():
    from torchmetrics import Accuracy, MetricCollection
    from torchmetrics.classification import MulticlassF1Score

    target = classes()
    pred = logits_for(target)
    metrics = MetricCollection([Accuracy("multiclass", num_classes=5), MulticlassF1Score(num_classes=5)])
    got, expected = metrics(pred, target), metrics.clone()(pred, target.plain)
    assert got == expected
    assert all(type(value) is Tensor for value in got.values())


def test_sklearn():
    from sklearn.metrics import accuracy_score, confusion_matrix

    target = classes()
    pred = logits_for(target).argmax(1)
    assert accuracy_score(target, pred) == accuracy_score(target.numpy(), pred.numpy())
    assert np.array_equal(confusion_matrix(target, pred), confusion_matrix(target.numpy(), pred.numpy()))


@pytest.mark.parametrize("function", [F.cross_entropy, torch.nn.CrossEntropyLoss(), F.multi_margin_loss])
def test_criteria_take_it_directly(function):
    target = classes()
    pred = logits_for(target).requires_grad_()
    loss = function(pred, target)
    assert_plain(loss)
    assert torch.equal(loss, function(pred, target.plain))
    loss.backward()
    assert type(pred.grad) is Tensor


def test_gradient_through_a_regression_target():
    target = make(3).float().requires_grad_()
    (target**2).sum().backward()
    assert torch.equal(target.grad, 2 * values(3).float())


def test_scatter_by_chunk_and_gather():
    from torch.utils.data import default_collate

    target = make(5)
    assert_rows(torch.cat(target.chunk(2)), [0, 1, 2, 3, 4], 5)
    assert_plain(default_collate(list(target)))


def test_compiled_function():
    target = classes()
    pred = logits_for(target)
    compiled = torch.compile(lambda p, t: F.cross_entropy(p, t) + (p.argmax(1) == t).sum(), backend="eager")
    torch.testing.assert_close(compiled(pred, target), F.cross_entropy(pred, target) + (pred.argmax(1) == target).sum())


# --- errors ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "error", "match"),
    [
        (([1, 2],), TypeError, r"needs a tensor, got list; write Target\(torch.as_tensor\(value\)\)"),
        ((torch.tensor(1),), ValueError, r"0-dimensional tensor; use value.unsqueeze\(0\)"),
        ((torch.zeros(2), torch.ones(3)), ValueError, r"weight has shape \(3,\), but the target has 2 rows"),
        ((torch.zeros(2), torch.ones(2, 2)), ValueError, r"weight needs one entry a row: \(B,\)"),
        ((torch.zeros(2), torch.tensor(1.0)), ValueError, r"weight has shape \(\)"),
        ((torch.zeros(2), None, torch.ones(2)), ValueError, r"soft needs one entry a row: \(B, K\)"),
        ((torch.zeros(2), None, torch.ones(3, 2)), ValueError, r"soft has shape \(3, 2\)"),
        ((torch.zeros(2), None, None, torch.arange(1)), ValueError, r"index has shape \(1,\)"),
    ],
)
def test_bad_arguments_are_named(arguments, error, match):
    with pytest.raises(error, match=match):
        Target(*arguments)


def test_wrapping_a_target_starts_anew():
    target = Target(make(3), index=torch.arange(3))
    assert target._weight is None
    assert target._key is None
    assert type(target.plain) is Tensor
