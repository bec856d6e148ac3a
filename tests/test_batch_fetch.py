"""Whole batches from arrays are what sample by sample gives: values, dtypes, labels, errors, in every setting."""

import bz2
import copy
import functools
import hashlib
import pickle

import albumentations
import numpy as np
import pytest
import torch
from albumentations.pytorch import ToTensorV2
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils.data import ConcatDataset, Dataset, StackDataset, Subset, TensorDataset, default_collate
from torch.utils.data import DataLoader as TorchDataLoader
from torchvision import datasets as tv
from torchvision.transforms import PILToTensor, v2

import smartaug
from smartaug.lift.albumentations.worker_half import AlbumentationsWorkerTransform as AlbumentationsHead
from smartaug.lift.worker_transform import AsTensor
from smartaug.lift.worker_transform import WorkerTransform as Head
from smartaug.loading import fetch as batch_fetch
from smartaug.loading.fetch import batched
from smartaug.loading.whole_batches import hinders, whole_batch
from tests.frameworks import SIZE as CODED
from tests.frameworks import Coded, assert_epoch, net, read, read_pass, stages

SIZE = 7


# --- data sets in the files of their real format ---------------------------------------------------------------------


def pixels(*shape):
    return np.random.default_rng(len(shape)).integers(0, 256, (SIZE, *shape), dtype=np.uint8)


LABELS = [3, 0, 2, 1, 3, 2, 0]


def written(folder, name, content):
    """Write the file; its name and checksum, as torchvision lists them."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_bytes(content)
    return [name, hashlib.md5(content).hexdigest()]


def cifar(root, base=tv.CIFAR10, key="labels"):
    folder = root / base.base_folder
    entry = {"data": pixels(3, 32, 32).reshape(SIZE, -1), key: LABELS}

    name, checksum = written(folder, "meta", pickle.dumps({"names": ["a"] * 4}))
    meta = {"filename": name, "md5": checksum, "key": "names"}
    files = {"train_list": [written(folder, "part", pickle.dumps(entry))], "test_list": [], "meta": meta}
    return type("Small", (base,), files)


def idx(array):
    kind = {1: 8, 4: 12}[array.dtype.itemsize]
    head = bytes([0, 0, kind, array.ndim]) + b"".join(n.to_bytes(4, "big") for n in array.shape)
    return head + array.astype(array.dtype.newbyteorder(">")).tobytes()


def mnist(root, kind=tv.MNIST, prefix="train", labels="labels-idx1-ubyte"):
    folder = root / kind.__name__ / "raw"
    columns = np.array(LABELS, np.uint8) if "idx1" in labels else np.arange(SIZE * 8, dtype=np.int32).reshape(SIZE, 8)
    for split in (prefix, prefix.replace("train", "t10k"), prefix.replace("train", "test")):
        written(folder, f"{split}-images-idx3-ubyte", idx(pixels(28, 28)))
        written(folder, f"{split}-{labels}", idx(columns))
    return kind


def usps(root):
    lines = [
        f"{label + 1} " + " ".join(f"{i}:{v / 127.5 - 1:.4f}" for i, v in enumerate(image.flatten()))
        for label, image in zip(LABELS, pixels(16, 16), strict=True)
    ]
    written(root, "usps.bz2", bz2.compress("\n".join(lines).encode()))
    return tv.USPS


def svhn(root):
    from scipy.io import savemat

    images = np.asfortranarray(pixels(32, 32, 3).transpose(1, 2, 3, 0))
    savemat(root / "train_32x32.mat", {"X": images, "y": np.array([[label or 10] for label in LABELS])})
    listed = written(root, "train_32x32.mat", (root / "train_32x32.mat").read_bytes())
    return type("Small", (tv.SVHN,), {"split_list": {"train": ["", *listed]}})


def stl10(root):
    folder = root / tv.STL10.base_folder
    images = written(folder, "train_X.bin", pixels(3, 96, 96).tobytes())
    labels = written(folder, "train_y.bin", bytes(label + 1 for label in LABELS))
    return type("Small", (tv.STL10,), {"train_list": [images, labels, images], "test_list": []})


STORED = {
    "CIFAR10": cifar,
    "CIFAR100": functools.partial(cifar, base=tv.CIFAR100, key="fine_labels"),
    "MNIST": mnist,
    "FashionMNIST": functools.partial(mnist, kind=tv.FashionMNIST),
    "EMNIST": functools.partial(mnist, kind=tv.EMNIST, prefix="emnist-digits-train"),
    "QMNIST": functools.partial(mnist, kind=tv.QMNIST, prefix="qmnist-train", labels="labels-idx2-int"),
    "USPS": usps,
    "SVHN": svhn,
    "STL10": stl10,
}


@pytest.fixture(scope="session")
def stored(tmp_path_factory):
    """name -> data set, its transform PILToTensor."""
    made = {}
    for name, make in STORED.items():
        root = tmp_path_factory.mktemp(name)
        more = {"split": "digits"} if name == "EMNIST" else {}
        made[name] = make(root)(root, transform=PILToTensor(), **more)
        assert len(made[name]) == SIZE
    return made


def tensors():
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (SIZE, 3, 4, 5), dtype=torch.uint8, generator=generator)
    return TensorDataset(images, torch.tensor(LABELS), torch.rand(SIZE, generator=generator).double())


def ours(dataset):
    """The loader's own copy of ``dataset``, answering with whole batches."""
    assert hinders(dataset) is None
    return batched(dataset)


