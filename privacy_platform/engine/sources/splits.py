"""Landing files cut into splits: large files into pieces, small ones into groups that one task reads.

JSON Lines files are cut by byte range at line ends and Parquet by row group; CSV (a quoted field may hold a line end)
and gzip are one split a file. A task costs some tenths of a second whatever it reads, so that small files are read
one after another by the same task, as if they were one.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from privacy_platform.engine.sources.batch import LINE, Batch
from privacy_platform.engine.sources.files import (
    FileSplit,
    SourceError,
    batch_of,
    batch_rows,
    file_format,
    json_pieces,
    moved,
    parse_piece,
    read_raw,
    readable,
    whole_file,
)
from privacy_platform.engine.sources.json_lines import Raw, parse_lines
from privacy_platform.engine.sources.lines import CHUNK_BYTES
from privacy_platform.policy.model import SourceType

_SPLIT_BYTES = (16 * 2**20, 256 * 2**20)
# What opening a file and parsing it by itself costs, in bytes that could be read meanwhile.
_FILE_BYTES = 128 * 2**10
# A record of a group is found by the number of its file and its line in that, in one number.
_FILE_BITS, _RECORD_BITS = 12, 28
# Gzip makes a file at most so many times smaller (RFC 1951): what is packed must not hold more lines than can be told.
_GZIP_BYTES = 2**_RECORD_BITS // 1032
_FILE: pl.Expr = pl.col(LINE) // 2**_RECORD_BITS
_LINE_IN_FILE: pl.Expr = pl.col(LINE) % 2**_RECORD_BITS


@dataclass(frozen=True, slots=True)
class FileGroup:
    """Small files, whole, in landing order; the `landing_line` of a record tells its file as well."""

    index: int
    folder: str
    names: tuple[str, ...]

    @property
    def source(self) -> pl.Expr:
        """The file that a record is in."""
        return _of_each(self.names)

    @property
    def position(self) -> pl.Expr:
        """The line of the file that a record begins on."""
        formats = (file_format(Path(name)) for name in self.names)
        first = _of_each([2 if known and known[0] == "csv" else 1 for known in formats])  # after a header, or not
        return _LINE_IN_FILE.add(first).cast(pl.String)

    @property
    def record(self) -> pl.Expr:
        """A record's file and its place in that."""
        return pl.format("{}:{}", self.source, _LINE_IN_FILE + 1)

    def files(self) -> Iterator[FileSplit]:
        """The files."""
        return (whole_file(Path(self.folder, name)) for name in self.names)

    def batches(self, types: Mapping[str, SourceType], required: Sequence[str]) -> Iterator[Batch]:
        """The records of all files, those of many files in a batch; see `read_split`.

        Raises:
            SourceError: one of the files is unreadable as a whole.
        """
        most = batch_rows(len(types))
        return (batch_of(raw, types, required) for raw in _together(_raws(self, types, required, most), most))


def _of_each(values: Sequence[str | int]) -> pl.Expr:
    """What a record's file has among values for each file of its group."""
    return pl.lit(pl.Series(values=values)).gather(_FILE)


