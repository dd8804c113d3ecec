"""Files as tables for the detector: JSON Lines and JSON, CSV of any delimiter and encoding, Parquet; plain or gzipped.

Contract: a file is streamed once, in batches; nothing is written. What cannot be read at all raises
:class:`UnreadableFileError` with the file's name; a line of JSON that cannot be parsed is left out.
"""

import csv
import gzip
import io
import json
import unicodedata
from collections.abc import Callable, Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import IO, Any, cast

import charset_normalizer
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from privacy_platform.detection.detector import Table
from privacy_platform.detection.sampling import Sampler, flattened
from privacy_platform.errors import PrivacyPlatformError

__all__ = ["UnreadableFileError", "files_in", "read_table"]

Progress = Callable[[str, int, int], None]
_BATCH = 20_000
_SUFFIXES = {
    ".csv": "csv",
    ".tsv": "csv",
    ".txt": "csv",
    ".jsonl": "json",
    ".ndjson": "json",
    ".json": "json",
    ".parquet": "parquet",
}
_DELIMITERS = ",;\t|:"
_HEAD = 256 * 1024
csv.field_size_limit(16 * 2**20)


class UnreadableFileError(PrivacyPlatformError):
    """A file is of no known format, or not what its name says."""


def _format(path: Path) -> str | None:
    suffixes = [suffix.lower() for suffix in path.suffixes]
    if suffixes and suffixes[-1] == ".gz":
        suffixes.pop()
    return _SUFFIXES.get(suffixes[-1]) if suffixes else None


def files_in(path: Path) -> list[Path]:
    """The file itself, or all files of a known format in a folder and those below it, by name."""
    if path.is_dir():
        return sorted(p for p in path.rglob("*") if p.is_file() and _format(p) and not p.name.startswith("."))
    return [path]


def read_table(path: Path, progress: Progress | None = None) -> Table:
    """Sample a file.

    Args:
        path: The file; its ending says the format.
        progress: Called with the file's name, bytes read and bytes in all.

    Raises:
        UnreadableFileError: the format is not known, or the file is not of it.
    """
    kind = _format(path)
    if kind is None:
        raise UnreadableFileError(
            f"{path.name}: of no known format; give it the ending .csv, .tsv, .jsonl, .json or .parquet"
        )
    sampler = Sampler(path.name.split(".")[0])
    size = max(1, path.stat().st_size)
    try:
        for done, columns, rows in {"csv": _csv, "json": _json, "parquet": _parquet}[kind](path):
            sampler.add(columns, rows)
            if progress:
                progress(path.name, min(done, size), size)
    except (UnicodeError, csv.Error, EOFError, gzip.BadGzipFile, pa.ArrowInvalid, json.JSONDecodeError) as error:
        raise UnreadableFileError(f"{path.name}: cannot be read as {kind} ({type(error).__name__})") from None
    if progress:
        progress(path.name, size, size)
    return sampler.table()


Batches = Iterator[tuple[int, Mapping[str, pl.Series], int]]


def _open(path: Path) -> tuple[IO[bytes], IO[bytes]]:
    """The content of a file, unpacked, and the file below it, whose position tells the progress."""
    raw = path.open("rb")
    if raw.read(2) == b"\x1f\x8b":
        raw.seek(0)
        return cast(IO[bytes], gzip.GzipFile(fileobj=raw)), raw
    raw.seek(0)
    return raw, raw


def _encoding(path: Path) -> str:
    """The encoding: by its mark, UTF-8 if it is valid, else the likeliest (charset-normalizer)."""
    content, raw = _open(path)
    with raw, content:
        head = content.read(_HEAD)
    for mark, name in ((b"\xff\xfe", "utf-16"), (b"\xfe\xff", "utf-16"), (b"\xef\xbb\xbf", "utf-8-sig")):
        if head.startswith(mark):
            return name
    try:
        head.decode("utf-8")
    except UnicodeDecodeError as error:
        if len(head) - error.start > 4:  # not only a character cut at the end
            return _likeliest(head[:65536])
    return "utf-8"