def same(one, other):
    if isinstance(one, torch.Tensor):
        assert type(one) is type(other) is torch.Tensor
        assert (one.dtype, one.shape, one.stride()) == (other.dtype, other.shape, other.stride())
        assert torch.equal(one, other)
    elif isinstance(one, dict):
        assert list(one) == list(other)
        for key in one:
            same(one[key], other[key])
    elif isinstance(one, (list, tuple)):
        assert type(one) is type(other)
        assert len(one) == len(other)
        for a, b in zip(one, other, strict=True):
            same(a, b)
    else:
        assert one == other


def outcome(make):
    """What it returns, or type and text of what it raises."""
    try:
        return make()
    except Exception as error:
        return f"{type(error).__name__}: {error}"


# --- equality --------------------------------------------------------------------------------------------------------


def doubled(label):
    return 2 * label


def as_pair(label):
    return {"label": torch.tensor(label), "name": f"class {label}"}


def as_float(label):
    return float(label)


@settings(max_examples=150, deadline=None)
@given(
    name=st.sampled_from([*STORED, "tensors"]),
    rows=st.lists(st.integers(-2, SIZE), max_size=9),
    layers=st.lists(st.lists(st.integers(0, 4), min_size=5, max_size=5), max_size=2),
    target_transform=st.sampled_from([None, doubled, as_pair, as_float]),
    kind=st.sampled_from(["list", "tensor", "array", "list of tensors"]),
    chosen=st.sampled_from([list, torch.tensor, np.array, tuple]),
)
def test_equals_the_samples_collated(stored, name, rows, layers, target_transform, kind, chosen):
    dataset = tensors() if name == "tensors" else copy.copy(stored[name])
    if name != "tensors":
        dataset.target_transform = target_transform
    for layer in layers:
        dataset = Subset(dataset, chosen(layer))
    valid = rows and all(0 <= row < len(dataset) for row in rows)
    keys = {
        "list": list,
        "tensor": torch.tensor,
        "array": np.array,
        "list of tensors": lambda r: [*map(torch.tensor, r)],
    }
    asked = keys[kind](rows)
    assert (whole_batch(dataset, asked) is not None) == bool(valid)
    plain, whole = (
        outcome(lambda d=d, c=c: list(TorchDataLoader(d, batch_sampler=[asked], collate_fn=c)))
        for d, c in ((dataset, None), (ours(dataset), smartaug.Collate()))
    )
    same(plain, [pending.data for pending in whole] if isinstance(whole, list) else whole)


@pytest.mark.parametrize("name", STORED)
def test_a_real_file_gives_what_was_written(stored, name):
    images, labels = whole_batch(stored[name], [0, 6])
    if name == "QMNIST":
        assert labels.tolist() == [0, 48]
    else:
        assert labels.tolist() == [LABELS[0], LABELS[6]]
    shape = {"STL10": (3, 96, 96), "USPS": (16, 16)}.get(name, (3, 32, 32) if images.shape[1] == 3 else (28, 28))
    if name in ("CIFAR10", "CIFAR100", "MNIST"):
        assert torch.equal(images[1].squeeze(0), torch.from_numpy(pixels(*shape)[6]))
    assert labels.dtype == torch.int64
    assert images.is_contiguous()


