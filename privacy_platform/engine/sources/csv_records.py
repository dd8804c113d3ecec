"""CSV in bulk: records of a file whose quoted fields may hold line ends, a bounded number of them at a time.

A record that does not have the header's columns, or is not UTF-8, is a reject with the line it begins on. A quote that
is never closed would swallow all the records after it: that is an error of the file, and no reject.
"""

import csv
import io
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import IO

import polars as pl

from privacy_platform.engine.sources import lines as bounds
from privacy_platform.engine.sources.batch import LINE, rejects_of
from privacy_platform.engine.sources.json_lines import Raw
from privacy_platform.engine.sources.lines import whole_lines
from privacy_platform.errors import PrivacyPlatformError
from privacy_platform.policy.model import SourceType

_DELIMITERS = ",;\t|"


class CsvError(PrivacyPlatformError):
    """The file cannot be read from some line on; the message begins with the line."""


def read_csv(
    file: IO[bytes], types: Mapping[str, SourceType], required: Sequence[str], batch_rows: Callable[[int], int]
) -> Iterator[Raw]:
    """The records of a CSV file with a header, texts not yet converted; lines count from the one after the header.

    Args:
        file: the file, at its beginning.
        types: the declared fields and their types, in order.
        required: columns without which the first line is no header.
        batch_rows: most records at a time, by the number of columns.

    Raises:
        CsvError: the header is useless, or a record does not end.
    """
    names, delimiter = _header(file, required)
    rows = batch_rows(max(len(names), len(types)))
    lines = _Lines(file, rows)
    csv.field_size_limit(bounds.MAX_LINE_BYTES)
    reader = csv.reader(iter(lines), delimiter=delimiter)
    records: list[list[str]] = []
    starts = [0]  # the line each record begins on, and the next one: a quoted field may go over several
    piece = 0
    try:
        for record in reader:
            if lines.ended:
                raise CsvError(f"line {starts[-1] + 2}: a quote opened in this record is never closed; close it")
            if records and (lines.pieces > piece or len(records) == rows):
                yield _chunk(records, starts, names, delimiter, types, lines.damaged)
                records, starts = [], starts[-1:]
            records.append(record)
            starts.append(reader.line_num)
            piece, lines.open_bytes = lines.pieces, 0
    except csv.Error:
        most = f"{bounds.MAX_LINE_BYTES} bytes"
        raise CsvError(f"line {starts[-1] + 2}: longer than {most}; close its quote, or take it out") from None
    if records:
        yield _chunk(records, starts, names, delimiter, types, lines.damaged)


def _header(file: IO[bytes], required: Sequence[str]) -> tuple[list[str], str]:
    """The column names and the delimiter."""
    header = file.readline(bounds.MAX_LINE_BYTES)
    try:
        first = header.decode("utf-8-sig").rstrip("\r\n")
    except UnicodeDecodeError:
        raise CsvError("line 1: not UTF-8; save the file as UTF-8") from None
    delimiter = max(_DELIMITERS, key=first.count)
    names = next(csv.reader([first], delimiter=delimiter), [])
    if len(set(names)) != len(names):
        raise CsvError("line 1: a column name occurs twice; rename one of them")
    missing = [name for name in required if name not in names]
    if missing:  # perhaps no header at all: then these are somebody's values, and must not be shown as names
        raise CsvError(f"line 1: no header with the column `{missing[0]}`; add it")
    if len(header) >= bounds.MAX_LINE_BYTES:
        raise CsvError(f"line 1: a header of more than {bounds.MAX_LINE_BYTES} bytes; write the file again")
    return names, delimiter


class _Lines:
    """The lines of a file for `csv.reader`, and what that does not tell.

    Attributes:
        pieces: how many pieces of the file the lines so far are from.
        open_bytes: bytes of those since the record before was whole.
        damaged: whether one of them was not UTF-8.
        ended: whether a line was asked for behind the last.
    """

    def __init__(self, file: IO[bytes], most: int) -> None:
        self._file = file
        self._most = most
        self.pieces = self.open_bytes = 0
        self.damaged = self.ended = False

    def __iter__(self) -> Iterator[str]:
        for piece in whole_lines(self._file, self._most):
            self.pieces += 1
            self.open_bytes += len(piece.text)
            if piece.too_long or self.open_bytes > bounds.CHUNK_BYTES + 2 * bounds.MAX_LINE_BYTES:
                raise csv.Error
            try:
                text = piece.text.decode()
            except UnicodeDecodeError:
                text = piece.text.decode("utf-8", "surrogateescape")
                self.damaged = True
            yield from io.StringIO(text, newline="")
        self.ended = True


def _chunk(
    records: list[list[str]],
    starts: list[int],
    names: list[str],
    delimiter: str,
    types: Mapping[str, SourceType],
    damaged: bool,
) -> Raw:
    first = starts[0]
    faults = {
        number: f"{len(record)} columns instead of {len(names)}"
        for number, record in enumerate(records)
        if len(record) != len(names)
    }
    if damaged:
        faults |= {n: "not valid UTF-8" for n, record in enumerate(records) if not _is_utf8("".join(record))}
    good = [(number, record) for number, record in enumerate(records) if number not in faults]
    bad = [(number, records[number]) for number in sorted(faults)]
    columns = list(zip(*(record for _, record in good), strict=True)) if good else [()] * len(names)
    by_name = dict(zip(names, columns, strict=True))
    frame = pl.DataFrame(
        {name: pl.Series(values=by_name.get(name, [None] * len(good)), dtype=pl.String) for name in types}
    ).with_columns(pl.all().replace("", None))
    rejects = rejects_of(
        [starts[number] - first for number, _ in bad],
        [faults[number] for number, _ in bad],
        [None] * len(bad),
        [delimiter.join(record).encode("utf-8", "surrogateescape") for _, record in bad],
    )
    lines = pl.Series(LINE, [starts[number] - first for number, _ in good], dtype=pl.Int64)
    unknown = frozenset(set(names) - set(types))
    return Raw(frame.with_columns(lines), rejects, len(records), starts[-1] - first, unknown)


def _is_utf8(text: str) -> bool:
    """Whether text that was decoded with `surrogateescape` was valid."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