def _likeliest(head: bytes) -> str:
    """The likeliest encoding; among those of Latin letters the Western one, if that reads as letters."""
    best = charset_normalizer.from_bytes(head).best()
    western = {c for c in head.decode("cp1252", errors="replace") if not c.isascii()}
    latin = best is None or any(name.startswith("LATIN") for name in map(unicodedata.name, _letters(str(best))))
    if best is None or (latin and all(character.isalpha() for character in western)):
        return "cp1252"
    return best.encoding


def _letters(text: str) -> list[str]:
    return [character for character in text if character.isalpha() and not character.isascii()][:20]


def _text(path: Path) -> tuple[io.TextIOWrapper, IO[bytes]]:
    encoding = _encoding(path)
    content, raw = _open(path)
    return io.TextIOWrapper(content, encoding=encoding, errors="replace", newline=""), raw


def _delimiter(lines: list[str]) -> str:
    """The delimiter that cuts the first lines into the same number of fields, the most of them."""

    def fitness(delimiter: str) -> tuple[float, int]:
        widths = [len(row) for row in csv.reader(lines, delimiter=delimiter) if row]
        usual = max(set(widths), key=widths.count) if widths else 1
        return (widths.count(usual) / max(1, len(widths)) if usual > 1 else 0.0), usual

    return max(_DELIMITERS, key=lambda d: (round(fitness(d)[0], 1), fitness(d)[1], d != ":"))


def _header(row: list[str]) -> list[str]:
    """Names of the columns, made distinct."""
    names: list[str] = []
    for number, cell in enumerate(row, start=1):
        name = cell.strip() or f"column_{number}"
        names.append(name if name not in names else f"{name}_{number}")
    return names


def _csv(path: Path) -> Batches:
    text, raw = _text(path)
    with raw, text:
        head = list(islice(text, 30))
        if not head:
            return
        delimiter = _delimiter(head)
        text.seek(0)
        rows = csv.reader((line.replace("\0", "") for line in text), delimiter=delimiter)
        names = _header(next(rows, []))
        # A file without rows still has columns.
        yield 0, {name: pl.Series(name, [], dtype=pl.String) for name in names}, 0
        while batch := list(islice(rows, _BATCH)):
            columns: dict[str, pl.Series] = {}
            for i, name in enumerate(names):
                cells = pl.Series(name, [row[i] if i < len(row) else None for row in batch], dtype=pl.String)
                columns[name] = cells.set(cells == "", None)
            yield raw.tell(), columns, sum(map(bool, batch))


def _records(text: io.TextIOWrapper) -> Iterator[Mapping[str, Any]]:
    first = next((line for line in text if line.strip()), "")
    try:
        document = json.loads(first)
    except json.JSONDecodeError:
        document = json.loads(first + text.read()) if first.strip() in ("[", "{") else None
    if isinstance(document, list):
        yield from (record for record in document if isinstance(record, dict))
        return
    if isinstance(document, dict):
        yield document
    for line in text:
        try:
            record = json.loads(line)
        except json.JSONDecodeError:
            continue
        if isinstance(record, dict):
            yield record


def _json(path: Path) -> Batches:
    text, raw = _text(path)
    with raw, text:
        records = _records(text)
        while batch := list(islice(records, _BATCH)):
            columns, rows = flattened(batch)
            yield raw.tell(), columns, rows


def _parquet(path: Path) -> Batches:
    file = pq.ParquetFile(path)
    size, total, done = path.stat().st_size, max(1, file.metadata.num_rows), 0
    nested = [f.name for f in file.schema_arrow if pa.types.is_nested(f.type)]
    for batch in file.iter_batches(_BATCH):
        done += batch.num_rows
        if nested:
            columns, _ = flattened(batch.to_pylist())
        else:
            frame = cast(pl.DataFrame, pl.from_arrow(pa.Table.from_batches([batch])))
            columns = {name: _as_text(frame[name]) for name in frame.columns}
        yield size * done // total, columns, batch.num_rows


def _as_text(column: pl.Series) -> pl.Series:
    if column.dtype == pl.Binary:
        return pl.Series(column.name, [None] * len(column), dtype=pl.String)
    return column.cast(pl.String, strict=False)