@settings(max_examples=30, deadline=None)
@given(
    rows=st.lists(st.integers(0, SIZE - 1), min_size=1, max_size=9),
    labels=st.sampled_from([list, np.array, torch.tensor]),
)
def test_labels_of_other_kinds_stay_what_they_are(stored, rows, labels):
    dataset = copy.copy(stored["CIFAR10"])
    dataset.targets = labels(LABELS)
    same(default_collate([dataset[row] for row in rows]), whole_batch(dataset, rows))


def test_label_transforms_run_once_a_sample_in_order(stored):
    met = []
    dataset = copy.copy(stored["MNIST"])
    dataset.target_transform = lambda label: met.append(label) or label
    whole_batch(dataset, [4, 0, 4])
    assert met == [LABELS[4], LABELS[0], LABELS[4]]
    assert all(type(label) is int for label in met)


@settings(max_examples=100, deadline=None)
@given(
    names=st.lists(st.sampled_from(["CIFAR10", "CIFAR100", "SVHN", "MNIST", "tensors"]), min_size=1, max_size=3),
    nested=st.booleans(),
    rows=st.lists(st.integers(-1, 4 * SIZE), min_size=1, max_size=9),
    layer=st.none() | st.lists(st.integers(0, SIZE), min_size=1, max_size=5),
)
def test_concatenations_equal_the_samples_collated(stored, names, nested, rows, layer):
    """Rows in their order, whatever array holds them; where arrays do not fit together, torch's own error."""
    parts = [tensors() if name == "tensors" else copy.copy(stored[name]) for name in names]
    for part, transform in zip(parts, (doubled, None, doubled), strict=False):
        part.target_transform = transform
    dataset = ConcatDataset([parts[0], ConcatDataset(parts)] if nested else parts)
    inside = dataset
    dataset = dataset if layer is None else Subset(dataset, layer)
    plain, whole = (
        outcome(lambda d=d, c=c: list(TorchDataLoader(d, batch_sampler=[rows], collate_fn=c)))
        for d, c in ((dataset, None), (ours(dataset), smartaug.Collate()))
    )
    if isinstance(plain, str):
        assert whole.startswith(plain)  # to which is added what to do
    else:
        same(plain, [pending.data for pending in whole])
    if set(names) <= {"CIFAR10", "CIFAR100", "SVHN"} or set(names) == {"tensors"}:
        beyond = min(rows) < 0 or max(rows) >= len(dataset)
        if layer is not None and not beyond:
            beyond = max(layer[row] for row in rows) >= len(inside)
        assert (whole_batch(dataset, rows) is None) == beyond


def test_label_transforms_of_a_concatenation_run_in_the_order_of_the_batch(stored):
    met, parts = [], [copy.copy(stored["CIFAR10"]), copy.copy(stored["CIFAR10"])]
    for number, part in enumerate(parts):
        part.target_transform = lambda label, number=number: met.append((number, label)) or label + 10 * number
    labels = whole_batch(ConcatDataset(parts), [SIZE, 0, SIZE + 2, 1])[1]
    assert met == [(1, LABELS[0]), (0, LABELS[0]), (1, LABELS[2]), (0, LABELS[1])]
    assert labels.tolist() == [LABELS[0] + 10, LABELS[0], LABELS[2] + 10, LABELS[1]]


def test_a_concatenation_of_other_types_is_collated_by_samples():
    dataset = ConcatDataset([TensorDataset(torch.zeros(2)), TensorDataset(torch.ones(2, dtype=torch.float64))])
    assert whole_batch(dataset, [0, 3]) is None
    assert whole_batch(dataset, [2, 3])[0].tolist() == [1.0, 1.0]
    assert whole_batch(ConcatDataset([tensors(), TensorDataset(torch.zeros(2))]), [0, SIZE]) is None


def test_a_lifted_concatenation_is_fetched_whole(stored, monkeypatch):
    parts = [copy.copy(stored["CIFAR10"]), copy.copy(stored["CIFAR10"])]
    flip = v2.Compose([v2.RandomHorizontalFlip(p=1.0), v2.ToImage()])
    for part in parts:
        part.transform = flip
    dataset = ConcatDataset(parts)
    expected = default_collate([dataset[row] for row in (8, 0, 13)])
    loader = smartaug.DataLoader(dataset, batch_sampler=[[8, 0, 13]], lift=True)
    assert "an indexing operation in each of 2 arrays" in loader.explain()
    monkeypatch.setattr("torchvision.datasets.cifar.Image.fromarray", lambda *_: pytest.fail("fetched by itself"))
    images, labels = next(iter(loader))
    assert torch.equal(images, expected[0].as_subclass(torch.Tensor))
    assert torch.equal(labels.as_subclass(torch.Tensor), expected[1])


