"""Landing files: every line exactly once whatever the splits, and every bad line a reject that shows no value."""

import gzip
import io
import json
import math
import os
import re
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from privacy_platform.engine.sources import json_lines
from privacy_platform.engine.sources import lines as whole_lines
from privacy_platform.engine.sources import splits as cutting
from privacy_platform.engine.sources.batch import LINE, parse_timestamps
from privacy_platform.engine.sources.files import (
    FileSplit,
    SourceError,
    file_format,
    landing_files,
    read_split,
)
from privacy_platform.engine.sources.splits import file_splits
from privacy_platform.policy.model import SourceType

TYPES = {
    "id": SourceType.STRING,
    "count": SourceType.INTEGER,
    "price": SourceType.NUMBER,
    "active": SourceType.BOOLEAN,
    "at": SourceType.TIMESTAMP,
    "day": SourceType.DATE,
}
QUIET = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)


class Read:
    """Everything a file gives, over all splits and batches, with lines counted from 0 in the file."""

    def __init__(self, splits: Sequence[FileSplit], required: Sequence[str] = (), *, line_each: bool = True) -> None:
        self.rows: list[dict[str, Any]] = []
        self.rejects: list[tuple[int, str, str | None]] = []
        self.payloads: list[bytes] = []
        self.unknown: set[str] = set()
        self.lines = 0
        self.blank = 0
        for split in splits:
            begin = self.lines
            for batch in read_split(split, TYPES, required):
                self.rows += [row | {LINE: row[LINE] + begin} for row in batch.rows.to_dicts()]
                for line, error, name, payload in batch.rejects.rows():
                    self.rejects.append((line + begin, error, name))
                    self.payloads.append(payload)
                self.unknown |= batch.unknown_fields
                self.lines += batch.lines
                self.blank += batch.blank
                assert batch.rows.columns == [*TYPES, LINE]
        assert self.lines == len(self.rows) + len(self.rejects) + self.blank
        self.places = sorted([row[LINE] for row in self.rows] + [r[0] for r in self.rejects])
        if self.blank or not line_each:
            assert len(set(self.places)) == len(self.places)
        else:
            assert self.places == list(range(self.lines))

    @property
    def ids(self) -> list[str | None]:
        return [row["id"] for row in self.rows]


def read(path: Path, content: bytes, required: Sequence[str] = ()) -> Read:
    path.write_bytes(content)
    return Read(file_splits([path], parallelism=2), required)


def jsonl(*records: object) -> bytes:
    return b"".join(json.dumps(record).encode() + b"\n" for record in records)


# --- splits -------------------------------------------------------------------------------------------------------

LINES = st.one_of(
    st.builds(
        lambda text, ascii_only: json.dumps({"id": text}, ensure_ascii=ascii_only).encode(),
        st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=12),
        st.booleans(),
    ),
    st.builds(lambda n: b'{"id":"' + b"x" * n + b'"}', st.integers(0, 200)),
    st.sampled_from([b"", b"   ", b"not json", b'{"id":"\xff"}', b'{"id":["x"]}', "{“id”:1}".encode()]),
)


@QUIET
@given(st.lists(LINES, max_size=12), st.sampled_from([b"\n", b"\r\n"]), st.booleans(), st.integers(1, 90))
@example([b'{"id":"' + b"y" * 300 + b'"}', b'{"id":"z"}'], b"\n", False, 7)
def test_any_split_size_gives_every_line_once_and_in_order(
    tmp_path: Path, lines: list[bytes], end: bytes, closed: bool, size: int
) -> None:
    content = end.join(lines) + (end if closed and lines else b"")
    path = tmp_path / "a.jsonl"
    path.write_bytes(content)
    whole = FileSplit(0, str(path), path.name, "jsonl", 0, len(content))
    ranges = [(start, min(len(content), start + size)) for start in range(0, len(content), size)]
    cut = [replace(whole, index=i, start=start, end=stop) for i, (start, stop) in enumerate(ranges)]
    one, many = Read([whole] if content else []), Read(cut)
    assert (many.rows, many.rejects, many.payloads) == (one.rows, one.rejects, one.payloads)
    assert one.lines == content.count(b"\n") + (not content.endswith(b"\n") if content else 0)


