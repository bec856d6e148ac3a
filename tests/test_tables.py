"""Data frames, arrays and sparse matrices go straight into a loader, a reweighter and skorch."""

import numpy as np
import pandas as pd
import pytest
import scipy.sparse
import torch
from sklearn.preprocessing import OneHotEncoder, StandardScaler
from torch import nn

import smartaug
from smartaug import TableDataset

SIZE, BATCH = 48, 16
DRAW = np.random.default_rng(0)
NUMBERS = DRAW.normal(size=(SIZE, 4))
JOBS = np.array(["clerk", "nurse", "smith"])[np.arange(SIZE) % 3]
LABELS = (np.arange(SIZE) * 7 % 5 > 2).astype(int)
FRAME = pd.DataFrame(
    {
        "age": np.arange(SIZE) + 20,
        "wage": NUMBERS[:, 0],
        "owner": NUMBERS[:, 1] > 0,
        "job": pd.Categorical(JOBS),
        "y": LABELS,
    }
)


def read(loader):
    batches = list(loader)
    return [torch.cat([batch[n].as_subclass(torch.Tensor) for batch in batches]) for n in range(len(batches[0]))]


PAIRS = {
    "numpy": lambda: (NUMBERS, LABELS),
    "series": lambda: (pd.DataFrame(NUMBERS), pd.Series(LABELS, index=np.arange(SIZE) + 100)),
    "frames": lambda: (pd.DataFrame(NUMBERS), pd.DataFrame({"y": LABELS})),
    "list": lambda: (NUMBERS, LABELS.tolist()),
    "tensors": lambda: (torch.tensor(NUMBERS, dtype=torch.float32), torch.tensor(LABELS)),
    "csr": lambda: (scipy.sparse.csr_matrix(NUMBERS), LABELS),
    "coo array": lambda: (scipy.sparse.coo_array(NUMBERS), LABELS),
    "nullable": lambda: (pd.DataFrame(NUMBERS).convert_dtypes(), pd.Series(LABELS, dtype="Int64")),
    "categories": lambda: (NUMBERS, pd.Series(LABELS).astype("category")),
    "bools": lambda: (NUMBERS, LABELS.astype(bool)),
}


@pytest.mark.parametrize("name", PAIRS)
@pytest.mark.parametrize("stages", [{}, {"reweight": smartaug.Uniform()}], ids=["torch's", "stages"])
def test_a_pair_of_tables_is_read_row_by_row(name, stages):
    loader = smartaug.DataLoader(PAIRS[name](), BATCH, **stages)
    rows, labels = read(loader)
    assert rows.dtype == torch.float32
    assert torch.equal(rows, torch.tensor(NUMBERS, dtype=torch.float32))
    assert labels.dtype == torch.int64
    assert torch.equal(labels, torch.tensor(LABELS))
    assert len(loader.dataset) == SIZE
    assert (loader.inputs, loader.target) == (None, None)  # what the user passed


@pytest.mark.parametrize("name", PAIRS)
def test_rows_of_every_form_are_augmented_alike(name):
    def loader(pair):
        torch.manual_seed(0)
        return smartaug.DataLoader(pair, BATCH, shuffle=True, augment=smartaug.CutMix(), seed=1)

    made, wanted = (next(iter(loader(PAIRS[one]()))) for one in (name, "numpy"))
    assert torch.equal(made[0], wanted[0])
    assert torch.equal(made[1].soft, wanted[1].soft)


def test_frames_split_into_numbers_and_categories():
    data = TableDataset(FRAME, "y")
    numbers, codes, label = data[5]
    assert numbers.tolist() == pytest.approx([25, NUMBERS[5, 0], float(NUMBERS[5, 1] > 0)])
    assert data.categories == {"job": ["clerk", "nurse", "smith"]}
    assert data.categories["job"][int(codes[0])] == JOBS[5]
    assert (int(label), label.dtype) == (LABELS[5], torch.int64)
    assert list(FRAME.columns) == ["age", "wage", "owner", "job", "y"]
    loader = smartaug.DataLoader(
        (FRAME.drop(columns="y"), FRAME["y"]), BATCH, augment=smartaug.SwapFeatures(0.5), seed=0
    )
    for (_, codes, _), number in zip(loader, range(3), strict=True):
        assert codes.dtype == torch.int64
        assert codes.shape == (BATCH, 1)
        assert not torch.equal(codes, data.parts[1][number * BATCH : (number + 1) * BATCH])


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.jobs, self.linear = nn.Embedding(3, 2), nn.Linear(5, 2)

    def forward(self, numbers, codes):
        return self.linear(torch.cat([numbers, self.jobs(codes[:, 0])], 1))