def test_no_sample_is_fetched_by_itself(stored, monkeypatch):
    loader = TorchDataLoader(ours(Subset(stored["SVHN"], [3, 1, 2])), batch_size=2, collate_fn=smartaug.Collate())
    expected = [default_collate([stored["SVHN"][row] for row in rows]) for rows in ([3, 1], [2])]
    monkeypatch.setattr("torchvision.datasets.svhn.Image.fromarray", lambda *_: pytest.fail("fetched by itself"))
    same([pending.data for pending in loader], expected)


def test_a_patched_class_is_not_passed_by(stored, monkeypatch):
    monkeypatch.setattr(tv.SVHN, "__getitem__", lambda self, row: row)
    assert whole_batch(stored["SVHN"], [0]) is None
    own = tv.CIFAR10.__getitem__
    monkeypatch.setattr(tv.CIFAR10, "__getitem__", functools.wraps(own)(lambda self, row: own(self, row)[::-1]))
    assert whole_batch(stored["CIFAR10"], [0]) is None


def test_the_storage_is_copied():
    dataset = tensors()
    images, *_ = whole_batch(dataset, [1, 2])
    images.zero_()
    assert dataset.tensors[0][1:3].any()


# --- what is never passed by -----------------------------------------------------------------------------------------


class Overridden(TensorDataset):
    def __getitem__(self, index):
        image, *rest = super().__getitem__(index)
        return 255 - image, *rest


class OwnBatches(TensorDataset):
    def __getitems__(self, indices):
        return [self[index] for index in reversed(indices)]


class OwnConcatenation(ConcatDataset):
    def __getitem__(self, index):
        return super().__getitem__(len(self) - 1 - index)


class OwnSubset(Subset):
    def __getitem__(self, index):
        return super().__getitem__(0)

    def __getitems__(self, indices):
        return [self[index] for index in indices]


class Forwarding:
    """A wrapper that forwards what it does not have, but has a ``__getitem__`` of its own."""

    def __init__(self, dataset):
        self.dataset = dataset

    def __len__(self):
        return len(self.dataset)

    def __getitem__(self, index):
        image, *rest = self.dataset[index]
        return 255 - image, *rest

    def __getattr__(self, name):
        if name == "dataset":
            raise AttributeError(name)
        return getattr(self.dataset, name)


class Unknown(Dataset):
    def __len__(self):
        return SIZE

    def __getitem__(self, index):
        return index


@pytest.mark.parametrize(
    ("dataset", "reason"),
    [
        (Overridden(*tensors().tensors), "Overridden has a __getitem__ or __getitems__ of its own"),
        (OwnBatches(*tensors().tensors), "OwnBatches has"),
        (OwnSubset(tensors(), [0, 1]), "OwnSubset has"),
        (Subset(Overridden(*tensors().tensors), [0, 1]), "Overridden has"),
        (OwnConcatenation([tensors()]), "OwnConcatenation has"),
        (ConcatDataset([Overridden(*tensors().tensors), tensors()]), "Overridden has"),
        (Unknown(), "Unknown has"),
        (TensorDataset(torch.ones(3).requires_grad_()), "requires gradients"),
        (TensorDataset(torch.eye(3).to_sparse()), "special kind"),
    ],
)
def test_what_hinders(dataset, reason):
    assert reason in hinders(dataset)
    assert whole_batch(dataset, [0]) is None


def test_what_hinders_stored_images(stored):
    def changed(name="CIFAR10", **attributes):
        dataset = copy.copy(stored[name])
        vars(dataset).update(attributes)
        return dataset

    cases = {
        "its transform does more": [
            changed(transform=None),
            changed(transform=v2.Compose([PILToTensor(), v2.RandomHorizontalFlip()])),
            changed("MNIST", transform=doubled),
        ],
        "its images are no uint8 array": [
            changed(data=[1, 2]),
            changed(data=pixels(32, 32)),
            changed("MNIST", data=torch.rand(SIZE, 28, 28)),
        ],
        "three channels": [changed(data=pixels(32, 32, 4))],
        "its labels are no list": [
            changed("STL10", labels=None),
            changed("QMNIST", compat=False),
            changed(targets=LABELS[:3]),
            changed("MNIST", targets=torch.ones(SIZE, 2)),
        ],
    }
    for reason, datasets in cases.items():
        for dataset in datasets:
            assert reason in hinders(dataset)
            assert whole_batch(dataset, [0]) is None


