"""A fair sample of every column of a stream of records, in memory that does not grow with the stream.

Contract: each value that is present has the same chance to be in a column's sample, wherever it stands (reservoir
sampling with random keys: Efraimidis & Spirakis, 2006); the same stream gives the same sample. Besides, all text is
looked through for what is certain by itself (:func:`.patterns.find`), so that three card numbers among a million notes
are seen.
"""

from collections import Counter
from collections.abc import Iterable, Mapping

import numpy as np
import polars as pl

from privacy_platform.detection import patterns
from privacy_platform.detection.detector import Column, Table

__all__ = ["SAMPLE", "Sampler", "flattened"]

SAMPLE = 200
_LONGEST = 2_000  # characters of a value that are kept in the sample
_MAX_COLUMNS = 5_000


class _Reservoir:
    """The values with the smallest random keys seen so far."""

    def __init__(self, seed: int) -> None:
        self._random = np.random.default_rng(seed)
        self._keys = np.empty(0)
        self._values: list[str] = []
        self._threshold = 1.0
        self.certain: Counter[str] = Counter()
        self.rows = 0

    def add(self, values: pl.Series) -> None:
        values = values.drop_nulls()
        self.rows += len(values)
        if not len(values):
            return
        self.certain.update(patterns.find(values))
        keys = self._random.random(len(values))
        kept = np.flatnonzero(keys < self._threshold)
        if len(kept) > SAMPLE:
            kept = kept[np.argpartition(keys[kept], SAMPLE)[:SAMPLE]]
        self._keys = np.concatenate([self._keys, keys[kept]])
        self._values += values.gather(kept).str.slice(0, _LONGEST).to_list()
        if len(self._keys) > SAMPLE:
            smallest = np.argpartition(self._keys, SAMPLE)[:SAMPLE]
            self._keys = self._keys[smallest]
            self._values = [self._values[i] for i in smallest]
            self._threshold = float(self._keys.max())

    @property
    def values(self) -> list[str]:
        return self._values


class Sampler:
    """Collects batches of a table's columns as text and makes a :class:`.detector.Table` of them."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._columns: dict[str, _Reservoir] = {}
        self.rows = 0

    def add(self, columns: Mapping[str, pl.Series], rows: int) -> None:
        """Take in a batch; columns may come and go between batches."""
        self.rows += rows
        for name, values in columns.items():
            if name not in self._columns:
                if len(self._columns) >= _MAX_COLUMNS:
                    continue
                self._columns[name] = _Reservoir(seed=len(self._columns))
            self._columns[name].add(values)

    def table(self) -> Table:
        """What was seen."""
        return Table(
            self._name,
            [Column(name, r.values, self.rows, dict(r.certain)) for name, r in self._columns.items()],
        )


def flattened(records: Iterable[Mapping[str, object]]) -> tuple[dict[str, pl.Series], int]:
    """Nested records as columns of text by path: `address.city`, `phones[]`, `orders[].id`.

    Returns:
        The columns, without missing values, and the number of records.
    """
    columns: dict[str, list[str]] = {}
    count = 0
    for record in records:
        count += 1
        for name, value in record.items():
            _flatten(name, value, columns)
    return {name: pl.Series(name, values, dtype=pl.String) for name, values in columns.items()}, count


def _flatten(path: str, value: object, columns: dict[str, list[str]]) -> None:
    if isinstance(value, Mapping):
        for name, inner in value.items():
            _flatten(f"{path}.{name}", inner, columns)
    elif isinstance(value, list | tuple):
        for inner in value:
            _flatten(f"{path}[]", inner, columns)
    else:
        texts = columns.setdefault(path, [])
        if value is not None and value != "":
            texts.append(str(value).lower() if isinstance(value, bool) else str(value))