@pytest.mark.parametrize("form", ["frame", "tuple", "dict", "subset"])
def test_a_model_of_numbers_and_categories_is_reweighted(form):
    torch.manual_seed(0)
    scaled = StandardScaler().fit_transform(FRAME[["age", "wage", "owner"]])
    codes = FRAME["job"].cat.codes.to_numpy()[:, None]
    held = ((scaled[:16], codes[:16]), LABELS[:16])
    if form == "frame":
        data, held = (FRAME.drop(columns="y"), FRAME["y"]), (FRAME.drop(columns="y")[:16], FRAME["y"][:16])
    elif form == "tuple":
        data = ((scaled, codes), LABELS)
    elif form == "dict":
        data = ({"numbers": scaled, "codes": codes}, LABELS)
        held = ({"numbers": scaled[:16], "codes": codes[:16]}, LABELS[:16])
    else:
        data, held = smartaug.split_validation(TableDataset((scaled, codes), LABELS), 0.3)
    net = Net()
    loader = smartaug.DataLoader(
        data, BATCH, augment=smartaug.SwapFeatures(), reweight=smartaug.SAFLEX(net, held), seed=0
    )
    criterion = smartaug.Loss(nn.CrossEntropyLoss())
    for batch in loader:
        *inputs, target = batch.values() if form == "dict" else batch
        loss = criterion(net(*inputs), target)
        loss.backward()
        assert target.weight.shape == (len(target),)
    assert loader.stats()["reweight"]["batches"] == len(loader)


def test_wrap_reads_tables_as_the_loader_does():
    """Numbers, categories and labels of 16 rows each: which are inputs the dataset says, through `Subset` too."""
    dataset = torch.utils.data.Subset(TableDataset(FRAME, "y"), range(40))
    mixed = {"augment": smartaug.SwapFeatures(0.5), "reweight": smartaug.Uniform(), "seed": 0}
    wrapped = smartaug.wrap(torch.utils.data.DataLoader(dataset, BATCH), **mixed)
    for (numbers, codes, target), rows in zip(wrapped, range(0, 40, BATCH), strict=True):
        whole = dataset.dataset.parts[0][rows : rows + BATCH][: len(numbers)]
        assert codes.shape == (len(numbers), 1)
        assert not torch.equal(numbers, whole)
        assert torch.equal(target.plain, torch.tensor(LABELS)[rows : rows + len(numbers)])


def test_what_scikit_learn_encodes_goes_straight_in():
    encoded = OneHotEncoder().fit_transform(FRAME[["job"]])  # scipy.sparse
    assert scipy.sparse.issparse(encoded)
    rows, _ = read(smartaug.DataLoader((encoded, LABELS), BATCH, augment=smartaug.GaussianNoise(0.0)))
    assert torch.equal(rows, torch.tensor(encoded.toarray(), dtype=torch.float32))
    reweight = smartaug.SAFLEX(nn.Linear(3, 2), (encoded[:16], LABELS[:16]))
    _, target = next(iter(smartaug.DataLoader((encoded, LABELS), BATCH, reweight=reweight)))
    assert target.weight.shape == (BATCH,)


def test_values_of_a_regression_and_sequences():
    series = DRAW.normal(size=(SIZE, 6, 2))
    loader = smartaug.DataLoader((series, NUMBERS[:, 0]), BATCH, augment=smartaug.MixUp(regression=True), seed=0)
    rows, target = next(iter(loader))
    assert rows.shape == (BATCH, 6, 2)
    assert target.dtype == torch.float32
    assert target.soft.shape == (BATCH, 1)
    assert not torch.equal(rows, torch.tensor(series[:BATCH], dtype=torch.float32))