def test_blank_lines_are_counted_and_no_records(tmp_path: Path) -> None:
    found = read(tmp_path / "a.jsonl", b'\n{"id":"a"}\n  \n\r\n?\n{"id":"b"}\n\n')
    assert (found.ids, found.places, found.lines, found.blank) == (["a", "b"], [1, 4, 5], 7, 4)
    assert found.rejects == [(4, "not valid JSON", None)]


def test_chunks_inside_a_split_count_lines_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(whole_lines, "CHUNK_BYTES", 50)
    records = [{"id": f"é{n}"} if n % 7 else {"id": None} for n in range(100)]
    for name, content in (("a.jsonl", jsonl(*records)), ("a.jsonl.gz", gzip.compress(jsonl(*records)))):
        found = read(tmp_path / name, content, ["id"])
        assert found.ids == [r["id"] for r in records if r["id"]]
        assert [line for line, *_ in found.rejects] == list(range(0, 100, 7))


def test_files_are_cut_by_size_and_numbered_over_all_of_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cutting, "_SPLIT_BYTES", (100, 200))
    for name in ("b.jsonl", "a.jsonl"):
        (tmp_path / name).write_bytes(jsonl(*({"id": f"{name}{n}"} for n in range(40))))
    (tmp_path / "empty.jsonl").write_bytes(b"")
    paths = [tmp_path / name for name in ("b.jsonl", "a.jsonl", "empty.jsonl")]
    splits = file_splits(paths, parallelism=1)
    assert [split.index for split in splits] == list(range(len(splits)))
    assert len(splits) == 8
    assert Read(splits).ids == [f"{name}{n}" for name in ("b.jsonl", "a.jsonl") for n in range(40)]


def test_landing_files_come_oldest_first_and_only_in_known_formats(tmp_path: Path) -> None:
    for age, name in enumerate(["users_2.csv", "users.jsonl", "users.txt", "other.jsonl", "users.parquet.gz"]):
        (tmp_path / name).touch()
        os.utime(tmp_path / name, (1000 - age, 1000 - age))
    (tmp_path / "users.parquet").mkdir()
    assert [path.name for path in landing_files(tmp_path, ["users*"])] == ["users.jsonl", "users_2.csv"]
    assert landing_files(tmp_path / "gone", ["*"]) == []
    assert file_format(Path("a.CSV")) == ("csv", False)
    with pytest.raises(SourceError, match=r"users\.txt: not a format"):
        file_splits([tmp_path / "users.txt"], parallelism=1)


# --- JSON Lines: one result on two paths --------------------------------------------------------------------------

SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-10, 10),
    st.integers(-(2**70), 2**70),
    st.floats(allow_nan=False, allow_infinity=False),
    st.sampled_from(
        ["", "1", "true", "-1.5", "1e9", "[1]", "{}", "92101", "2026-01-02T03:04:05Z", "2026-01-02", "naïve", "😀"]
    ),
    st.text(max_size=4),
    st.lists(st.integers(), max_size=2),
    st.dictionaries(st.sampled_from(["a", "id"]), st.integers(), max_size=2),
)
RECORDS = st.dictionaries(st.sampled_from([*TYPES, "else"]), SCALARS)