@pytest.mark.parametrize("name", STORED)
def test_what_lift_leaves_is_only_the_conversion(stored, name):
    expected = whole_batch(stored[name], [1, 6])
    for transform in (v2.PILToTensor(), Head([], AsTensor())):
        dataset = copy.copy(stored[name])
        dataset.transform = transform
        same(whole_batch(dataset, [1, 6]), expected)
        same(default_collate([dataset[1], dataset[6]]), expected)


def test_changes_to_the_loaders_data_set_are_seen():
    dataset = ours(tensors())
    loader = TorchDataLoader(dataset, batch_size=2, collate_fn=smartaug.Collate())
    dataset.tensors = tuple(tensor + 1 for tensor in dataset.tensors)
    same(next(iter(loader)).data, default_collate([dataset[0], dataset[1]]))


def test_a_copy_with_another_transform_uses_it(stored):
    other = copy.copy(ours(stored["CIFAR10"]))
    other.transform = v2.Compose([PILToTensor(), v2.RandomInvert(p=1)])
    batch = next(iter(TorchDataLoader(other, batch_size=2, collate_fn=smartaug.Collate()))).data
    assert torch.equal(batch[0], 255 - whole_batch(stored["CIFAR10"], [0, 1])[0])


def test_others_who_ask_get_samples():
    dataset, collated = ours(tensors()), default_collate([tensors()[i] for i in (2, 0)])
    assert type(dataset.__getitems__([2, 0])) is list
    stock = TorchDataLoader(dataset, batch_sampler=[[2, 0]])
    same(next(iter(stock)), collated)
    stacked = StackDataset(a=dataset)
    same(next(iter(TorchDataLoader(stacked, batch_sampler=[[2, 0]])))["a"], collated)
    seen = []
    custom = smartaug.Collate(lambda samples: seen.append(samples) or default_collate(samples))
    same(next(iter(TorchDataLoader(dataset, batch_sampler=[[2, 0]], collate_fn=custom))).data, collated)
    assert isinstance(seen[0], list)


@pytest.mark.parametrize("wrap", [Forwarding, lambda dataset: Subset(Forwarding(dataset), range(SIZE))])
def test_a_forwarding_wrapper_is_not_passed_by(wrap):
    loader = TorchDataLoader(wrap(ours(tensors())), batch_sampler=[[2, 0]], collate_fn=smartaug.Collate())
    assert torch.equal(next(iter(loader)).data[0], 255 - tensors().tensors[0][[2, 0]])


def test_pickle_and_deepcopy_keep_it(stored):
    dataset = ours(stored["SVHN"])
    for copied in (pickle.loads(pickle.dumps(ours(tensors()))), copy.deepcopy(dataset)):
        assert copied.__getitems__.dataset is copied
        loader = TorchDataLoader(copied, batch_size=2, collate_fn=smartaug.Collate())
        same(next(iter(loader)).data, default_collate([copied[0], copied[1]]))


# --- Hugging Face data sets ------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def table():
    datasets = pytest.importorskip("datasets")
    features = datasets.Features(
        {
            "image": datasets.Array3D((3, 4, 5), "uint8"),
            "label": datasets.Value("int64"),
            "small": datasets.Value("uint8"),
            "weight": datasets.Value("float32"),
            "embedding": datasets.List(datasets.Value("float32"), 2),
            "name": datasets.Value("string"),
        }
    )
    columns = {
        "image": list(pixels(3, 4, 5)),
        "label": LABELS,
        "small": LABELS,
        "weight": [0.5 * label for label in LABELS],
        "embedding": [[label, 0.5] for label in LABELS],
        "name": [f"class {label}" for label in LABELS],
    }
    return datasets.Dataset.from_dict(columns, features)


@settings(max_examples=20, deadline=None)
@given(rows=st.lists(st.integers(-1, SIZE), max_size=5), kind=st.sampled_from(["torch", "numpy"]), subset=st.booleans())
def test_tables(table, rows, kind, subset):
    dataset = table.with_format(kind)
    if subset:
        dataset = Subset(dataset, [0, 6, 1, 3])
    valid = rows and all(0 <= row < len(dataset) for row in rows)
    assert (whole_batch(dataset, rows) is not None) == bool(valid)
    plain, whole = (
        outcome(lambda d=d, c=c: list(TorchDataLoader(d, batch_sampler=[rows], collate_fn=c)))
        for d, c in ((dataset, None), (ours(dataset), smartaug.Collate()))
    )
    same(plain, [pending.data for pending in whole] if isinstance(whole, list) else whole)


