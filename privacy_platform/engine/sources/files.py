"""Reading landing files: JSON Lines, CSV and Parquet, plain or gzipped, in pieces of bounded size.

A line that cannot be read becomes a reject with its line number; a column that no policy names is reported, and stops
the run at the gate. How files are cut among tasks: `splits`.
"""

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
import polars.selectors as cs
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
from privacy_platform.engine.sources.csv_records import CsvError, read_csv
from privacy_platform.engine.sources.json_lines import Raw, parse_each_line, parse_lines
from privacy_platform.engine.sources.lines import MAX_LINE_BYTES, Piece, skip_line, whole_lines
from privacy_platform.errors import PrivacyPlatformError
from privacy_platform.policy.model import SourceType

Format = Literal["jsonl", "csv", "parquet"]
_FORMATS: Mapping[str, Format] = {".jsonl": "jsonl", ".ndjson": "jsonl", ".csv": "csv", ".parquet": "parquet"}
# A batch has so many rows and values at the most: what a frame takes for a value, even for a null, is memory too.
_BATCH_ROWS, _BATCH_CELLS = 2**18, 2**22
_TOO_LONG = f"longer than {MAX_LINE_BYTES} bytes; only its beginning is kept here"
_PARQUET_ROWS, _PARQUET_BYTES, _PARQUET_BUFFER = 2**16, 48 * 2**20, 2**20


class SourceError(PrivacyPlatformError):
    """A landing file is unreadable as a whole; the message names the file."""


@dataclass(frozen=True, slots=True)
class FileSplit:
    """A piece of a landing file: bytes [start, end) of JSON Lines, row groups [start, end) of Parquet, or all of it.

    `index` counts all splits of a run in landing order; `name` is the file's name as reported.
    """

    index: int
    path: str
    name: str
    format: Format
    start: int
    end: int
    compressed: bool = False

    @property
    def names(self) -> tuple[str, ...]:
        """The files it is a piece of."""
        return (self.name,)

    @property
    def source(self) -> pl.Expr:
        """The file's name."""
        return pl.lit(self.name)

    @property
    def position(self) -> pl.Expr:
        """Where a line is: the driver knows how many lie before this split and turns this into the file's line."""
        return pl.format("{}:{}", pl.lit(self.index), pl.col(LINE))

    @property
    def record(self) -> pl.Expr:
        """A record's place in the file; only where the split is the whole of it."""
        return pl.format("{}:{}", pl.lit(self.name), pl.col(LINE) + 1)

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


def whole_file(path: Path) -> FileSplit:
    """A landing file in one piece.

    Raises:
        SourceError: it is gone or of no known format.
    """
    known = file_format(path)
    if known is None:
        raise SourceError(f"{path.name}: not a format of landing files; use .jsonl, .csv or .parquet")
    with readable(path.name):
        return FileSplit(0, str(path), path.name, known[0], 0, path.stat().st_size, known[1])


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
    for raw in read_raw(split, types, required):
        yield batch_of(moved(raw, line), types, required)
        line += raw.lines


def read_raw(split: FileSplit, types: Mapping[str, SourceType], required: Sequence[str]) -> Iterator[Raw]:
    """What `read_split` makes its batches of; the lines of each count from 0."""
    readers: Mapping[Format, Callable[[FileSplit, Mapping[str, SourceType]], Iterator[Raw]]] = {
        "jsonl": _read_jsonl,
        "csv": partial(_read_csv, required=required),
        "parquet": _read_parquet,
    }
    with readable(split.name):
        yield from readers[split.format](split, types)


def batch_of(raw: Raw, types: Mapping[str, SourceType], required: Sequence[str]) -> Batch:
    """A chunk as a batch: texts converted to the declared types."""
    rows, mistyped = convert(raw.rows, types, required, plain=raw.plain)
    rejects = pl.concat([raw.rejects, mistyped]) if mistyped.height else raw.rejects
    return Batch(rows, rejects, raw.records, raw.unknown, raw.blank)


def moved(raw: Raw, line: int) -> Raw:
    """The chunk, its first line being the given one."""
    if not line:
        return raw
    there = pl.col(LINE) + line
    return raw._replace(rows=raw.rows.with_columns(there), rejects=raw.rejects.with_columns(there))