@QUIET
@given(st.lists(RECORDS, min_size=1, max_size=6), st.booleans())
@example([{"id": "a"}, {"id": True}], True)
@example([{"id": "a"}, {"id": 1.5}], True)
@example([{"id": "a"}, {"id": {"email": "x"}}], True)
@example([{"id": "a"}, {"id": ["x"]}], True)
@example([{"id": "\0"}], True)
@example([{"id": "\ud800x"}], True)
def test_a_good_chunk_parsed_at_once_is_the_same_as_line_by_line(
    tmp_path: Path, records: list[dict[str, object]], ascii_only: bool
) -> None:
    lines = [json.dumps(record, ensure_ascii=ascii_only).encode("utf-8", "replace") for record in records]
    at_once = read(tmp_path / "a.jsonl", b"\n".join(lines) + b"\n")
    # The last line is no JSON, so that the whole chunk is looked at line by line.
    careful = read(tmp_path / "b.jsonl", b"\n".join([*lines, b"?"]) + b"\n")
    assert at_once.rows == careful.rows
    assert sorted([*at_once.rejects, (len(lines), "not valid JSON", None)]) == sorted(careful.rejects)
    assert at_once.unknown == careful.unknown


BAD_LINES = [
    (b"Maria", None, "not valid JSON"),
    (b'{"id":"Maria"', None, "not valid JSON"),
    (b'{"id":"Maria"}}', None, "not valid JSON"),
    (b"{'id':'Maria'}", None, "not valid JSON"),
    (b'{"id":"Maria"} {"id":"Maria"}', None, "not valid JSON"),
    (b'{"id":"Mar\xefa"}', None, "not valid JSON"),
    (b'{"price":NaN}', None, "not valid JSON"),
    (b'{"price":-Infinity}', None, "not valid JSON"),
    (b"[" * 100_000, None, "not valid JSON"),
    (b'["Maria"]', None, "not a JSON object"),
    (b'"Maria"', None, "not a JSON object"),
    (b"null", None, "not a JSON object"),
    (b'{"id":true}', "id", "id: not a valid string"),
    (b'{"id":1.5}', "id", "id: not a valid string"),
    (b'{"id":{"name":"Maria"}}', "id", "id: not a valid string"),
    (b'{"id":["Maria"]}', "id", "id: not a valid string"),
    (rb'{"id":"Maria\ud800"}', "id", "id: not a valid string"),
    (rb'{"id":"Maria\u0000"}', "id", "id: not a valid string"),
    (b'{"id":9223372036854775808}', "id", "id: not a valid string"),
    (b'{"count":"4242"}', "count", "count: not a valid integer"),
    (b'{"count":4242.0}', "count", "count: not a valid integer"),
    (b'{"count":true}', "count", "count: not a valid integer"),
    (b'{"count":9223372036854775808}', "count", "count: not a valid integer"),
    (b'{"price":"4242"}', "price", "price: not a valid number"),
    (b'{"price":1e999}', "price", "price: not a valid number"),
    (b'{"price":' + b"9" * 400 + b"}", "price", "price: not a valid number"),
    (b'{"active":"true"}', "active", "active: not a valid boolean"),
    (b'{"active":1}', "active", "active: not a valid boolean"),
    (b'{"at":"Maria"}', "at", "at: not a valid timestamp"),
    (b'{"at":1767322800}', "at", "at: not a valid timestamp"),
    (rb'{"at":"\ud800"}', "at", "at: not a valid timestamp"),
    (b'{"at":"2026-02-30T00:00:00Z"}', "at", "at: not a valid timestamp"),
    (b'{"day":"2026-13-01"}', "day", "day: not a valid date"),
    (b'{"day":"-0001-01-01"}', "day", "day: not a valid date"),
]


@pytest.mark.parametrize(("line", "field", "error"), BAD_LINES)
def test_a_bad_line_is_a_reject_with_its_place_and_reason(
    tmp_path: Path, line: bytes, field: str | None, error: str
) -> None:
    good = b'{"id":"good","count":1,"price":1.5,"active":true,"at":"2026-01-02T03:04:05Z","day":"2026-01-02"}\n'
    found = read(tmp_path / "a.jsonl", good * 3 + line + b"\n" + good * 2)
    assert found.rejects == [(3, error, field)]
    assert [row[LINE] for row in found.rows] == [0, 1, 2, 4, 5]
    assert found.rows[0] == {
        "id": "good",
        "count": 1,
        "price": 1.5,
        "active": True,
        "at": datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC),
        "day": date(2026, 1, 2),
        LINE: 0,
    }


