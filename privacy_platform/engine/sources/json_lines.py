"""JSON Lines in bulk: one vectorised parse of a chunk, and line by line where anything in it is out of order."""

import io
import re
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import polars as pl
import polars.selectors as cs

from privacy_platform.engine.sources.batch import (
    LINE,
    TYPES,
    empty_rejects,
    parse_json,
    record_fault,
    rejects_of,
)
from privacy_platform.engine.sources.lines import WINDOW_BYTES, line_ends
from privacy_platform.policy.model import SourceType, printable_name

_BLANKS = (b" ", b"\t", b"\r")
_AS_TEXT = (SourceType.STRING, SourceType.TIMESTAMP, SourceType.DATE)


class Raw(NamedTuple):
    """A chunk before its texts are converted: `records` met, on so many lines of the file; the rest as in `Batch`.

    `plain` says that no text of it has a NUL character.
    """

    rows: pl.DataFrame
    rejects: pl.DataFrame
    records: int
    lines: int
    unknown: frozenset[str] = frozenset()
    blank: int = 0
    plain: bool = False


def parse_lines(
    chunk: bytes, types: Mapping[str, SourceType], *, lines: int | None = None, refuse_unknown: bool = False
) -> Raw:
    """The lines of a chunk, texts not yet converted; what cannot be read is a reject with its line.

    Args:
        chunk: whole lines.
        types: the declared fields and their types, in order.
        lines: how many they are, where that is known.
        refuse_unknown: a record with a field that is not declared is a reject, too, and not only reported.
    """
    if lines is None:
        lines = line_ends(chunk) + (not chunk.endswith(b"\n"))
    together = _parse_together(chunk, lines, types)
    return together if together is not None else parse_each_line(chunk, types, refuse_unknown=refuse_unknown)


def _parse_together(chunk: bytes, lines: int, types: Mapping[str, SourceType]) -> Raw | None:
    """The chunk by one vectorised parse into the declared types, or None when anything in it needs a look at each line.

    The parse refuses numbers and booleans of another type, but drops fields it was not told of, and writes whatever
    stands for a text as text. So what the chunk holds is counted too, see `_holds_only`.
    """
    schema = {name: pl.String() if kind in _AS_TEXT else TYPES[kind] for name, kind in types.items()}
    try:
        frame = pl.read_ndjson(io.BytesIO(chunk), schema=schema)
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException):
        return None
    if frame.height != lines or not _holds_only(chunk, frame):
        return None
    index = pl.int_range(lines, dtype=pl.Int64, eager=True).alias(LINE)
    # A NUL can only be named in JSON, and half of a character that is named becomes one. Most chunks name none.
    plain = b"\0" not in chunk and (b"\\" not in chunk or b"\\u" not in chunk)
    return Raw(frame.insert_column(0, index), empty_rejects(), lines, lines, plain=plain)


def _holds_only(chunk: bytes, frame: pl.DataFrame) -> bool:
    """Whether a chunk of JSON objects holds nothing but the values of `frame`, and texts where it has texts.

    Every key ends in `":`. Of the chunk's `":`, let those followed by `null` be N, those followed by `"` be T, and all
    be A. The chunk passes if A - N is the number of values that are not null in the frame, and T that of its texts.

    That is proof, whatever stands inside of texts. Say u keys are unknown, n of them null, and k times `":` stands in a
    text, j of those before an n. Then A - N = values + (u - n) + (k - j). Neither bracket can be negative, so both are
    zero: an unknown key holds nothing but null, and no `":"` stands in a text, so T counts the texts.
    """
    keys = _keys(chunk)
    if keys.apart and re.search(rb'"[ \t\r]+:', chunk):
        return False  # a key that does not end in `":`
    shown = frame.select(cs.string())
    values = frame.height * frame.width - sum(frame.null_count().row(0))
    text_values = shown.height * shown.width - (sum(shown.null_count().row(0)) if shown.width else 0)
    return keys.ends - keys.nulls == values and keys.texts == text_values


class _Keys(NamedTuple):
    """How often a chunk has `":`, and that followed by `n` and by `"`; whether a quote stands before a blank."""

    ends: int
    nulls: int
    texts: int
    apart: bool


def _keys(chunk: bytes) -> _Keys:
    characters = np.frombuffer(chunk, dtype=np.uint8)
    blanks = [ord(blank) for blank in _BLANKS if blank in chunk]
    ends = nulls = texts = 0
    apart = False
    for at in range(0, len(chunk), WINDOW_BYTES):
        size = min(WINDOW_BYTES, len(chunk) - at)
        window = characters[at : at + size + 3]
        if len(window) < size + 3:
            window = np.concatenate([window, np.zeros(size + 3 - len(window), dtype=np.uint8)])
        quote = window[:-3] == ord('"')
        apart = apart or any((quote & (window[1:-2] == blank)).any() for blank in blanks)
        end = quote & (window[1:-2] == ord(":"))
        ends += _count(end)
        nulls += _count(end & (window[2:-1] == ord("n")))
        texts += _count(end & (window[2:-1] == ord('"')))
        end &= window[2:-1] == ord(" ")
        if end.any():
            nulls += _count(end & (window[3:] == ord("n")))
            texts += _count(end & (window[3:] == ord('"')))
    return _Keys(ends, nulls, texts, apart)


def _count(where: npt.NDArray[np.bool_]) -> int:
    return int(np.count_nonzero(where))


def parse_each_line(chunk: bytes, types: Mapping[str, SourceType], *, refuse_unknown: bool = False) -> Raw:
    """The chunk line by line: what is wrong with each bad line, and the good ones parsed together."""
    good: list[dict[str, object]] = []
    good_lines: list[int] = []
    bad: list[tuple[int, str, str | None, bytes]] = []
    unknown: set[str] = set()
    number, blank = -1, 0
    for number, line in enumerate(chunk.removesuffix(b"\n").split(b"\n")):
        if not line.strip():
            blank += 1
            continue
        try:
            record = parse_json(line)
            fault = record_fault(record, types)
        except (ValueError, RecursionError):
            record, fault = None, (None, "not valid JSON")
        if fault is not None or not isinstance(record, dict):
            name, error = fault or (None, "not a JSON object")
            bad.append((number, error, name, line))
            continue
        # A field that holds nothing but null is no data; it is found the moment it holds anything.
        undeclared = {key for key in record.keys() - types.keys() if record[key] is not None}
        if undeclared and refuse_unknown:
            bad.append((number, f"unknown field {printable_name(min(undeclared))}", None, line))
            continue
        unknown |= undeclared
        good.append(record)
        good_lines.append(number)
    frame = pl.DataFrame(
        {name: _json_column([record.get(name) for record in good], kind) for name, kind in types.items()}
    ).with_columns(pl.Series(LINE, good_lines, dtype=pl.Int64))
    lines, errors, fields, payloads = zip(*bad, strict=True) if bad else ((), (), (), ())
    rejects = rejects_of(lines, errors, fields, payloads)
    return Raw(frame, rejects, number + 1, number + 1, frozenset(unknown), blank)


def _json_column(values: list[object], kind: SourceType) -> pl.Series:
    if kind is SourceType.STRING:
        texts = [value if value is None or isinstance(value, str) else str(value) for value in values]
        return pl.Series(values=texts, dtype=pl.String)
    if kind in (SourceType.TIMESTAMP, SourceType.DATE):
        return pl.Series(values=values, dtype=pl.String)
    if kind is SourceType.NUMBER:
        values = [float(value) if isinstance(value, int) else value for value in values]
    return pl.Series(values=values, dtype=TYPES[kind])