def test_tables_in_other_formats_are_left_alone(table):
    assert "its format" in hinders(table)
    assert "its format" in hinders(table.with_transform(doubled))


# --- in loaders ------------------------------------------------------------------------------------------------------


def coded():
    """`tests.frameworks.Coded` in two tensors."""
    return TensorDataset(*default_collate([Coded()[index] for index in range(CODED)]))


def by_sample(samples):
    return default_collate(samples)


@pytest.fixture
def counted(monkeypatch):
    """How many batches were fetched whole in this process."""
    calls = []

    def count(dataset, indices):
        made = whole_batch(dataset, indices)
        if made is not None:
            calls.append(len(indices))
        return made

    monkeypatch.setattr(batch_fetch, "whole_batch", count)
    return calls


SETTINGS = {
    "plain": {"batch_size": 3},
    "shuffled, drop_last": {"batch_size": 3, "shuffle": True, "drop_last": True},
    "batch_sampler": {"batch_sampler": [[1, 5], [0], [2, 2, 6]]},
    "own sampler": {"batch_size": 2, "sampler": [3, -1, 0]},
    "2 workers": {"batch_size": 2, "shuffle": True, "num_workers": 2},
    "persistent": {"batch_size": 2, "shuffle": True, "num_workers": 2, "persistent_workers": True},
    "pinned": {"batch_size": 3, "pin_memory": True},
}


def pipeline():
    return v2.Compose([v2.RandomHorizontalFlip(), v2.ToImage(), v2.ToDtype(torch.float32, scale=True)])


def lifted_epochs(dataset, seed=0, epochs=2, **settings):
    torch.manual_seed(0)
    loader = smartaug.DataLoader(dataset, lift=True, seed=seed, **settings)
    return [[(images, target.plain, target.index) for images, target in loader] for _ in range(epochs)]


@pytest.mark.filterwarnings("ignore:'pin_memory' argument is set as true")
@pytest.mark.parametrize("name", ["CIFAR10", "MNIST"])
@pytest.mark.parametrize("setting", SETTINGS.values(), ids=SETTINGS)
def test_loaders_give_the_same_as_sample_by_sample(stored, counted, name, setting):
    dataset = copy.copy(stored[name])
    dataset.transform = pipeline()
    before = dict(vars(dataset))
    whole = lifted_epochs(dataset, **setting)
    assert bool(counted) != ("num_workers" in setting)
    counted.clear()
    same(whole, lifted_epochs(dataset, collate_fn=by_sample, **setting))
    assert not counted
    assert vars(dataset) == before


def test_one_sample_at_a_time_is_left_alone():
    dataset = coded()
    with pytest.warns(smartaug.NoEffectWarning, match="batch_size=None asks for single samples"):
        loader = smartaug.DataLoader(dataset, batch_size=None, lift=True)
    assert loader.dataset is dataset
    same(list(loader), list(TorchDataLoader(dataset, batch_size=None)))


@pytest.mark.parametrize("context", ["forkserver", pytest.param("spawn", marks=pytest.mark.slow)])
def test_workers_that_are_not_forked(stored, context):
    dataset = copy.copy(stored["FashionMNIST"])
    dataset.transform = pipeline()
    started = lifted_epochs(dataset, batch_size=4, num_workers=1, multiprocessing_context=context, epochs=1)
    same(started, lifted_epochs(dataset, batch_size=4, epochs=1))