def test_two_samples_of_one_shape_stay_two_samples():
    both = (torch.zeros(3, 4), torch.ones(3, 4))
    batch = next(iter(smartaug.DataLoader(both, 2)))
    assert batch.shape == (2, 3, 4)
    listed = [torch.zeros(3, 4), torch.ones(3)]
    assert smartaug.DataLoader(listed, 1).dataset is listed


REFUSED = {
    "frame": (
        lambda: smartaug.DataLoader(FRAME),
        TypeError,
        r"DataFrame does not say .* frame\['y'\]\), or smartaug.Tab",
    ),
    "sparse": (lambda: smartaug.DataLoader(scipy.sparse.eye(3)), TypeError, r"does not say which of its columns"),
    "text": (lambda: TableDataset(FRAME.assign(job=JOBS), "y"), TypeError, r"no numbers, 'job' .*OneHotEncoder"),
    "dates": (
        lambda: TableDataset(FRAME.assign(day=pd.Timestamp("2020-01-01")), "y"),
        TypeError,
        r"no numbers, 'day' \(datetime64",
    ),
    "text labels": (lambda: TableDataset(NUMBERS, JOBS), TypeError, r"labels must be numbers, got .*LabelEncoder"),
    "missing": (
        lambda: TableDataset(FRAME.assign(wage=np.where(LABELS, np.nan, 1.0)), "y"),
        ValueError,
        r"missing or infinite values in the columns \['wage'\]; fill them in",
    ),
    "missing category": (
        lambda: TableDataset(FRAME.assign(job=FRAME["job"].where(LABELS > 0)), "y"),
        ValueError,
        r"column 'job' has missing values; make them a category",
    ),
    "infinite": (lambda: TableDataset(NUMBERS / 0.0, LABELS), ValueError, r"inputs has missing or infinite values"),
    "no label": (lambda: TableDataset(NUMBERS, pd.Series([None] * SIZE)), TypeError, r"labels must be numbers"),
    "lengths": (lambda: TableDataset(NUMBERS, LABELS[1:]), ValueError, r"a row a sample, got \[48, 47\] rows"),
    "column": (lambda: TableDataset(FRAME, "z"), ValueError, r"labels='z' must name a column .* TableDataset\(frame"),
    "in a dict": (lambda: TableDataset({"all": FRAME}), ValueError, r"inputs\['all'\] holds numbers and categories"),
    "empty": (lambda: TableDataset(FRAME[[]]), ValueError, r"inputs has no columns"),
    "object": (lambda: TableDataset("a.csv"), TypeError, r"inputs must be numbers, got str"),
}


@pytest.mark.parametrize("name", REFUSED)
@pytest.mark.filterwarnings("ignore:divide by zero")
def test_what_is_no_table_of_numbers_is_refused(name):
    make, error, words = REFUSED[name]
    with pytest.raises(error, match=words):
        make()


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_skorch_trains_on_tables():
    import skorch

    torch.manual_seed(0)
    rows = StandardScaler().fit_transform(NUMBERS).astype(np.float32)
    labels = (rows[:, 0] > 0).astype(np.int64)
    net = skorch.NeuralNetClassifier(
        nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2)),
        criterion=smartaug.Loss,
        criterion__criterion=nn.CrossEntropyLoss(),
        iterator_train=smartaug.DataLoader,
        iterator_train__shuffle=True,
        iterator_train__augment=[smartaug.SMOTE(), smartaug.SwapFeatures(), smartaug.CutMix()],
        iterator_train__reweight=smartaug.SAFLEX(lambda: net.module_, (rows[:16], labels[:16])),
        iterator_train__inputs=0,
        iterator_train__target=1,
        max_epochs=20,
        lr=0.5,
        batch_size=BATCH,
        train_split=None,
        verbose=0,
    )
    net.fit(rows[16:], labels[16:])
    assert net.score(rows[16:], labels[16:]) > 0.8
