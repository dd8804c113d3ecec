"""Landing files as a source: JSON Lines, CSV and Parquet, plain or gzipped.

JSON Lines files are split by byte range at line ends and Parquet by row group; CSV (a quoted field may hold a line
end) and gzip are one split a file, read in bounded chunks. A line that cannot be read becomes a reject with its line
number; a column that no policy names is reported, and stops the run at the gate.
"""

import csv
import gzip
import io
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date
from fnmatch import fnmatch
from functools import partial
from pathlib import Path
from typing import IO, Literal

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from privacy_platform.engine.sources.batch import (
    LINE,
    TYPES,
    Batch,
    convert,
    empty_rejects,
    parse_timestamps,
    rejects_of,
)
from privacy_platform.engine.sources.json_lines import Raw, parse_each_line, parse_lines
from privacy_platform.errors import PrivacyPlatformError
from privacy_platform.policy.model import SourceType

Format = Literal["jsonl", "csv", "parquet"]
_FORMATS: Mapping[str, Format] = {".jsonl": "jsonl", ".ndjson": "jsonl", ".csv": "csv", ".parquet": "parquet"}
CHUNK_BYTES = 24 * 2**20
MAX_LINE_BYTES = 16 * 2**20
_SPLIT_BYTES = (16 * 2**20, 256 * 2**20)
_BATCH_ROWS = 65_536
_DELIMITERS = ",;\t|"


class SourceError(PrivacyPlatformError):
    """A landing file is unreadable as a whole; the message names the file."""


@dataclass(frozen=True, slots=True)
class FileSplit:
    """A piece of a landing file: bytes [start, end) of JSON Lines, row groups [start, end) of Parquet, or all of it.

    `index` counts all splits of a run in landing order; `source` is the file's name as reported.
    """

    index: int
    path: str
    source: str
    format: Format
    start: int
    end: int
    compressed: bool = False

    @property
    def position(self) -> pl.Expr:
        """Where a line is: the driver knows how many lie before this split and turns this into the file's line."""
        return pl.format("{}:{}", pl.lit(self.index), pl.col(LINE))

    def batches(self, types: Mapping[str, SourceType], required: Sequence[str]) -> Iterator[Batch]:
        """See `read_split`."""
        return read_split(self, types, required)


def landing_files(folder: Path, patterns: Sequence[str]) -> list[Path]:
    """The files in `folder` whose name fits a pattern and whose format is known, oldest first."""
    if not folder.is_dir():
        return []
    found = [
        path
        for path in folder.iterdir()
        if path.is_file() and file_format(path) and any(fnmatch(path.name, pattern) for pattern in patterns)
    ]
    return sorted(found, key=lambda path: (path.stat().st_mtime_ns, path.name))


def file_format(path: Path) -> tuple[Format, bool] | None:
    """(format, is gzipped) by the file's name, or None when it is not a format we read."""
    compressed = path.suffix == ".gz"
    suffix = Path(path.stem).suffix if compressed else path.suffix
    known = _FORMATS.get(suffix.lower())
    return (known, compressed) if known and not (compressed and known == "parquet") else None