@pytest.mark.parametrize("line", [line for line, *_ in BAD_LINES if b"Maria" in line])
def test_the_reason_shows_no_value_and_the_payload_keeps_it(tmp_path: Path, line: bytes) -> None:
    found = read(tmp_path / "a.jsonl", line + b"\n")
    assert "Maria" not in str(found.rejects)
    assert b"Maria" in found.payloads[0]


def test_unknown_fields_are_found_on_any_row(tmp_path: Path) -> None:
    records = [{"id": str(n)} for n in range(500)]
    records[371]["email"] = "maria@example.com"
    assert read(tmp_path / "a.jsonl", jsonl(*records)).unknown == {"email"}
    assert read(tmp_path / "b.jsonl", jsonl(*records) + b"?\n").unknown == {"email"}
    # A key that never holds anything is no data, and no column yet; one value among many nulls makes it one.
    empty = [{"id": str(n), "email": None} for n in range(500)]
    assert read(tmp_path / "c.jsonl", jsonl(*empty)).unknown == set()
    assert read(tmp_path / "d.jsonl", jsonl(*empty) + b"?\n").unknown == set()
    assert read(tmp_path / "e.jsonl", jsonl(*empty, {"id": "a", "email": 0})).unknown == {"email"}


def test_missing_fields_are_null_unless_required(tmp_path: Path) -> None:
    content = jsonl({"id": "a"}, {"count": 3}, {"id": ""}, {"id": "  "}, {"id": None}, {})
    assert len(read(tmp_path / "a.jsonl", content).rows) == 6
    found = read(tmp_path / "a.jsonl", content, ["id"])
    assert found.ids == ["a"]
    assert found.rejects == [(line, "id: missing", "id") for line in range(1, 6)]


def test_a_byte_order_mark_is_passed_over_but_other_encodings_are_refused(tmp_path: Path) -> None:
    assert read(tmp_path / "a.jsonl", '\ufeff{"id":"a"}\n{"id":"b"}\n'.encode()).ids == ["a", "b"]
    assert read(tmp_path / "b.jsonl", '{"id":"a"}'.encode("utf-16-le")).rows == []


def test_whole_numbers_are_taken_for_numbers_and_for_texts(tmp_path: Path) -> None:
    found = read(tmp_path / "a.jsonl", jsonl({"id": 7, "price": 3}, {"id": "x", "price": 1.5}))
    assert [(row["id"], row["price"]) for row in found.rows] == [("7", 3.0), ("x", 1.5)]


def test_of_a_field_written_twice_the_first_value_counts_on_both_paths(tmp_path: Path) -> None:
    line = b'{"id":"a","count":1,"id":"b","count":2}\n'
    for content in (line, line + b"?\n"):
        (row,) = read(tmp_path / "a.jsonl", content).rows
        assert (row["id"], row["count"]) == ("a", 1)


def test_rows_do_not_depend_on_their_neighbours(tmp_path: Path) -> None:
    odd = {"id": True, "count": 1}
    alone = read(tmp_path / "a.jsonl", jsonl(odd))
    among = read(tmp_path / "b.jsonl", jsonl({"id": "a"}, odd, {"id": "92101"}))
    assert (len(alone.rejects), among.ids) == (1, ["a", "92101"])


# --- CSV ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize("mark", ["", "\ufeff"])
def test_csv_in_many_dialects(tmp_path: Path, delimiter: str, end: str, mark: str) -> None:
    rows = [["count", "id", "price"], ["1", f'"a{delimiter}""b"""', "1.5"], ["", "naïve", " 2 "]]
    content = mark + end.join(delimiter.join(row) for row in rows)
    for closing in ("", end):
        found = read(tmp_path / "a.csv", (content + closing).encode())
        assert found.rejects == []
        assert [(r["id"], r["count"], r["price"]) for r in found.rows] == [
            (f'a{delimiter}"b"', 1, 1.5),
            ("naïve", None, 2.0),
        ]


