"""`TableDataset`: data frames, arrays and sparse matrices as samples of tensors.

What: inputs of pandas, NumPy, scipy.sparse (as `OneHotEncoder` returns them) or torch, and their labels, row by row.
Numbers become floats of torch's default type, categories of pandas become codes (int64), and a row of a sparse matrix
becomes dense when it is read. When: tables; ``smartaug.DataLoader((X, y))`` and ``val_set=(X, y)`` make one by
themselves. Cost: numbers are copied once where their type changes; a batch of a sparse matrix is one slice of it.
Reference: none.

Nothing is guessed: text, dates and missing values are refused, with the columns and what to write.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from .names import suggest_keywords

Table = Any  # the user's: a data frame or series of pandas, an array, a scipy.sparse matrix or a tensor
Part = Any  # a tensor with a row a sample, or a matrix of scipy in CSR format
Reading = dict[str, Any]  # ``inputs=`` and ``target=`` of a loader


class TableDataset(Dataset):
    """``dataset = smartaug.TableDataset(X, y)``: map-style samples ``(x, y)`` of tensors.

    * `inputs`: a pandas DataFrame, an array (n, F) or (n, T, F), a scipy.sparse matrix or a tensor; or several of them
      for a model of several inputs, as a tuple (its arguments) or a dict (its keyword arguments).
    * `labels`: a Series, array, tensor or list of n labels; of a DataFrame also the name of its column, which is taken
      out of the inputs. None: there are none.

    Of a DataFrame numbers and bools become one tensor of floats, and columns of pandas' type "category" a second one of
    codes (int64), of which ``categories`` has the names; so a frame with both makes samples (numbers, codes, label).
    Arrays of floats become torch's default type, those of whole numbers int64 (numbers of categories), uint8 stays.
    Labels that are whole numbers, bools or of type "category" become int64, of which ``classes`` has the names; others
    floats. A dict of inputs makes samples that are dicts, with the label under "label".

    Loaders of smartaug know from ``reading`` which parts are inputs and label, through `Subset` too, unless ``inputs=``
    and ``target=`` say otherwise. Raises TypeError for text, dates and what is no table, ValueError for missing or
    infinite values and for unequal lengths.
    """

    @suggest_keywords
    def __init__(self, inputs: Table, labels: Table = None) -> None:
        if isinstance(labels, str):
            if not is_frame(inputs) or labels not in inputs.columns:
                raise ValueError(
                    f"labels={labels!r} must name a column of a DataFrame given as inputs; write "
                    f"TableDataset(frame, {labels!r})"
                )
            inputs, labels = inputs.drop(columns=labels), inputs[labels]
        self.categories: dict[str, list[Any]] = {}
        self.classes: list[Any] | None = None
        self.names: tuple[str, ...] | None = None
        self.parts: list[Part] = []
        if isinstance(inputs, Mapping):
            self.names = tuple(inputs)
            for name, table in inputs.items():
                made = self._read(table, f"inputs[{name!r}]")
                if len(made) > 1:
                    raise ValueError(
                        f"inputs[{name!r}] holds numbers and categories, which are two inputs; split it: "
                        "frame.select_dtypes('category') and frame.select_dtypes('number')"
                    )
                self.parts += made
        else:
            for number, table in enumerate(inputs if isinstance(inputs, tuple) else (inputs,)):
                self.parts += self._read(table, f"inputs[{number}]" if isinstance(inputs, tuple) else "inputs")
        self.targets = None if labels is None else self._labels(labels)
        lengths = [part.shape[0] for part in (*self.parts, *(() if self.targets is None else (self.targets,)))]
        if len(set(lengths)) != 1:
            raise ValueError(
                f"inputs and labels must have a row a sample, got {lengths} rows; give all the same samples"
            )
        self.reading = self._reading()

    def _read(self, table: Table, name: str) -> list[Part]:
        if not is_frame(table):
            return [_part(table, name)]
        numbers, codes, refused = [], [], []
        for column in table.columns:
            series = table[column]
            if hasattr(series, "cat"):
                codes.append(_codes(series, f"column {column!r}"))
                self.categories[column] = series.cat.categories.tolist()
            elif getattr(series.dtype, "kind", "O") in "iufb":
                numbers.append(column)
            else:
                refused.append(f"{column!r} ({series.dtype})")
        if refused:
            raise TypeError(
                f"{name} holds columns that are no numbers, {', '.join(refused)}; make categories of them, with the "
                "same ones in training and validation data, frame.astype({'column': 'category'}) before you split "
                "it, encode them with sklearn.preprocessing.OneHotEncoder, or leave them out"
            )
        parts: list[Part] = []
        if numbers:
            values = table[numbers].to_numpy(dtype=np.float64, na_value=np.nan)
            bad = [column for column, fine in zip(numbers, np.isfinite(values).all(0), strict=True) if not fine]
            if bad:
                raise ValueError(f"{name} has missing or infinite values in the columns {bad}; {_FILL}")
            parts.append(torch.from_numpy(values.astype(_float_type())))  # a copy: pandas' own memory is read-only
        if codes:
            parts.append(torch.stack(codes, 1))
        if not parts:
            raise ValueError(f"{name} has no columns; give the model something to read")
        return parts

    def _labels(self, labels: Table) -> Tensor:
        if is_frame(labels) and len(labels.columns) == 1:
            labels = labels[labels.columns[0]]
        if hasattr(labels, "cat"):
            self.classes = labels.cat.categories.tolist()
            return _codes(labels, "labels")
        if hasattr(labels, "tocsr"):
            labels = labels.toarray()
        made: Tensor = _part(labels, "labels")
        return made if made.is_floating_point() else made.long()

    def _reading(self) -> Reading:
        """``inputs=`` and ``target=`` of its samples; the same objects at every call."""
        several = len(self.parts) > 1
        if self.names is not None:
            return {"inputs": list(self.names) if several else self.names[0], "target": self._target("label")}
        return {"inputs": list(range(len(self.parts))) if several else 0, "target": self._target(len(self.parts))}

    def _target(self, name: Any) -> Any:
        return None if self.targets is None else name

    def __len__(self) -> int:
        return int(self.parts[0].shape[0])

    def __getitem__(self, index: int) -> Any:
        return self.__getitems__([index])[0]

    def __getitems__(self, indices: Sequence[int]) -> list[Any]:
        """The samples of ``indices``; of a sparse matrix by one slice."""
        rows = torch.as_tensor(indices, dtype=torch.int64, device="cpu")
        columns = [_rows(part, rows) for part in self.parts]
        columns += [] if self.targets is None else [self.targets[rows]]
        if self.names is None:
            return list(zip(*columns, strict=True)) if len(columns) > 1 else list(columns[0])
        names = (*self.names, *(() if self.targets is None else ("label",)))
        return [dict(zip(names, sample, strict=True)) for sample in zip(*columns, strict=True)]


def is_frame(table: object) -> bool:
    """Whether an object is a DataFrame of pandas."""
    return hasattr(table, "iloc") and hasattr(table, "columns")


def as_dataset(data: Any) -> Any:
    """``data``, or the `TableDataset` of a pair (X, y) of tables.

    A pair is a tuple of a table, or several, and labels of as many rows. Two tensors of one shape are two samples, as
    for torch's loader. Raises TypeError for a data frame or a sparse matrix alone.
    """
    if is_frame(data) or hasattr(data, "tocsr"):
        raise TypeError(
            f"a {type(data).__name__} does not say which of its columns is the label; write (frame.drop(columns='y'), "
            "frame['y']), or smartaug.TableDataset(frame, 'y')"
        )
    return TableDataset(*data) if is_table_pair(data) else data


def is_table_pair(data: object) -> bool:
    """Whether ``data`` is (X, y) of tables and labels, which a `TableDataset` takes."""
    if type(data) is not tuple or len(data) != 2:
        return False
    inputs, labels = data
    several = isinstance(inputs, Mapping) or type(inputs) is tuple
    parts = (list(inputs.values()) if isinstance(inputs, Mapping) else list(inputs)) if several else [inputs]
    if not parts or not all(_is_table(part, 1 if several else 2) for part in parts):
        return False
    if isinstance(labels, list):
        return len(labels) == parts[0].shape[0] and not any(hasattr(label, "shape") for label in labels)
    if not (hasattr(labels, "shape") and len(labels.shape) in (1, 2)):
        return False
    known = any(hasattr(part, "iloc") or hasattr(part, "tocsr") for part in (*parts, labels))
    rows = {part.shape[0] for part in (*parts, labels)}
    return len(rows) == 1 and (known or len(parts) > 1 or tuple(parts[0].shape) != tuple(labels.shape))


def reading_of(dataset: Any) -> Reading:
    """``inputs=`` and ``target=`` that the `TableDataset` inside a dataset states; {} where there is none."""
    for _ in range(8):
        if isinstance(dataset, TableDataset):
            return dataset.reading
        inner = getattr(dataset, "datasets", None)
        dataset = inner[0] if isinstance(inner, (list, tuple)) and inner else getattr(dataset, "dataset", None)
    return {}


_FILL = "fill them in (sklearn.impute.SimpleImputer, frame.fillna(...)) or leave such rows out"


def _is_table(part: object, least: int) -> bool:
    """Whether an object is a frame, a sparse matrix, or an array of at least ``least`` dimensions."""
    return is_frame(part) or hasattr(part, "tocsr") or (isinstance(part, (np.ndarray, Tensor)) and part.ndim >= least)


def _part(table: Table, name: str) -> Part:
    """A tensor, or a CSR matrix, of an array, a series, a list or a sparse matrix."""
    if isinstance(table, Tensor):
        return table
    if hasattr(table, "tocsr"):
        matrix = table.tocsr()
        if not np.isfinite(matrix.data).all():
            raise ValueError(f"{name} has missing or infinite values; {_FILL}")
        return matrix
    if hasattr(table, "iloc"):  # a series, or columns of labels
        kinds = {getattr(dtype, "kind", "O") for dtype in (table.dtypes if is_frame(table) else [table.dtype])}
        floats = kinds & {"f"} or table.isna().to_numpy().any()
        table = (
            table.to_numpy(dtype=np.float64, na_value=np.nan) if floats and kinds <= set("iufb") else table.to_numpy()
        )
    array = np.asarray(table)
    array = array if array.flags.writeable else array.copy()  # tensors share the memory of arrays, and are writable
    if array.dtype.kind not in "iufb" or array.ndim == 0:
        what = f"an array of {array.dtype}" if array.ndim else type(table).__name__
        raise TypeError(
            f"{name} must be numbers, got {what}; for text write series.astype('category'), or encode it with "
            "sklearn.preprocessing.LabelEncoder (labels) or OneHotEncoder (inputs)"
        )
    if array.dtype.kind == "f":
        if not np.isfinite(array).all():
            raise ValueError(f"{name} has missing or infinite values; {_FILL}")
        made = torch.as_tensor(array)
        return made.to(torch.get_default_dtype()) if made.dtype == torch.float64 else made
    if array.dtype.kind == "b" and name != "labels":
        return torch.as_tensor(array).to(torch.get_default_dtype())
    return torch.as_tensor(array) if array.dtype == np.uint8 else torch.as_tensor(array.astype(np.int64))


def _float_type() -> np.dtype:
    """torch's default type of floats, where NumPy has it."""
    return np.dtype(np.float64 if torch.get_default_dtype() == torch.float64 else np.float32)


def _codes(series: Any, name: str) -> Tensor:
    """(n,) int64 codes of a series of categories."""
    codes = torch.from_numpy(series.cat.codes.to_numpy().astype(np.int64))
    if (codes < 0).any():
        raise ValueError(
            f"{name} has missing values; make them a category, series.cat.add_categories(['missing']).fillna('missing')"
        )
    return codes


def _rows(part: Part, rows: Tensor) -> Tensor:
    if isinstance(part, Tensor):
        return part[rows.to(part.device)]
    dense = torch.from_numpy(part[rows.numpy()].toarray())
    return dense.to(torch.get_default_dtype()) if dense.dtype != torch.float32 else dense