def file_splits(files: Sequence[Path], *, parallelism: int, whole: bool = False) -> list[FileSplit]:
    """Cut files into splits, enough for `parallelism` tasks to end at about the same time.

    Args:
        files: the files, in landing order.
        parallelism: how many tasks run at once.
        whole: one split a file, so that a record's place in its split is its place in the file.

    Raises:
        SourceError: a file is gone or not of the format its name says.
    """
    total = sum(path.stat().st_size for path in files)
    low, high = _SPLIT_BYTES
    size = max(1, total) if whole else min(high, max(low, total // (2 * parallelism) + 1))
    splits: list[FileSplit] = []
    for path in files:
        known = file_format(path)
        if known is None:
            raise SourceError(f"{path.name}: not a format of landing files; use .jsonl, .csv or .parquet")
        kind, compressed = known
        for start, end in _ranges(path, kind, compressed, size):
            splits.append(FileSplit(len(splits), str(path), path.name, kind, start, end, compressed))
    return splits


def _ranges(path: Path, kind: Format, compressed: bool, size: int) -> list[tuple[int, int]]:
    length = path.stat().st_size
    if kind == "parquet":
        try:
            metadata = pq.read_metadata(path)
        except (pa.ArrowException, OSError):
            raise SourceError(f"{path.name}: not a readable Parquet file; write it again") from None
        groups = metadata.num_row_groups
        step = max(1, groups * size // max(1, length))
        return [(first, min(groups, first + step)) for first in range(0, groups, step)]
    if kind == "csv" or compressed:
        return [(0, length)] if length else []
    return [(start, min(length, start + size)) for start in range(0, length, size)]


def read_split(split: FileSplit, types: Mapping[str, SourceType], required: Sequence[str]) -> Iterator[Batch]:
    """The batches of one split.

    Args:
        split: what to read.
        types: the declared fields and their types, in order.
        required: fields a row cannot do without.

    Raises:
        SourceError: the file as a whole is unreadable, or a CSV or Parquet column has an impossible type.
    """
    line = 0
    readers: Mapping[Format, Callable[[FileSplit, Mapping[str, SourceType]], Iterator[Raw]]] = {
        "jsonl": _read_jsonl,
        "csv": partial(_read_csv, required=required),
        "parquet": _read_parquet,
    }
    reader = readers[split.format]
    with _readable(split):
        for raw in reader(split, types):
            rows, mistyped = convert(raw.rows, types, required)
            rejects = pl.concat([raw.rejects, mistyped]) if mistyped.height else raw.rejects
            yield Batch(
                rows.with_columns(pl.col(LINE) + line),
                rejects.with_columns(pl.col(LINE) + line),
                raw.records,
                raw.unknown,
                raw.blank,
            )
            line += raw.lines


@contextmanager
def _readable(split: FileSplit) -> Iterator[None]:
    """Turn what reading a damaged file raises into an error that names the file."""
    try:
        yield
    except (EOFError, gzip.BadGzipFile, zlib.error, csv.Error, pa.ArrowException, OSError) as error:
        raise SourceError(f"{split.source}: cannot be read ({type(error).__name__}); land it again, whole") from None


def _read_jsonl(split: FileSplit, types: Mapping[str, SourceType]) -> Iterator[Raw]:
    return (parse_lines(chunk, types) for chunk in _chunks(split))


def _chunks(split: FileSplit) -> Iterator[bytes]:
    """Whole lines of the split, some megabytes at a time: the lines that begin in [start, end)."""
    with _open(split) as file:
        left = split.end - split.start
        if split.start:
            file.seek(split.start - 1)
            left -= len(file.readline(MAX_LINE_BYTES)) - 1
        while left > 0 or split.compressed:
            block = file.read(CHUNK_BYTES if split.compressed else min(CHUNK_BYTES, left))
            if not block:
                return
            rest = b"" if block.endswith(b"\n") else file.readline(MAX_LINE_BYTES)
            chunk = block + rest
            left -= len(chunk)
            yield chunk


def _open(split: FileSplit) -> IO[bytes]:
    return gzip.open(split.path, "rb") if split.compressed else Path(split.path).open("rb")  # type: ignore[return-value]


def _read_csv(split: FileSplit, types: Mapping[str, SourceType], required: Sequence[str] = ()) -> Iterator[Raw]:
    with _open(split) as file:
        header = file.readline(MAX_LINE_BYTES)
        try:
            first = header.decode("utf-8-sig").rstrip("\r\n")
        except UnicodeDecodeError:
            raise SourceError(f"{split.source}, line 1: not UTF-8; save the file as UTF-8") from None
        delimiter = max(_DELIMITERS, key=first.count)
        names = next(csv.reader([first], delimiter=delimiter), [])
        if len(set(names)) != len(names):
            raise SourceError(f"{split.source}, line 1: a column name occurs twice; rename one of them")
        missing = [name for name in required if name not in names]
        if missing:  # perhaps no header at all: then these are somebody's values, and must not be shown as names
            raise SourceError(f"{split.source}, line 1: no header with the column `{missing[0]}`; add it")
        for chunk in _csv_chunks(file):
            yield _csv_chunk(chunk, names, delimiter, types)


def _csv_chunks(file: IO[bytes]) -> Iterator[bytes]:
    """Whole records: a chunk ends at a line end outside quotes, so with an even number of quotes before it."""
    pending = b""
    while block := file.read(CHUNK_BYTES):
        pending += block + (b"" if block.endswith(b"\n") else file.readline(MAX_LINE_BYTES))
        if pending.count(b'"') % 2 == 0 or len(pending) > 4 * CHUNK_BYTES:
            yield pending
            pending = b""
    if pending:
        yield pending


def _csv_chunk(chunk: bytes, names: list[str], delimiter: str, types: Mapping[str, SourceType]) -> Raw:
    csv.field_size_limit(MAX_LINE_BYTES)
    text = chunk.decode("utf-8", "surrogateescape")
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter)
    records: list[list[str]] = []
    starts = [0]  # the line each record begins on: a quoted field may go over several
    for record in reader:
        records.append(record)
        starts.append(reader.line_num)
    faults = {
        number: f"{len(record)} columns instead of {len(names)}"
        for number, record in enumerate(records)
        if len(record) != len(names)
    }
    if not _is_utf8(text):
        faults |= {n: "not valid UTF-8" for n, record in enumerate(records) if not _is_utf8("".join(record))}
    good = [(number, record) for number, record in enumerate(records) if number not in faults]
    bad = [(number, records[number]) for number in sorted(faults)]
    columns = list(zip(*(record for _, record in good), strict=True)) if good else [()] * len(names)
    by_name = dict(zip(names, columns, strict=True))
    frame = pl.DataFrame(
        {name: pl.Series(values=by_name.get(name, [None] * len(good)), dtype=pl.String) for name in types}
    ).with_columns(pl.all().replace("", None))
    rejects = rejects_of(
        [starts[number] for number, _ in bad],
        [faults[number] for number, _ in bad],
        [None] * len(bad),
        [delimiter.join(record).encode("utf-8", "surrogateescape") for _, record in bad],
    )
    lines = pl.Series(LINE, [starts[number] for number, _ in good], dtype=pl.Int64)
    unknown = frozenset(set(names) - set(types))
    return Raw(frame.with_columns(lines), rejects, len(records), starts[-1], unknown)


def _is_utf8(text: str) -> bool:
    """Whether text that was decoded with `surrogateescape` was valid."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _read_parquet(split: FileSplit, types: Mapping[str, SourceType]) -> Iterator[Raw]:
    file = pq.ParquetFile(split.path)
    names = file.schema_arrow.names
    unknown = frozenset(set(names) - set(types))
    groups = list(range(split.start, split.end))
    wanted = [name for name in types if name in names]
    if not wanted:
        raise SourceError(f"{split.source}: has no column that the policy names; correct one of them")
    for arrow in file.iter_batches(batch_size=_BATCH_ROWS, row_groups=groups, columns=wanted):
        frame = pl.from_arrow(arrow)
        assert isinstance(frame, pl.DataFrame)  # noqa: S101 - a record batch gives a frame
        columns = [
            _parquet_column(split, frame[name], kind)
            if name in wanted
            else pl.Series(name, [None] * frame.height, dtype=pl.String)
            for name, kind in types.items()
        ]
        rows = pl.DataFrame(columns).with_row_index(LINE).with_columns(pl.col(LINE).cast(pl.Int64))
        yield Raw(rows, empty_rejects(), frame.height, frame.height, unknown)


def _parquet_column(split: FileSplit, values: pl.Series, kind: SourceType) -> pl.Series:
    found = values.dtype
    if found in (pl.String, pl.Null, pl.Categorical):
        return values.cast(pl.String)
    if kind is SourceType.STRING and found.is_integer():
        return values.cast(pl.String)
    if kind is SourceType.TIMESTAMP and isinstance(found, pl.Datetime):
        utc = values.dt.convert_time_zone("UTC") if found.time_zone else values.dt.replace_time_zone("UTC")
        return utc.dt.cast_time_unit("us")
    if kind is SourceType.INTEGER and found in (pl.UInt64, pl.Int128, pl.UInt128):
        return values.cast(pl.String)  # some may not fit: they are parsed, and rejected, one by one
    if (kind is SourceType.INTEGER and found.is_integer()) or (kind is SourceType.NUMBER and found.is_numeric()):
        return values.cast(TYPES[kind])
    if found == TYPES[kind]:
        return values
    raise SourceError(
        f"{split.source}: column {values.name} is {found} and the policy says {kind}; correct one of them"
    )


def days_in_file(path: Path, field: str) -> set[date]:
    """The UTC days that occur in a timestamp field of a landing file; nothing else of it is kept.

    Raises:
        SourceError: the file is unreadable as a whole.
    """
    days: set[date] = set()
    for split in file_splits([path], parallelism=1):
        with _readable(split):
            for values in _timestamps(split, field):
                days.update(values.dt.date().drop_nulls().unique())
    return days


def _timestamps(split: FileSplit, field: str) -> Iterator[pl.Series]:
    types = {field: SourceType.TIMESTAMP}
    if split.format != "jsonl":
        yield from (batch.rows[field] for batch in read_split(split, types, ()))
        return
    for chunk in _chunks(split):
        try:
            values = pl.read_ndjson(io.BytesIO(chunk), schema={field: pl.String()})[field]
        except (pl.exceptions.PolarsError, pl.exceptions.PanicException):
            values = parse_each_line(chunk, types).rows[field]
        yield parse_timestamps(values)