def test_a_quoted_field_may_hold_line_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(whole_lines, "CHUNK_BYTES", 10)
    path = tmp_path / "a.csv"
    path.write_bytes(b'id,count\n"a\nb\r\nc",1\n"d",2\nx\n"\n",3\ne,f\n')
    found = Read(file_splits([path], parallelism=2), line_each=False)
    assert found.ids == ["a\nb\r\nc", "d", "\n"]
    assert [row["count"] for row in found.rows] == [1, 2, 3]
    # A record is where its first line is, counted from the line after the header.
    assert [row[LINE] for row in found.rows] == [0, 3, 5]
    assert [(line, error) for line, error, _ in found.rejects] == [
        (4, "1 columns instead of 2"),
        (7, "count: not a valid integer"),
    ]


def test_bad_csv_rows_are_rejects(tmp_path: Path) -> None:
    lines = [b"a,1", b"b", b"c,2,3", b"", b"d,x", b"Mar\xeda,5", b"e\0,6", b"g,NaN", b"f,7"]
    found = read(tmp_path / "a.csv", b"id,price\n" + b"\n".join(lines), ["id"])
    assert found.ids == ["a", "f"]
    assert found.rejects == [
        (1, "1 columns instead of 2", None),
        (2, "3 columns instead of 2", None),
        (3, "0 columns instead of 2", None),
        (5, "not valid UTF-8", None),
        (4, "price: not a valid number", "price"),
        (6, "id: not a valid string", "id"),
        (7, "price: not a valid number", "price"),
    ]
    assert found.payloads[3] == lines[5]


def test_long_csv_fields_are_read(tmp_path: Path) -> None:
    long = "x" * 300_000
    assert read(tmp_path / "a.csv", f"id,count\n{long},1\n".encode()).ids == [long]


def test_unknown_csv_columns_are_reported(tmp_path: Path) -> None:
    assert read(tmp_path / "a.csv", b"id,email\na,b\n").unknown == {"email"}


@pytest.mark.parametrize(
    ("content", "message"),
    [(b"id,id\na,b\n", "occurs twice"), (b"\xff\xfei\0d\0\n", "line 1: not UTF-8")],
)
def test_a_useless_csv_header_names_the_file(tmp_path: Path, content: bytes, message: str) -> None:
    with pytest.raises(SourceError, match=rf"a\.csv.*{message}"):
        read(tmp_path / "a.csv", content)


def test_booleans_of_csv(tmp_path: Path) -> None:
    words = ["true", "T", "Yes", "1", "false", "F", "no", "0", "", "maybe"]
    found = read(tmp_path / "a.csv", ("id,active\n" + "".join(f"x,{word}\n" for word in words)).encode())
    assert [row["active"] for row in found.rows] == [True] * 4 + [False] * 4 + [None]
    assert found.rejects == [(9, "active: not a valid boolean", "active")]


# --- gzip and Parquet ---------------------------------------------------------------------------------------------


def test_gzip_gives_the_same_rows(tmp_path: Path) -> None:
    content = jsonl(*({"id": f"é{n}", "count": n} for n in range(500)), {"id": True})
    plain, packed = read(tmp_path / "a.jsonl", content), read(tmp_path / "a.jsonl.gz", gzip.compress(content))
    assert (packed.rows, packed.rejects) == (plain.rows, plain.rejects)
    assert read(tmp_path / "a.csv.gz", gzip.compress(b"id,count\na,1\n")).ids == ["a"]


def test_a_broken_gzip_file_is_named(tmp_path: Path) -> None:
    packed = gzip.compress(os.urandom(2000).hex().encode() + b"\n")
    for broken in (packed[:100], packed[:-6], b"no gzip", packed[:60] + b"\xff" * 40 + packed[100:]):
        with pytest.raises(SourceError, match=r"a\.jsonl\.gz: cannot be read"):
            read(tmp_path / "a.jsonl.gz", broken)