def test_every_stage_runs_once(counted):
    loader = smartaug.DataLoader(coded(), batch_size=4, shuffle=True, lift=True, augment=stages(), seed=0)
    for epoch in range(2):
        assert_epoch(read_pass(loader), epoch)
    assert counted == [4] * (2 * CODED // 4)


def test_resumes_in_mid_epoch(counted):
    def made():
        return smartaug.DataLoader(coded(), batch_size=4, shuffle=True, lift=True, augment=stages(), seed=0)

    loader = made()
    batches = iter(loader)
    seen = [sample for _ in range(3) for sample in read(*next(batches))]
    state, resumed = loader.state_dict(), made()
    resumed.load_state_dict(state)
    counted.clear()
    rest = read_pass(resumed)
    assert rest == [sample for batch in batches for sample in read(*batch)]
    assert_epoch(seen + rest, 0)
    assert counted == [4] * (2 * (CODED // 4 - 3))


def test_accelerate(counted):
    accelerate = pytest.importorskip("accelerate")
    loader = smartaug.DataLoader(coded(), batch_size=4, shuffle=True, lift=True, augment=stages(), seed=0)
    prepared = accelerate.Accelerator(cpu=True).prepare(loader)
    for epoch in range(2):
        assert_epoch(read_pass(prepared), epoch)
    assert counted == [4] * (2 * CODED // 4)
    accelerate.state.AcceleratorState._reset_state(reset_partial_state=True)
    accelerate.state.GradientState._reset_state()


@pytest.mark.parametrize("subset", [False, True])
def test_rebuilt_as_lightning_does(counted, subset):
    utilities = pytest.importorskip("lightning.fabric.utilities.data")
    dataset = Subset(coded(), range(CODED)) if subset else coded()
    loader = smartaug.DataLoader(dataset, batch_size=4, shuffle=True, lift=True, augment=stages(), seed=0)
    rebuilt = utilities._update_dataloader(loader, torch.utils.data.SequentialSampler(loader.dataset))
    assert rebuilt.dataset is loader.dataset
    for epoch in range(2):
        seen = read_pass(rebuilt)
        assert_epoch(seen, epoch)
        assert [index for index, _ in seen] == list(range(CODED))
    assert counted == [4] * (2 * CODED // 4)
    assert loader.stats()["samples"] == 2 * CODED


def test_lightning_fit(counted, tmp_path):
    lightning = pytest.importorskip("lightning")

    class Seeing(lightning.LightningModule):
        def __init__(self):
            super().__init__()
            self.net, self.seen = net(), {}

        def training_step(self, batch, number):
            images, target = batch
            self.seen.setdefault(self.current_epoch, []).extend(read(images, target))
            return torch.nn.functional.cross_entropy(self.net(images), target)

        def configure_optimizers(self):
            return torch.optim.SGD(self.parameters(), lr=0.1)

    loader = smartaug.DataLoader(coded(), batch_size=4, shuffle=True, lift=True, augment=stages(), seed=0)
    quiet = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
    trainer = lightning.Trainer(accelerator="cpu", max_epochs=2, enable_model_summary=False, **quiet)
    model = Seeing()
    trainer.fit(model, loader)
    for epoch in range(2):
        assert_epoch(model.seen[epoch], epoch)
    assert len(counted) == 2 * CODED // 4


def test_explain_says_how_batches_are_fetched(stored):
    def row(dataset, **settings):
        loader = smartaug.DataLoader(dataset, lift=True, augment=smartaug.Flip(), **settings)
        return next(line for line in loader.explain().splitlines() if line.startswith("fetch: "))

    assert "whole batches" in row(stored["CIFAR10"], batch_size=2)
    assert "num_workers=0" in row(stored["CIFAR10"], batch_size=2, num_workers=2)
    flipped = copy.copy(stored["MNIST"])
    flipped.transform = pipeline()
    assert "collate function" in row(flipped, batch_size=2, collate_fn=by_sample)
    with pytest.warns(smartaug.NoEffectWarning, match="__getitem__ or __getitems__ of its own"):
        smartaug.DataLoader(Overridden(*tensors().tensors), lift=True)


def test_without_lift_the_data_set_is_the_users(counted):
    dataset = coded()
    loader = smartaug.DataLoader(dataset, batch_size=4, augment=stages(), seed=0)
    assert loader.dataset is dataset
    assert_epoch(read_pass(loader), 0)
    assert not counted


# --- behind an AugmentedDataset --------------------------------------------------------------------------------------


PIPELINES = {
    "albumentations": lambda: albumentations.Compose(
        [albumentations.HorizontalFlip(), albumentations.Normalize(0.5, 0.5), ToTensorV2()]
    ),
    "torchvision": lambda: v2.Compose([v2.RandomHorizontalFlip(), v2.PILToTensor()]),
}


def without_transform(dataset):
    bare = copy.copy(dataset)
    bare.transform = bare.transforms = None
    return bare


@pytest.mark.parametrize("pipeline", PIPELINES)
@pytest.mark.parametrize("name", STORED)
def test_behind_an_augmented_dataset(stored, name, pipeline):
    bare = without_transform(stored[name])
    some = Subset(Subset(bare, [6, 5, 4, 3, 2, 1]), [5, 0, 0, 3])
    for inner in (bare, some, ConcatDataset([some, bare])):
        lifted = smartaug.lift(smartaug.AugmentedDataset(inner, PIPELINES[pipeline]())).dataset
        assert hinders(lifted) is None
        rows = [3, 0, 1, 3]
        same(whole_batch(lifted, rows), default_collate([lifted[row] for row in rows]))
    assert bare.transform is None


def test_size_is_known_behind_an_augmented_dataset(stored):
    """A crop needs to know that all images are of one size, which only the storage says."""
    bare = without_transform(stored["CIFAR10"])
    crop = v2.Compose([v2.RandomCrop(32, padding=4), v2.PILToTensor()])
    assert not smartaug.lift(smartaug.AugmentedDataset(bare, crop)).head.transforms
    assert not smartaug.lift(smartaug.AugmentedDataset(Subset(bare, [1, 2]), crop)).head.transforms
    resized = copy.copy(bare)
    resized.transform = v2.Resize(40)
    assert smartaug.lift(smartaug.AugmentedDataset(resized, crop)).head.transforms


def test_what_hinders_behind_an_augmented_dataset(stored):
    bare = without_transform(stored["CIFAR10"])
    head = Head((), AsTensor())
    half = torch.tensor([True, False] * SIZE)[:SIZE]
    for dataset, reason in (
        (smartaug.AugmentedDataset(bare, head, only=half), "some of the samples"),
        (smartaug.AugmentedDataset(bare, head, joint=True), "more than the image"),
        (smartaug.AugmentedDataset(bare, v2.RandomHorizontalFlip()), "does more"),
        (smartaug.AugmentedDataset(Twice(bare), head), "__getitem__ or __getitems__ of its own"),
    ):
        assert reason in hinders(dataset)
        assert whole_batch(dataset, [0, 1]) is None
    resized = copy.copy(bare)
    resized.transform = v2.Resize(40)
    assert "does more" in hinders(smartaug.AugmentedDataset(resized, head))


@pytest.mark.parametrize("subset", [False, True])
def test_a_table_of_arrays_behind_an_augmented_dataset_goes_sample_by_sample(subset):
    """Its images are (H, W, C), and the tensors of a whole column would be (B, H, W, C)."""
    datasets = pytest.importorskip("datasets")
    features = datasets.Features({"image": datasets.Array3D((4, 5, 3), "uint8")})
    images = pixels(4, 5, 3)
    given = datasets.Dataset.from_dict({"image": list(images)}, features).with_format("numpy", dtype=np.uint8)
    given = Subset(given, range(SIZE)) if subset else given
    flip = albumentations.Compose([albumentations.HorizontalFlip(p=1.0), ToTensorV2()])
    loader = smartaug.DataLoader(smartaug.AugmentedDataset(given, flip), batch_size=3, lift=True)
    assert "looked at image by image" in loader.explain()
    expected = torch.from_numpy(images[:3, :, ::-1].copy()).permute(0, 3, 1, 2)
    assert torch.equal(next(iter(loader))["image"], expected)


def test_tensors_behind_an_augmented_dataset():
    """torchvision's transforms leave them as they are, albumentations' take none."""
    head = AlbumentationsHead(albumentations.Compose([ToTensorV2()]), [], AsTensor())
    assert hinders(smartaug.AugmentedDataset(tensors(), Head((), AsTensor()))) is None
    assert "image by image" in hinders(smartaug.AugmentedDataset(tensors(), head))


class Twice(Dataset):
    """A data set around another one."""

    def __init__(self, inner):
        self.inner = inner

    def __len__(self):
        return len(self.inner)

    def __getitem__(self, index):
        return self.inner[index]


@pytest.mark.parametrize("pipeline", PIPELINES)
def test_a_loader_over_an_augmented_dataset(stored, pipeline):
    bare = without_transform(stored["CIFAR10"])
    dataset = smartaug.AugmentedDataset(bare, PIPELINES[pipeline](), seed=3)
    made = [smartaug.DataLoader(dataset, lift=True, batch_size=3, seed=0, num_workers=n) for n in (0, 1)]
    assert "whole batches" in made[0].explain()
    for one, other in zip(*made, strict=True):
        for mine, theirs in zip(one, other, strict=True):
            assert torch.equal(mine, theirs)
    slow = smartaug.DataLoader(dataset, lift=True, batch_size=3, seed=0, collate_fn=default_collate_twice)
    again = smartaug.DataLoader(dataset, lift=True, batch_size=3, seed=0)
    for one, other in zip(again, slow, strict=True):
        for mine, theirs in zip(one, other, strict=True):
            assert torch.equal(mine, theirs)


def default_collate_twice(samples):
    return default_collate(list(samples))
