"""Files, and frames in memory, as relations.

A file is CSV (comma, semicolon, tab or bar; UTF-8), JSON Lines or Parquet; CSV and JSON Lines may be gzipped. CSV
columns in which everything is written as a plain number are numbers; a code with leading zeros stays text.
"""

import csv
import gzip
from collections.abc import Sequence
from pathlib import Path
from typing import Self

import polars as pl
import polars.selectors as cs

from privacy_platform.anonymization.risk.relation import Kind, SourceColumn
from privacy_platform.errors import PrivacyPlatformError

__all__ = ["FrameRelation", "TableFileError", "is_table_file", "read_table"]

_SUFFIXES = (".csv", ".tsv", ".txt", ".jsonl", ".ndjson", ".parquet")
_DELIMITERS = ",;\t|"
_NUMBER = r"^-?(0|[1-9]\d{0,17})(\.\d+)?$"


class TableFileError(PrivacyPlatformError):
    """A file is not a table that can be read; the message names it."""


class FrameRelation:
    """A frame in memory as a relation; columns of lists and structures are left out."""

    def __init__(self, frame: pl.DataFrame, *, counts: str | None = None) -> None:
        """Take a frame.

        Args:
            frame: one row a record, or
            counts: name of the column that says how many records (≥ 1) a row stands for; it is no column of the
                relation.
        """
        self._frame = frame.select(~cs.nested() & ~cs.binary() & ~cs.object())
        self._counts = counts
        number = pl.len() if counts is None else pl.col(counts).sum()
        self._records = number.cast(pl.Int64).alias("records")

    @property
    def columns(self) -> tuple[SourceColumn, ...]:
        """Columns in order."""
        schema = self._frame.schema.items()
        return tuple(SourceColumn(name, _kind(dtype)) for name, dtype in schema if name != self._counts)

    def records(self) -> int:
        """How many there are."""
        return int(self._frame.select(self._records).item())

    def distinct(self, names: Sequence[str]) -> dict[str, int]:
        """Values of each column."""
        return {name: self._frame[name].drop_nulls().n_unique() for name in names}

    def grouped(self, names: Sequence[str], *, limit: int | None = None) -> pl.DataFrame | None:
        """Distinct combinations."""
        found = self._frame.group_by([pl.col(name).alias(f"c{i}") for i, name in enumerate(names)]).agg(self._records)
        return None if limit is not None and found.height > limit else found

    def cells(self, names: Sequence[str], value: str) -> pl.DataFrame:
        """Values in classes."""
        keys = [pl.col(name).alias(f"c{i}") for i, name in enumerate(names)]
        cells = self._frame.group_by([*keys, pl.col(value).alias("value")]).agg(self._records)
        classes = [f"c{i}" for i in range(len(names))]
        number = pl.struct(classes).rank("dense") if classes else pl.lit(0)
        return cells.select(number.cast(pl.Int64).alias("class"), "value", "records")

    def without(self, names: Sequence[str], mark: str) -> Self:
        """The frame without suppressed rows."""
        suppressed = pl.all_horizontal(pl.col(name).cast(pl.String).eq_missing(mark) for name in names)
        return type(self)(self._frame.filter(~suppressed), counts=self._counts)


def _kind(dtype: pl.DataType) -> Kind:
    if dtype.is_integer():
        return Kind.INTEGER
    if dtype.is_numeric():
        return Kind.NUMBER
    if dtype.is_temporal():
        return Kind.TIME
    return Kind.BOOLEAN if dtype == pl.Boolean else Kind.TEXT


def is_table_file(path: Path) -> bool:
    """Whether the name is that of a table file."""
    name = path.name.lower().removesuffix(".gz")
    return name.endswith(_SUFFIXES)


def read_table(path: Path) -> pl.DataFrame:
    """The whole file.

    Raises:
        TableFileError: it is not there, of another format, or broken.
    """
    if not is_table_file(path):
        raise TableFileError(f"{path.name}: not a table; give a .csv, .tsv, .jsonl or .parquet file (.gz too)")
    if not path.is_file():
        raise TableFileError(f"{path}: there is no such file")
    name = path.name.lower().removesuffix(".gz")
    try:
        if name.endswith(".parquet"):
            return pl.read_parquet(path)
        if name.endswith(("l", "ndjson")):
            return pl.read_ndjson(_plain(path), infer_schema_length=None)
        return _numbers(_read_csv(path))
    except (pl.exceptions.PolarsError, UnicodeDecodeError, EOFError, gzip.BadGzipFile, csv.Error) as error:
        # The reader's own words may quote values.
        raise TableFileError(f"{path.name}: not a readable table ({type(error).__name__}); is it whole?") from None


def _plain(path: Path) -> bytes | Path:
    return gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path


def _read_csv(path: Path) -> pl.DataFrame:
    opener = gzip.open if path.suffix == ".gz" else open
    with opener(path, "rt", encoding="utf-8-sig", newline="") as file:
        head = file.readline()
    header = head.rstrip("\r\n")
    delimiter = max(_DELIMITERS, key=lambda one: len(next(csv.reader([header], delimiter=one), [])))
    return pl.read_csv(_plain(path), separator=delimiter, infer_schema=False)


def _numbers(frame: pl.DataFrame) -> pl.DataFrame:
    """Text columns in which everything is a plain number, as numbers."""
    plain = frame.select(
        (cs.string().str.contains(_NUMBER).all(ignore_nulls=True) & cs.string().is_not_null().any()).name.keep()
    )
    whole = frame.select(~cs.string().str.contains(".", literal=True).any(ignore_nulls=True))
    names = [name for name in plain.columns if plain[name].item()]
    return frame.with_columns(pl.col(name).cast(pl.Int64 if whole[name].item() else pl.Float64) for name in names)