def parquet(frame: pl.DataFrame, **options: Any) -> bytes:
    file = io.BytesIO()
    frame.write_parquet(file, **options)
    return file.getvalue()


def test_parquet_gives_the_same_rows_as_json(tmp_path: Path) -> None:
    frame = pl.DataFrame(
        {
            "day": [date(2026, 1, 2), None],
            "at": pl.Series([datetime(2026, 1, 2, 3, 4, 5, 678), None], dtype=pl.Datetime("ms")),
            "count": pl.Series([7, None], dtype=pl.UInt8),
            "price": pl.Series([1.5, None], dtype=pl.Float32),
            "active": [True, None],
            "id": pl.Series(["a", None], dtype=pl.Categorical),
        }
    )
    found = read(tmp_path / "a.parquet", parquet(frame))
    at = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
    first = {"id": "a", "count": 7, "price": 1.5, "active": True, "at": at, "day": date(2026, 1, 2), LINE: 0}
    assert found.rows == [first, dict.fromkeys(TYPES) | {LINE: 1}]


def test_parquet_is_cut_by_row_groups(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cutting, "_SPLIT_BYTES", (1, 500))
    path = tmp_path / "a.parquet"
    path.write_bytes(parquet(pl.DataFrame({"id": [f"{n}" for n in range(1000)]}), row_group_size=100))
    splits = file_splits([path], parallelism=2)
    assert len(splits) > 3
    assert Read(splits).ids == [f"{n}" for n in range(1000)]


@pytest.mark.parametrize(
    ("column", "error"),
    [
        (pl.Series("count", [2**63], dtype=pl.UInt64), "count: not a valid integer"),
        (pl.Series("price", [math.nan]), "price: not a valid number"),
        (pl.Series("price", [-math.inf]), "price: not a valid number"),
        (pl.Series("id", ["a\0"]), "id: not a valid string"),
        (pl.Series("at", ["yesterday"]), "at: not a valid timestamp"),
    ],
)
def test_parquet_values_that_do_not_fit_are_rejects(tmp_path: Path, column: pl.Series, error: str) -> None:
    found = read(tmp_path / "a.parquet", parquet(pl.DataFrame([column])))
    assert found.rejects == [(0, error, column.name)]


@pytest.mark.parametrize(
    ("frame", "named"),
    [
        (pl.DataFrame({"count": [1.5]}), "column count is Float64 and the policy says integer"),
        (pl.DataFrame({"id": [["a"]]}), "column id is List"),
        (pl.DataFrame({"active": [1]}), "column active is Int64"),
        (pl.DataFrame({"email": ["a"]}), "no column that the policy names"),
    ],
)
def test_a_parquet_file_of_another_shape_is_named(tmp_path: Path, frame: pl.DataFrame, named: str) -> None:
    with pytest.raises(SourceError, match=rf"a\.parquet: .*{named}"):
        read(tmp_path / "a.parquet", parquet(frame))


def test_a_file_that_is_no_parquet_is_named(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"a\.parquet: not a readable Parquet file"):
        read(tmp_path / "a.parquet", b"PAR1")


def test_unknown_parquet_columns_are_reported(tmp_path: Path) -> None:
    assert read(tmp_path / "a.parquet", parquet(pl.DataFrame({"id": ["a"], "email": ["b"]}))).unknown == {"email"}