def file_splits(files: Sequence[Path], *, parallelism: int, whole: bool = False) -> list[FileSplit | FileGroup]:
    """Cut files into splits, enough for `parallelism` tasks to end at about the same time.

    Args:
        files: the files, in landing order.
        parallelism: how many tasks run at once.
        whole: no file is cut, so that a record's place in its split is its place in the file.

    Raises:
        SourceError: a file is gone or not of the format its name says.
    """
    pieces = [whole_file(path) for path in files]
    low, high = _SPLIT_BYTES
    weight = sum(piece.end + _FILE_BYTES for piece in pieces)
    size = min(high, max(low, weight // (2 * parallelism) + 1))
    splits: list[FileSplit | FileGroup] = []
    for group in _grouped(pieces, size):
        if len(group) > 1:
            names = tuple(piece.name for piece in group)
            splits.append(FileGroup(len(splits), str(Path(group[0].path).parent), names))
            continue
        for start, end in _ranges(group[0], max(size, group[0].end) if whole else size):
            splits.append(replace(group[0], index=len(splits), start=start, end=end))
    return splits


def _grouped(pieces: Sequence[FileSplit], size: int) -> Iterator[list[FileSplit]]:
    """Small files that lie side by side in lists of about the size of a split; all others by themselves."""
    group: list[FileSplit] = []
    weight = 0
    for piece in filter(lambda piece: piece.end, pieces):
        own = piece.end + _FILE_BYTES
        small = own <= size // 4 and piece.end <= (_GZIP_BYTES if piece.compressed else 2**_RECORD_BITS)
        fits = weight + own <= size and len(group) < 2**_FILE_BITS
        if group and not (small and fits and Path(piece.path).parent == Path(group[0].path).parent):
            yield group
            group, weight = [], 0
        if small:
            group.append(piece)
            weight += own
        else:
            yield [piece]
    if group:
        yield group


def _ranges(piece: FileSplit, size: int) -> list[tuple[int, int]]:
    """Where to cut a file."""
    if piece.format == "parquet":
        try:
            groups = pq.read_metadata(piece.path).num_row_groups
        except (pa.ArrowException, OSError):
            raise SourceError(f"{piece.name}: not a readable Parquet file; write it again") from None
        step = max(1, groups * size // max(1, piece.end))
        return [(first, min(groups, first + step)) for first in range(0, groups, step)]
    if piece.format == "csv" or piece.compressed:
        return [(0, piece.end)]
    return [(start, min(piece.end, start + size)) for start in range(0, piece.end, size)]


def _raws(group: FileGroup, types: Mapping[str, SourceType], required: Sequence[str], most: int) -> Iterator[Raw]:
    """The chunks of the files, with lines that tell the file; JSON Lines of many files are parsed as one text."""
    texts = _Texts(most)
    for number, split in enumerate(group.files()):
        place = number << _RECORD_BITS
        with readable(split.name):
            if split.format == "jsonl":
                for piece in json_pieces(split, most):
                    if piece.too_long or texts.are_enough:
                        yield from texts.parsed(types)
                    if piece.too_long:
                        yield moved(parse_piece(piece, types), place)
                    else:
                        texts.add(place, piece.text)
                    place += piece.text.count(b"\n") + (not piece.text.endswith(b"\n"))
            else:
                yield from texts.parsed(types)
                for raw in read_raw(split, types, required):
                    yield moved(raw, place)
                    place += raw.lines
        if place >> _RECORD_BITS > number:
            raise SourceError(f"{split.name}: more than {2**_RECORD_BITS - 1} records in a file so small; leave it out")
    yield from texts.parsed(types)


class _Texts:
    """JSON Lines of several files that wait to be parsed together."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._texts: list[bytes] = []
        self._places: list[int] = []
        self._starts: list[int] = []
        self._lines = self._size = 0

    @property
    def are_enough(self) -> bool:
        """Whether they are as much as a chunk may hold."""
        return self._size >= CHUNK_BYTES or self._lines >= self._most

    def add(self, place: int, text: bytes) -> None:
        """Whole lines, the first of which has the given place."""
        text = text if text.endswith(b"\n") else text + b"\n"
        self._texts.append(text)
        self._places.append(place)
        self._starts.append(self._lines)
        self._lines += text.count(b"\n")
        self._size += len(text)

    def parsed(self, types: Mapping[str, SourceType]) -> Iterator[Raw]:
        """All of them as one chunk; none wait any more."""
        if not self._texts:
            return
        raw = parse_lines(b"".join(self._texts), types)
        starts, places = np.array(self._starts), np.array(self._places)
        self.__init__(self._most)  # type: ignore[misc]

        def placed(frame: pl.DataFrame) -> pl.DataFrame:
            lines = frame[LINE].to_numpy()
            text = np.searchsorted(starts, lines, side="right") - 1
            return frame.with_columns(pl.Series(LINE, lines - starts[text] + places[text], dtype=pl.Int64))

        yield raw._replace(rows=placed(raw.rows), rejects=placed(raw.rejects))


def _together(raws: Iterator[Raw], most: int) -> Iterator[Raw]:
    """Chunks put together to larger ones, while they have the same types and are not more than a batch may hold."""
    waiting: list[Raw] = []
    rows = size = 0
    for raw in raws:
        own = int(raw.rows.estimated_size() + raw.rejects.estimated_size())
        full = rows + raw.records > most or size + own > CHUNK_BYTES
        if waiting and (full or raw.rows.schema != waiting[0].rows.schema):
            yield _sum(waiting)
            waiting, rows, size = [], 0, 0
        waiting.append(raw)
        rows, size = rows + raw.records, size + own
    if waiting:
        yield _sum(waiting)


def _sum(raws: Sequence[Raw]) -> Raw:
    return Raw(
        pl.concat((raw.rows for raw in raws), rechunk=True),
        pl.concat((raw.rejects for raw in raws), rechunk=True),
        sum(raw.records for raw in raws),
        sum(raw.lines for raw in raws),
        frozenset(name for raw in raws for name in raw.unknown),
        sum(raw.blank for raw in raws),
    )
