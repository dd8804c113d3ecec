"""Files as the detector reads them: every format, delimiter and encoding; a fair sample; nothing rare overlooked."""

import gzip
import json
from pathlib import Path

import polars as pl
import pytest

from privacy_platform.detection.detector import Table, detect
from privacy_platform.detection.reading import UnreadableFileError, files_in, read_table
from privacy_platform.detection.sampling import SAMPLE, Sampler, flattened

ROWS = [
    ("Jürgen Schäfer", "j@example.de", "12,5"),
    ("Zoë Müller", "z@example.de", "7"),
    ("Åsa Öberg", "a@example.se", ""),
]


def columns(table: Table) -> dict[str, list[str]]:
    return {column.name: sorted(column.values) for column in table.columns}


EXPECTED = {
    "name": sorted(row[0] for row in ROWS),
    "email": sorted(row[1] for row in ROWS),
    "amount": ["12,5", "7"],
}


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "cp1252"])
def test_csv_of_any_delimiter_and_encoding(tmp_path: Path, delimiter: str, encoding: str) -> None:
    lines = [delimiter.join(f'"{cell}"' for cell in row) for row in [("name", "email", "amount"), *ROWS]]
    path = tmp_path / "people.csv"
    path.write_bytes("\r\n".join(lines).encode(encoding))

    assert columns(read_table(path)) == EXPECTED


def test_csv_in_cyrillic(tmp_path: Path) -> None:
    words = "фамилия;имя;город\n" + "Иванов;Иван;Москва\nСмирнова;Анна;Казань\nКузнецов;Дмитрий;Самара\n" * 20
    path = tmp_path / "клиенты.csv"
    path.write_bytes(words.encode("cp1251"))

    assert [column.name for column in read_table(path).columns] == ["фамилия", "имя", "город"]


def test_jsonl_nested_by_path_and_gzipped(tmp_path: Path) -> None:
    record = {"id": 7, "who": {"email": "a@example.org"}, "phones": ["1", "2"], "orders": [{"sku": "x"}], "ok": True}
    path = tmp_path / "people.jsonl.gz"
    path.write_bytes(gzip.compress(f"{json.dumps(record)}\nnot json\n\n{json.dumps(record)}\n".encode()))

    table = read_table(path)

    assert columns(table) == {
        "id": ["7", "7"], "who.email": ["a@example.org"] * 2, "phones[]": ["1", "1", "2", "2"],
        "orders[].sku": ["x"] * 2, "ok": ["true"] * 2,
    }  # fmt: skip
    assert table.columns[0].rows == 2


@pytest.mark.parametrize("indent", [None, 2])
def test_json_array(tmp_path: Path, indent: int | None) -> None:
    path = tmp_path / "people.json"
    path.write_text(json.dumps([{"a": 1}, {"a": 2, "b": None}], indent=indent), encoding="utf-8")

    assert columns(read_table(path)) == {"a": ["1", "2"], "b": []}


def test_parquet_flat_and_nested(tmp_path: Path) -> None:
    frame = pl.DataFrame({"n": [1, 2], "who": [{"city": "Bonn"}, {"city": None}], "tags": [["a"], ["b", "c"]]})
    frame.write_parquet(tmp_path / "nested.parquet")
    frame.select("n").write_parquet(tmp_path / "flat.parquet")

    assert columns(read_table(tmp_path / "nested.parquet")) == {
        "n": ["1", "2"], "who.city": ["Bonn"], "tags[]": ["a", "b", "c"],
    }  # fmt: skip
    assert columns(read_table(tmp_path / "flat.parquet")) == {"n": ["1", "2"]}


def test_a_header_alone_has_columns(tmp_path: Path) -> None:
    path = tmp_path / "empty.csv"
    path.write_text("email,,email\n", encoding="utf-8")

    assert columns(read_table(path)) == {"email": [], "column_2": [], "email_3": []}


def test_the_sample_is_fair_and_bounded() -> None:
    sampler = Sampler("t")
    for begin in range(0, 100_000, 10_000):
        sampler.add({"n": pl.Series([str(n) for n in range(begin, begin + 10_000)])}, 10_000)

    (column,) = sampler.table().columns
    numbers = sorted(int(value) for value in column.values)

    assert len(numbers) == SAMPLE
    assert column.rows == 100_000
    # The mean of 200 draws of 0..99,999 is within 4 standard errors of the middle; the head alone would give 100.
    assert abs(sum(numbers) / SAMPLE - 50_000) < 4 * 28_868 / SAMPLE**0.5


def test_the_same_data_give_the_same_sample() -> None:
    def sample() -> list[str]:
        sampler = Sampler("t")
        sampler.add({"n": pl.Series([str(n) for n in range(5_000)])}, 5_000)
        return list(sampler.table().columns[0].values)

    assert sample() == sample()


def test_three_cards_among_many_notes_are_seen(tmp_path: Path) -> None:
    notes = ["will call again on monday in the morning"] * 30_000
    for at in (7, 15_000, 29_999):
        notes[at] = "paid with 4111 1111 1111 1111 by phone"
    path = tmp_path / "tickets.jsonl"
    path.write_text("\n".join(json.dumps({"remark": note}) for note in notes), encoding="utf-8")

    (finding,) = detect(read_table(path))

    assert finding.sensitivity == "high"
    assert "3 of 30,000 rows hold a credit card" in finding.evidence


def test_what_is_no_table_is_refused_with_its_name(tmp_path: Path) -> None:
    (tmp_path / "a.docx").write_text("x", encoding="utf-8")
    (tmp_path / "b.parquet").write_text("x", encoding="utf-8")
    (tmp_path / "c.csv.gz").write_bytes(gzip.compress(b"a,b\n1,2\n")[:-9])

    for name in ("a.docx", "b.parquet", "c.csv.gz"):
        with pytest.raises(UnreadableFileError, match=name):
            read_table(tmp_path / name)


def test_a_folder_gives_its_files(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    for name in ("in/a.csv", "b.jsonl", "c.docx", ".hidden.csv"):
        (tmp_path / name).write_text("a\n1\n", encoding="utf-8")

    assert [path.name for path in files_in(tmp_path)] == ["b.jsonl", "a.csv"]


def test_progress_is_told(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("a\n" + "1\n" * 50_000, encoding="utf-8")
    seen: list[tuple[str, int, int]] = []

    read_table(path, lambda *step: seen.append(step))

    assert seen[-1] == ("a.csv", 100_002, 100_002)
    assert all(done <= total for _, done, total in seen)


def test_flattened_keeps_the_number_of_records() -> None:
    assert flattened([{"a": None}, {"a": ""}, {}])[1] == 3