# --- timestamps ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2026-01-02T03:04:05Z", "2026-01-02T03:04:05"),
        ("2026-01-02 03:04:05Z", "2026-01-02T03:04:05"),
        ("2026-01-02T03:04:05.1Z", "2026-01-02T03:04:05.100000"),
        ("2026-01-02T03:04:05.123456789Z", "2026-01-02T03:04:05.123456"),
        ("2026-01-02T03:04:05+02:00", "2026-01-02T01:04:05"),
        ("2026-01-02 03:04:05.5-11:30", "2026-01-02T14:34:05.500000"),
        ("2026-01-02T03:04:05", "2026-01-02T03:04:05"),
        ("2026-01-02 03:04:05.25", "2026-01-02T03:04:05.250000"),
        ("2026-01-02T03:04", "2026-01-02T03:04:00"),
        ("2026-01-02 03:04", "2026-01-02T03:04:00"),
        ("2026-01-02", "2026-01-02T00:00:00"),
        ("2024-02-29", "2024-02-29T00:00:00"),
        ("9999-12-31T23:59:59.999999Z", "9999-12-31T23:59:59.999999"),
        ("2026-02-29", None),
        ("2026-01-02T24:00:00Z", None),
        ("2026-01-02T03:04:05 Europe/Berlin", None),
        ("02.01.2026", None),
        ("20260102", None),
        ("--024-01-02T03:04:05Z", None),
        ("1767322800", None),
        ("", None),
        ("now", None),
    ],
)
def test_timestamps_in_many_forms(text: str, expected: str | None) -> None:
    # Beside values in other forms, since the forms are tried one after the other on the whole column.
    # The first value's form is tried first.
    for form in ("2026-05-05T05:05:05Z", "2026-05-05T05:05:05.123Z", "2026-05-05T05:05:05.123456Z", "2026-05-05"):
        column = pl.Series([form, text, None, "2026-06-06"])
        first, found, none, last = parse_timestamps(column).to_list()
        assert first == datetime.fromisoformat(form).replace(tzinfo=UTC)
        assert (none, last.month) == (None, 6)
        assert found == (datetime.fromisoformat(expected).replace(tzinfo=UTC) if expected else None)


@given(st.lists(st.datetimes(datetime(1, 1, 2), datetime(9999, 12, 30), timezones=st.timezones()), max_size=5))
def test_any_iso_timestamp_comes_back(moments: list[datetime]) -> None:
    def offset_in_minutes(moment: datetime) -> bool:  # RFC 3339 has no seconds in offsets, as zones had long ago
        shift = moment.utcoffset()
        return shift is not None and shift.total_seconds() % 60 == 0

    moments = [moment for moment in moments if offset_in_minutes(moment)]
    texts = pl.Series([moment.isoformat() for moment in moments], dtype=pl.String)
    assert parse_timestamps(texts).to_list() == [moment.astimezone(UTC) for moment in moments]


def test_an_unknown_key_is_found_however_it_is_spaced(tmp_path: Path) -> None:
    for number, spaced in enumerate((b'"ssn" : "123"', b'"ssn"\t:"123"', b'"ssn"  :  7')):
        content = b'{"id":"a"}\n{"id":"b",' + spaced + b"}\n"
        assert read(tmp_path / f"{number}.jsonl", content).unknown == {"ssn"}
    # Text that only looks like a key is text.
    assert read(tmp_path / "text.jsonl", b'{"id":"say \\"x\\" : \\"y\\""}\n').unknown == set()


def test_a_csv_without_its_header_is_refused_and_its_first_row_not_shown(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="line 1: no header with the column `id`") as caught:
        read(tmp_path / "a.csv", b"Lovelace,3\nMaria,4\n", required=("id",))
    assert "Lovelace" not in str(caught.value)


@QUIET
@given(st.lists(st.sampled_from([b'"', b":", b" ", b"n", b"x", b"\n", b'":', b'": n', b'":"']), max_size=40))
def test_keys_and_lines_are_counted_alike_whatever_the_window(
    monkeypatch: pytest.MonkeyPatch, parts: list[bytes]
) -> None:
    text = b"".join(parts)
    keys = json_lines._Keys(
        ends=text.count(b'":'),
        nulls=len(re.findall(rb'":(?= ?n)', text)),
        texts=len(re.findall(rb'":(?= ?")', text)),
        apart=b'" ' in text,
    )
    for size in (1, 2, 3, 5, 2**17):
        with monkeypatch.context() as patch:
            patch.setattr(json_lines, "WINDOW_BYTES", size)
            patch.setattr(whole_lines, "WINDOW_BYTES", size)
            assert json_lines._keys(text) == keys
            assert whole_lines.line_ends(text) == text.count(b"\n")
