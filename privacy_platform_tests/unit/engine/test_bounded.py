"""Input of any size and shape is read in bounded pieces, each record once; what is too long is told, and only once."""

import csv
import gzip
import io
import json
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from privacy_platform.engine.sources import files
from privacy_platform.engine.sources import lines as whole_lines
from privacy_platform.engine.sources import splits as cutting
from privacy_platform.engine.sources.batch import LINE, Batch
from privacy_platform.engine.sources.files import FileSplit, SourceError, read_split, whole_file
from privacy_platform.engine.sources.splits import FileGroup, file_splits
from privacy_platform.policy.model import SourceType

TYPES = {"id": SourceType.STRING, "count": SourceType.INTEGER}
QUIET = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
CHUNK, LONGEST, KEPT = 60, 40, 8


@pytest.fixture(autouse=True)
def _bounds(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Bounds so low that a few lines pass them."""
    kept = csv.field_size_limit()  # the process's own, which reading CSV sets
    monkeypatch.setattr(whole_lines, "CHUNK_BYTES", CHUNK)
    monkeypatch.setattr(whole_lines, "MAX_LINE_BYTES", LONGEST)
    monkeypatch.setattr(whole_lines, "KEPT_BYTES", KEPT)
    monkeypatch.setattr(whole_lines, "_SKIP_BYTES", 16)
    yield
    csv.field_size_limit(kept)


def records(batches: Iterator[Batch]) -> tuple[list[tuple[int, object]], list[tuple[int, str]]]:
    """(line, id) of the rows and (line, reason) of the rejects."""
    rows, rejects = [], []
    for batch in batches:
        rows += list(batch.rows.select(LINE, "id").iter_rows())
        rejects += list(batch.rejects.select(LINE, "error").iter_rows())
        assert batch.lines == batch.rows.height + batch.rejects.height + batch.blank
    return rows, rejects


def line_of(size: int) -> bytes:
    """A record whose line, with its end, has so many bytes."""
    return b'{"id":"' + b"x" * (size - 10) + b'"}\n'


# --- lines --------------------------------------------------------------------------------------------------------

LENGTHS = st.lists(st.sampled_from([1, 2, 5, 20, LONGEST - 1, LONGEST, LONGEST + 1, CHUNK, 150, 400]), max_size=12)


@QUIET
@given(LENGTHS, st.integers(1, 90), st.integers(1, 4), st.booleans())
def test_every_line_is_in_one_piece_and_of_long_ones_the_beginning(
    tmp_path: Path, lengths: list[int], size: int, most: int, closed: bool
) -> None:
    lines = [(b"%d" % (n % 10)) * (length - 1) + b"\n" for n, length in enumerate(lengths)]
    content = b"".join(lines)
    content = content if closed else content[:-1]
    expected = [
        (line[:KEPT] if len(line) > LONGEST else line, len(line) > LONGEST)
        for line in content.splitlines(keepends=True)
    ]
    path = tmp_path / "a.jsonl"
    path.write_bytes(content)
    starts = range(0, len(content), size)
    cut = [FileSplit(0, str(path), "a.jsonl", "jsonl", start, min(len(content), start + size)) for start in starts]
    for split in cut and [cut, [whole_file(path)]]:
        pieces = [piece for each in split for piece in files.json_pieces(each, most)]
        found = [
            (line, piece.too_long)
            for piece in pieces
            for line in ([piece.text] if piece.too_long else piece.text.splitlines(keepends=True))
        ]
        assert found == expected
        for piece in pieces:
            assert piece.text
            assert len(piece.text) <= CHUNK + LONGEST
            assert piece.text.count(b"\n") <= most
            assert piece.lines == len(piece.text.splitlines())


@pytest.mark.parametrize("packed", [False, True])
def test_a_long_line_is_one_reject_and_those_after_it_keep_their_places(tmp_path: Path, packed: bool) -> None:
    inside = b'{"id":"a record that nobody sent"}\n'  # what lies in the middle of a line is no line
    content = line_of(20) + b'{"id":"' + b"y" * 500 + inside + line_of(LONGEST) + line_of(LONGEST + 1) + line_of(20)
    path = tmp_path / ("a.jsonl.gz" if packed else "a.jsonl")
    path.write_bytes(gzip.compress(content) if packed else content)
    rows, rejects = records(read_split(whole_file(path), TYPES, ()))
    reason = "longer than 16777216 bytes; only its beginning is kept here"
    assert [line for line, _ in rows] == [0, 2, 4]
    assert rejects == [(1, reason), (3, reason)]


def test_a_batch_has_a_bounded_number_of_values_however_short_its_lines(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(whole_lines, "CHUNK_BYTES", 10_000)
    monkeypatch.setattr(files, "_BATCH_CELLS", 20)
    path = tmp_path / "a.jsonl"
    path.write_bytes(b"{}\n" * 35 + b"?\n" * 35 + b"\n" * 35)
    batches = list(read_split(whole_file(path), TYPES, ()))
    assert max(batch.lines for batch in batches) <= 10
    assert (sum(b.rows.height for b in batches), sum(b.rejects.height for b in batches)) == (35, 35)
    (tmp_path / "a.csv").write_bytes(b"id,count\n" + b",\n" * 35)
    assert [batch.lines for batch in read_split(whole_file(tmp_path / "a.csv"), TYPES, ())] == [10, 10, 10, 5]
    pl.DataFrame({"id": [None] * 35}).cast(pl.String).write_parquet(tmp_path / "a.parquet")
    assert [batch.lines for batch in read_split(whole_file(tmp_path / "a.parquet"), TYPES, ())] == [10, 10, 10, 5]


# --- CSV ----------------------------------------------------------------------------------------------------------


def csv_records(tmp_path: Path, content: bytes) -> tuple[list[tuple[int, object]], list[tuple[int, str]]]:
    """Rows and rejects of a CSV file."""
    path = tmp_path / "a.csv"
    path.write_bytes(content)
    return records(read_split(whole_file(path), TYPES, ["id"]))


@pytest.mark.parametrize("before", [0, 7])
def test_a_quote_that_is_never_closed_is_an_error_and_swallows_nothing_in_silence(tmp_path: Path, before: int) -> None:
    content = b"id,count\n" + b"a,1\n" * before + b'"b,2\n' + b"c,3\n" * 3
    with pytest.raises(SourceError, match=rf"a\.csv, line {before + 2}: a quote opened .* is never closed"):
        csv_records(tmp_path, content)


@pytest.mark.parametrize(
    "record", [b"x" * 500, b'"' + b"x" * 30 + b"\n" + b"y" * 30 + b'",1', b'"' + b"z\n" * 200 + b'",1']
)
def test_a_csv_record_that_is_too_long_is_an_error_with_its_line(tmp_path: Path, record: bytes) -> None:
    with pytest.raises(SourceError, match=r"a\.csv, line 4: longer than 40 bytes; close its quote"):
        csv_records(tmp_path, b"id,count\na,1\nb,2\n" + record + b"\nc,3\n")


def test_records_may_go_over_the_ends_of_pieces(tmp_path: Path) -> None:
    texts = [f"{'é' * (n % 9)}\n{n}" if n % 2 else f"{n}" for n in range(60)]
    rows, rejects = csv_records(tmp_path, b"id,count\n" + b"".join(f'"{text}",1\n'.encode() for text in texts))
    starts = [sum(1 + t.count("\n") for t in texts[:n]) for n in range(60)]
    assert rows == list(zip(starts, texts, strict=True))
    assert rejects == []


# --- Parquet ------------------------------------------------------------------------------------------------------


def test_a_parquet_row_longer_than_a_line_may_be_is_a_reject(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "MAX_LINE_BYTES", 1000)
    pl.DataFrame({"id": ["a", "x" * 1001, "b" * 1000], "count": [1, 2, 3]}).write_parquet(tmp_path / "a.parquet")
    rows, rejects = records(read_split(whole_file(tmp_path / "a.parquet"), TYPES, ()))
    assert [line for line, _ in rows] == [0, 2]
    assert [line for line, _ in rejects] == [1]


def test_parquet_rows_are_read_by_their_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "_PARQUET_BYTES", 10_000)
    pl.DataFrame({"id": [os.urandom(500).hex() for _ in range(100)]}).write_parquet(tmp_path / "a.parquet")
    batches = list(read_split(whole_file(tmp_path / "a.parquet"), TYPES, ()))
    assert 9 <= max(batch.lines for batch in batches) <= 10
    assert sum(batch.lines for batch in batches) == 100


# --- many small files ---------------------------------------------------------------------------------------------

CONTENTS = st.lists(
    st.sampled_from(
        [
            ("jsonl", b'{"id":"a"}\n{"id":"b"}\n'),
            ("jsonl", b'{"id":"no end"}'),
            ("jsonl", b'\xef\xbb\xbf{"id":"mark"}\n\n?\n{"else":1}\n'),
            ("jsonl", b'{"id":"a"}\n{"id":"' + b"l" * 90 + b'"}\n{"id":"c"}\n'),
            ("jsonl", b""),
            ("jsonl.gz", gzip.compress(b'{"id":"packed"}\n[]\n')),
            ("csv", b'id,count\n"q\nr",1\nx\ny,2\n'),
            ("csv", b"count;id;new\n1;z;2\n"),
            ("csv", b"id,count\n"),
        ]
    ),
    max_size=9,
)


def landed(splits: Sequence[FileSplit | FileGroup]) -> tuple[list[object], set[tuple[str, str, str]], set[str], int]:
    """Ids in landing order; source, line and reason of the rejects; unknown columns; records."""
    ids: list[object] = []
    rejects: set[tuple[str, str, str]] = set()
    unknown: set[str] = set()
    met = 0
    for split in splits:
        last = -1
        for batch in split.batches(TYPES, ["id"]):
            order = sorted([*batch.rows[LINE], *batch.rejects[LINE]])
            assert not order or order[0] > last
            last = max([last, *order])
            ids += batch.rows["id"].to_list()
            found = batch.rejects.select(split.source.alias("s"), split.position.alias("p"), "error")
            for source, position, error in found.iter_rows():
                place = position
                if isinstance(split, FileSplit):
                    place = str(int(position.partition(":")[2]) + 1 + (split.format == "csv"))
                rejects.add((source, place, error))
            unknown |= batch.unknown_fields
            met += batch.lines
    return ids, rejects, unknown, met


@QUIET
@given(CONTENTS, st.integers(1, 6))
def test_a_group_of_files_gives_what_they_give_one_by_one(
    tmp_path: Path, contents: list[tuple[str, bytes]], most: int
) -> None:
    paths = []
    for number, (suffix, content) in enumerate(contents):
        paths.append(tmp_path / f"{number}.{suffix}")
        paths[-1].write_bytes(content)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(files, "_BATCH_ROWS", most)
        patch.setattr(cutting, "CHUNK_BYTES", 80)
        group = FileGroup(3, str(tmp_path), tuple(path.name for path in paths))
        assert landed([group]) == landed([whole_file(path) for path in paths])


def test_small_files_are_grouped_in_landing_order_and_large_ones_are_cut(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cutting, "_FILE_BYTES", 10)
    monkeypatch.setattr(cutting, "_SPLIT_BYTES", (200, 200))
    sizes = [20, 20, 0, 500, 20, 20, 20, 20, 20, 20, 20]
    paths = [tmp_path / f"{number:02d}.jsonl" for number in range(len(sizes))]
    for path, size in zip(paths, sizes, strict=True):
        path.write_bytes(line_of(20) * (size // 20))
    splits = file_splits(paths, parallelism=1)
    assert [split.index for split in splits] == list(range(6))
    assert [split.names for split in splits] == [
        ("00.jsonl", "01.jsonl"),
        *[("03.jsonl",)] * 3,
        tuple(f"{n:02d}.jsonl" for n in range(4, 10)),
        ("10.jsonl",),
    ]
    assert isinstance(splits[-1], FileSplit)
    assert len(file_splits(paths, parallelism=1, whole=True)) == 4


def test_a_hundred_thousand_files_are_few_tasks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def sized(path: Path) -> FileSplit:
        return FileSplit(0, str(path), path.name, "jsonl", 0, 500)

    monkeypatch.setattr(cutting, "whole_file", sized)
    splits = file_splits([tmp_path / f"{n}.jsonl" for n in range(100_000)], parallelism=2)
    assert len(splits) < 100
    assert sum(len(split.names) for split in splits) == 100_000


def test_a_record_of_a_group_is_called_by_its_file_and_place(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_bytes(b"id\nx\ny\n")
    (tmp_path / "b.jsonl").write_bytes(b'{"id":"z"}\n')
    group = FileGroup(0, str(tmp_path), ("a.csv", "b.jsonl"))
    names = [name for batch in group.batches(TYPES, ()) for name in batch.rows.select(group.record).to_series()]
    assert names == ["a.csv:1", "a.csv:2", "b.jsonl:1"]


def test_a_damaged_file_of_a_group_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_bytes(b'{"id":"z"}\n')
    (tmp_path / "b.jsonl.gz").write_bytes(b"no gzip")
    with pytest.raises(SourceError, match=r"b\.jsonl\.gz: cannot be read"):
        list(FileGroup(0, str(tmp_path), ("a.jsonl", "b.jsonl.gz", "a.jsonl")).batches(TYPES, ()))
    with pytest.raises(SourceError, match=r"c\.jsonl: not found .* the landing folder has to be at the same path"):
        list(FileGroup(0, str(tmp_path), ("a.jsonl", "c.jsonl")).batches(TYPES, ()))


# --- memory -------------------------------------------------------------------------------------------------------

_READER = """
import resource, sys
from pathlib import Path
from privacy_platform.engine.sources import lines
from privacy_platform.engine.sources.files import read_split, whole_file
from privacy_platform.policy.model import SourceType
lines.CHUNK_BYTES, lines.MAX_LINE_BYTES = 2**20, 2**19
types = {"id": SourceType.STRING, "count": SourceType.INTEGER}
peaks = []
for path in map(Path, sys.argv[1:]):
    met = sum(batch.lines for batch in read_split(whole_file(path), types, ()))
    peaks.append(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
    print(path.name, met, peaks[-1])
"""


def test_memory_does_not_grow_with_what_is_read(tmp_path: Path) -> None:
    """Every kind of file, small and then twenty times as large, one after the other in a process of its own."""
    row = json.dumps({"id": "a" * 40, "count": 1}).encode() + b"\n"
    long = b'{"id":"' + b"z" * 2**20 + b'"}\n'
    kinds = {"rows": row * 20_000, "long": long, "short": b"{}\n" * 300_000}
    paths = []
    for times in (1, 20):
        for kind, content in kinds.items():
            whole = content * times if kind != "long" else long[:-3] * times + long[-3:]
            paths.append(tmp_path / f"{kind}-{times}.jsonl")
            paths[-1].write_bytes(whole)
            paths.append(tmp_path / f"{kind}-{times}.jsonl.gz")
            paths[-1].write_bytes(gzip.compress(whole, 1))
        paths.append(tmp_path / f"rows-{times}.csv")
        paths[-1].write_bytes(b"id,count\n" + b"a,1\n" * (100_000 * times))
        frame = pl.DataFrame({"id": [f"{n}" * 8 for n in range(50_000 * times)], "count": 1})
        paths.append(tmp_path / f"rows-{times}.parquet")
        frame.write_parquet(paths[-1], row_group_size=10**9)
    environment = os.environ | {"POLARS_MAX_THREADS": "1", "MALLOC_ARENA_MAX": "1"}
    ended = subprocess.run(
        [sys.executable, "-c", _READER, *map(str, paths)],
        capture_output=True, text=True, check=True, env=environment, timeout=300,
    )  # fmt: skip
    found = [line.split() for line in io.StringIO(ended.stdout)]
    small, large = found[: len(found) // 2], found[len(found) // 2 :]
    assert [name.replace("-1.", "-20.") for name, *_ in small] == [name for name, *_ in large]
    grown = int(large[-1][2]) - int(small[-1][2])
    assert grown < 64 * 1024, f"{grown} KiB more for files twenty times as large: {found}"
