"""Every planted row is where the report says, is bad in the way it says, and no other row is bad."""

import csv
import gzip
import json
from collections import Counter
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import polars as pl
import pytest

from privacy_platform.synthetic import GenerationReport, generate
from privacy_platform.synthetic.events import EVENT_SCHEMA
from privacy_platform.synthetic.report import QUARANTINED_KINDS
from privacy_platform.synthetic.users import USER_SCHEMA

USERS, EVENTS, SHARE = 3_000, 10_000, 0.06
SCHEMAS = {"users": USER_SCHEMA, "events": EVENT_SCHEMA}
IDS = {"users": "user_id", "events": "event_id"}
REQUIRED = {"users": ["user_id"], "events": ["user_id", "event_id", "timestamp"]}
KINDS = {"broken_line", "missing_field", "mistyped_field", "duplicate", "pii", "unknown_user"}


@pytest.fixture(scope="module", params=["jsonl", "csv", "parquet", "split"])
def dirty(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> GenerationReport:
    out = tmp_path_factory.mktemp("dirty")
    split = request.param == "split"
    form = "jsonl" if split else request.param
    return generate(
        users=USERS,
        events=EVENTS,
        out=out,
        seed=5,
        dirty=SHARE,
        format=form,
        split_by_day=split,
        compress=split,
    )


def typed(row: dict[str, Any], schema: dict[str, pl.DataType]) -> dict[str, Any]:
    """A row of CSV text as its types, or ValueError."""
    convert = {pl.Int64(): int, pl.Float64(): float}
    return {k: None if v == "" else convert.get(schema[k], str)(v) for k, v in row.items()}


def check_types(row: dict[str, Any], dataset: str) -> None:
    schema = SCHEMAS[dataset]
    numbers = [k for k, kind in schema.items() if kind.is_numeric()]
    if any(isinstance(row[k], str) for k in numbers):
        raise ValueError
    stamps = [row[k] for k in ("timestamp", "created_at", "last_login") if k in row]
    if any(isinstance(s, str) and not s.endswith("Z") for s in stamps):
        raise ValueError


def lines_of(path: Path, dataset: str) -> dict[int, dict[str, Any] | str]:
    """Line number to its row, or to the word for why it is none."""
    if path.suffix == ".parquet":
        return dict(enumerate(pl.read_parquet(path).to_dicts(), 1))
    body = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    found: dict[int, dict[str, Any] | str] = {}
    for number, line in enumerate(body.decode().splitlines(), 1):
        if path.suffix == ".csv" and number == 1:
            assert line == ",".join(SCHEMAS[dataset])
            continue
        try:
            if path.suffix == ".csv":
                cells = next(csv.reader([line]))
                if len(cells) != len(SCHEMAS[dataset]):
                    found[number] = "broken_line"
                    continue
                row = typed(dict(zip(SCHEMAS[dataset], cells, strict=True)), SCHEMAS[dataset])
            else:
                row = json.loads(line)
            check_types(row, dataset)
            found[number] = row
        except json.JSONDecodeError:
            found[number] = "broken_line"
        except ValueError:
            found[number] = "mistyped_field"
    return found


def test_planted_rows_and_only_they_are_bad(dirty: GenerationReport) -> None:
    planted = {(p.file, p.line_number): p for p in dirty.planted_rows}
    assert len(planted) == len(dirty.planted_rows)
    for file in dirty.files:
        rows = lines_of(file.path, file.dataset)
        assert len(rows) == file.rows
        seen: dict[str, dict[str, Any]] = {}
        for number, row in rows.items():
            plan = planted.get((file.path.name, number))
            if isinstance(row, str):
                assert plan is not None
                assert plan.kind == row
                continue
            missing = [k for k in REQUIRED[file.dataset] if row[k] is None]
            assert missing == ([plan.detail] if plan and plan.kind == "missing_field" else [])
            key = row[IDS[file.dataset]]
            if key is not None:
                repeated = key in seen
                assert repeated == bool(plan and plan.kind == "duplicate")
                if repeated:
                    assert plan is not None
                    assert (seen[key] == row) == (plan.detail == "verbatim")
                seen[key] = row
            if file.dataset == "events":
                check_event(row, plan)


def check_event(row: dict[str, Any], plan: Any) -> None:
    unknown = row["user_id"] is not None and int(row["user_id"][5:]) > USERS
    assert unknown == bool(plan and plan.kind == "unknown_user")
    text = unquote(row["page_url"]) + (row["search_query"] or "")
    if plan and plan.kind == "pii":
        field, _, what = plan.detail.partition(":")
        assert row[field] is not None
        assert ("@example." in text or ".example." in text) == (what == "email")
        if field == "page_url":
            assert "email=" in row["page_url"]
    else:
        assert "@" not in text


def test_own_values_are_the_users_own(tmp_path: Path) -> None:
    report = generate(users=50, events=5_000, out=tmp_path, dirty=0.3, format="parquet", days=3)
    people = {row["user_id"]: row for row in generate_users(tmp_path)}
    events = pl.read_parquet(tmp_path / "events.parquet")
    details = Counter()
    for p in report.planted_rows:
        if p.kind != "pii":
            continue
        row = events.row(p.line_number - 1, named=True)
        user = people[row["user_id"]]
        field, _, what = p.detail.partition(":")
        wanted = f"{user['first_name']} {user['last_name']}" if what == "name" else user[what]
        assert wanted.casefold() in unquote(row[field]).casefold()
        details[p.detail] += 1
    assert set(details) == {"search_query:email", "search_query:phone", "search_query:name", "page_url:email"}


def generate_users(folder: Path) -> list[dict[str, Any]]:
    generate(users=50, events=0, out=folder / "clean", format="parquet", days=3)
    return pl.read_parquet(folder / "clean/users.parquet").to_dicts()


def test_counts_follow_the_share(dirty: GenerationReport) -> None:
    assert sum(dirty.planted.values()) == len(dirty.planted_rows)
    for dataset, rows in (("users", USERS), ("events", EVENTS)):
        mine = dirty.planted_in(dataset)  # type: ignore[arg-type]
        assert len(mine) == pytest.approx(SHARE * rows, abs=40)
        duplicates = sum(p.kind == "duplicate" for p in mine)
        assert sum(f.rows for f in dirty.files if f.dataset == dataset) == rows + duplicates
    text = dirty.files[0].path.suffix != ".parquet"
    assert set(dirty.planted) == (KINDS if text else KINDS - {"broken_line", "mistyped_field"})
    assert KINDS - {"duplicate", "pii", "unknown_user"} == QUARANTINED_KINDS


def test_line_numbers_hold_across_chunks(tmp_path: Path) -> None:
    report = generate(users=70_000, events=0, out=tmp_path, dirty=0.002)
    lines = (tmp_path / "users.jsonl").read_bytes().splitlines()
    broken = [p.line_number for p in report.planted_rows if p.kind == "broken_line"]
    assert broken
    assert max(broken) > 65_600
    assert broken == [n for n, line in enumerate(lines, 1) if not line.endswith(b"}")]


def test_clean_runs_plant_nothing_and_everything_can_be_dirty(tmp_path: Path) -> None:
    assert generate(users=100, events=100, out=tmp_path).planted_rows == ()
    report = generate(users=100, events=100, out=tmp_path, dirty=1.0, days=1)
    assert len(report.planted_rows) == 200