def batch_rows(columns: int) -> int:
    """Most rows of a batch of so many columns."""
    return max(1, min(_BATCH_ROWS, _BATCH_CELLS // max(1, columns)))


@contextmanager
def readable(name: str) -> Iterator[None]:
    """Turn what reading a damaged file raises into an error that names the file."""
    try:
        yield
    except CsvError as error:
        raise SourceError(f"{name}, {error}") from None
    except FileNotFoundError:
        raise SourceError(
            f"{name}: not found by the task that reads it; the landing folder has to be at the same path on all workers"
        ) from None
    except (EOFError, gzip.BadGzipFile, zlib.error, pa.ArrowException, OSError) as error:
        raise SourceError(f"{name}: cannot be read ({type(error).__name__}); land it again, whole") from None


def _read_jsonl(split: FileSplit, types: Mapping[str, SourceType]) -> Iterator[Raw]:
    return (parse_piece(piece, types) for piece in json_pieces(split, batch_rows(len(types))))


def parse_piece(piece: Piece, types: Mapping[str, SourceType]) -> Raw:
    """The records of a piece of JSON Lines; a line that is too long is one reject."""
    return refused_line(piece, types) if piece.too_long else parse_lines(piece.text, types, lines=piece.lines)


def refused_line(piece: Piece, types: Mapping[str, SourceType]) -> Raw:
    """The reject of a line that is too long, which holds its beginning."""
    none = pl.DataFrame(schema={**dict.fromkeys(types, pl.String()), LINE: pl.Int64()})
    return Raw(none, rejects_of([0], [_TOO_LONG], [None], [piece.text]), 1, 1)


def json_pieces(split: FileSplit, lines: int) -> Iterator[Piece]:
    """Whole lines of the split: those that begin in [start, end)."""
    with _open(split) as file:
        if split.compressed:
            yield from whole_lines(file, lines)
            return
        if split.start:
            file.seek(split.start - 1)
            skip_line(file, split.end - split.start + 1)
        yield from whole_lines(file, lines, end=split.end)


def _open(split: FileSplit) -> IO[bytes]:
    return gzip.open(split.path, "rb") if split.compressed else Path(split.path).open("rb")  # type: ignore[return-value]


def _read_csv(split: FileSplit, types: Mapping[str, SourceType], required: Sequence[str] = ()) -> Iterator[Raw]:
    with _open(split) as file:
        yield from read_csv(file, types, required, batch_rows)


def _read_parquet(split: FileSplit, types: Mapping[str, SourceType]) -> Iterator[Raw]:
    # With a buffer, columns are read page by page, not row group by row group, which may be the whole file.
    with pq.ParquetFile(split.path, buffer_size=_PARQUET_BUFFER) as file:
        names = file.schema_arrow.names
        wanted = [name for name in types if name in names]
        if not wanted:
            raise SourceError(f"{split.name}: has no column that the policy names; correct one of them")
        groups = list(range(split.start, min(split.end, file.metadata.num_row_groups)))
        rows = min(_parquet_rows(file.metadata, groups), batch_rows(len(types)))
        unknown = frozenset(set(names) - set(types))
        for arrow in file.iter_batches(batch_size=rows, row_groups=groups, columns=wanted):
            frame = pl.from_arrow(arrow)
            assert isinstance(frame, pl.DataFrame)  # noqa: S101 - a record batch gives a frame
            columns = [
                _parquet_column(split, frame[name], kind)
                if name in wanted
                else pl.Series(name, [None] * frame.height, dtype=pl.String)
                for name, kind in types.items()
            ]
            typed = pl.DataFrame(columns).with_row_index(LINE).with_columns(pl.col(LINE).cast(pl.Int64))
            yield _fitting(Raw(typed, empty_rejects(), frame.height, frame.height, unknown))


def _parquet_rows(metadata: pq.FileMetaData, groups: Sequence[int]) -> int:
    """How many rows to read at a time, so that they are not too many bytes."""
    sizes = [(metadata.row_group(group).total_byte_size, metadata.row_group(group).num_rows) for group in groups]
    widest = max((size // max(1, rows) for size, rows in sizes), default=0)
    return max(1, min(_PARQUET_ROWS, _PARQUET_BYTES // max(1, widest)))


def _fitting(raw: Raw) -> Raw:
    """Rows whose texts are together longer than a line may be are rejects, as they are in other formats."""
    if raw.rows.estimated_size() <= MAX_LINE_BYTES:
        return raw
    size = pl.sum_horizontal(cs.string().str.len_bytes())
    long = raw.rows.select(size > MAX_LINE_BYTES).to_series() if raw.rows.select(cs.string()).width else None
    if long is None or not long.any():
        return raw
    bad = raw.rows.filter(long)
    head = pl.struct(cs.string().str.slice(0, 256)).struct.json_encode().cast(pl.Binary)
    rejects = rejects_of(
        bad[LINE].to_list(), [_TOO_LONG] * bad.height, [None] * bad.height, bad.select(head).to_series().to_list()
    )
    return raw._replace(rows=raw.rows.filter(~long), rejects=rejects)


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
    raise SourceError(f"{split.name}: column {values.name} is {found} and the policy says {kind}; correct one of them")


def days_in_file(path: Path, field: str) -> set[date]:
    """The UTC days that occur in a timestamp field of a landing file; nothing else of it is kept.

    Raises:
        SourceError: the file is unreadable as a whole.
    """
    days: set[date] = set()
    with readable(path.name):
        for values in _timestamps(whole_file(path), field):
            days.update(values.dt.date().drop_nulls().unique())
    return days


def _timestamps(split: FileSplit, field: str) -> Iterator[pl.Series]:
    types = {field: SourceType.TIMESTAMP}
    if split.format != "jsonl":
        yield from (batch.rows[field] for batch in read_split(split, types, ()))
        return
    for piece in json_pieces(split, batch_rows(1)):
        if piece.too_long:
            continue
        try:
            values = pl.read_ndjson(io.BytesIO(piece.text), schema={field: pl.String()})[field]
        except (pl.exceptions.PolarsError, pl.exceptions.PanicException):
            values = parse_each_line(piece.text, types).rows[field]
        yield parse_timestamps(values)
