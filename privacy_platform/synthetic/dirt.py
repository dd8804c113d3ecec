"""Bad rows put into good data on purpose, and exactly where they are.

Two steps, because a typed frame can hold some faults and only text the others: `plant_in_frame` sets fields
to null, copies rows, types personal data into free text and refers to users who do not exist;
`plant_in_text` breaks finished lines. Both work on one chunk; positions are relative to it.
"""

import csv
import io
import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal
from urllib.parse import quote

import numpy as np
import polars as pl

from privacy_platform.synthetic.draw import I64
from privacy_platform.synthetic.events import EVENT_SCHEMA
from privacy_platform.synthetic.report import Dataset, DirtKind
from privacy_platform.synthetic.users import USER_SCHEMA, UserSpace, user_ids

TextFormat = Literal["jsonl", "csv"]

SCHEMAS: dict[Dataset, dict[str, pl.DataType]] = {"users": USER_SCHEMA, "events": EVENT_SCHEMA}
"""Columns of each dataset in the order of its files, timestamps as text."""

_REQUIRED: dict[Dataset, tuple[str, ...]] = {
    "users": ("user_id",),
    "events": ("user_id", "event_id", "timestamp"),
}
_MISTYPED: dict[Dataset, tuple[tuple[str, str], ...]] = {
    "users": (("age", "thirty"), ("lifetime_value", "abc"), ("created_at", "yesterday")),
    "events": (("price", "abc"), ("quantity", "two"), ("timestamp", "yesterday")),
}
_FRAME_KINDS: dict[Dataset, tuple[DirtKind, ...]] = {
    "users": ("missing_field", "duplicate"),
    "events": ("missing_field", "duplicate", "pii", "unknown_user"),
}
_TEXT_KINDS: tuple[DirtKind, ...] = ("broken_line", "mistyped_field")
_OTHER_BROWSER = {"Chrome": "Firefox"}


@dataclass(frozen=True, slots=True)
class Planted:
    """A planted row of a chunk: its position from 0, kind and variant."""

    position: int
    kind: DirtKind
    detail: str


def plant_in_frame(
    frame: pl.DataFrame,
    dataset: Dataset,
    share: float,
    rng: np.random.Generator,
    space: UserSpace,
    *,
    text: bool,
) -> tuple[pl.DataFrame, list[Planted]]:
    """Plant faults in ``share`` of the rows.

    The kinds that only text can hold are chosen here too when ``text``, for `plant_in_text` to carry out.

    Returns:
        The frame, longer by the planted duplicates, and what was planted, by rising position.
    """
    count = min(frame.height, int(share * frame.height + rng.random()))
    kinds = _FRAME_KINDS[dataset] + (_TEXT_KINDS if text else ())
    victims = _victims(frame, count, kinds, rng)
    edits = _Edits(frame)
    planted: list[Planted] = []
    for kind in _FRAME_KINDS[dataset]:
        if kind == "missing_field":
            planted += _missing(edits, victims[kind], dataset, rng)
        elif kind == "pii":
            planted += _personal(edits, victims[kind], frame, space, rng)
        elif kind == "unknown_user":
            planted += _unknown(edits, victims[kind], space, rng)
    for kind in _TEXT_KINDS:
        planted += [Planted(int(p), kind, "") for p in victims.get(kind, ())]
    return _duplicate(edits.apply(), dataset, np.sort(victims["duplicate"]), planted, rng)


def plant_in_text(body: bytes, planted: list[Planted], dataset: Dataset, form: TextFormat,
                  rng: np.random.Generator) -> tuple[bytes, list[Planted]]:  # fmt: skip
    """Carry out the faults of text in the finished lines of a chunk (without a CSV header)."""
    lines = body.split(b"\n")
    breaker = _broken_json if form == "jsonl" else _broken_csv
    done: list[Planted] = []
    for plan in planted:
        if plan.kind == "broken_line":
            text, detail = breaker(lines[plan.position].decode(), rng)
        elif plan.kind == "mistyped_field":
            text, detail = _mistype(lines[plan.position].decode(), dataset, form, rng)
        else:
            done.append(plan)
            continue
        lines[plan.position] = text.encode()
        done.append(replace(plan, detail=detail))
    return b"\n".join(lines), done


def _victims(frame: pl.DataFrame, count: int, kinds: tuple[DirtKind, ...],
             rng: np.random.Generator) -> dict[DirtKind, I64]:  # fmt: skip
    """Distinct positions for each kind in equal shares; half of the personal data goes to searches."""
    shares = rng.multinomial(count, np.full(len(kinds), 1 / len(kinds)))
    wanted = dict(zip(kinds, (int(n) for n in shares), strict=True))
    searches = np.empty(0, dtype=np.int64)
    if wanted.get("pii"):
        where = np.flatnonzero(frame["search_query"].is_not_null().to_numpy())
        searches = rng.choice(where, min(len(where), (wanted["pii"] + 1) // 2), replace=False)
    free = np.ones(frame.height, dtype=np.bool_)
    free[searches] = False
    others = rng.choice(np.flatnonzero(free), count - len(searches), replace=False)
    victims: dict[DirtKind, I64] = {}
    for kind, number in wanted.items():
        given = searches if kind == "pii" else searches[:0]
        victims[kind] = np.concatenate([given, others[: number - len(given)]])
        others = others[number - len(given) :]
    return victims


class _Edits:
    """Cells to change, collected and then set a column at a time."""

    def __init__(self, frame: pl.DataFrame) -> None:
        self._frame = frame
        self._cells: dict[str, dict[int, str | None]] = {}

    def set(self, column: str, position: int, value: str | None) -> None:
        self._cells.setdefault(column, {})[position] = value

    def apply(self) -> pl.DataFrame:
        frame = self._frame
        for column, cells in self._cells.items():
            values = pl.Series(list(cells.values()), dtype=pl.String).cast(frame.schema[column])
            positions = pl.Series(list(cells), dtype=pl.UInt32)
            frame = frame.with_columns(frame[column].clone().scatter(positions, values).alias(column))
        return frame


def _missing(edits: _Edits, rows: I64, dataset: Dataset, rng: np.random.Generator) -> list[Planted]:
    fields = _REQUIRED[dataset]
    planted = []
    for row, choice in zip(rows.tolist(), rng.integers(0, len(fields), len(rows)).tolist(), strict=True):
        edits.set(fields[choice], row, None)
        planted.append(Planted(row, "missing_field", fields[choice]))
    return planted


def _unknown(edits: _Edits, rows: I64, space: UserSpace, rng: np.random.Generator) -> list[Planted]:
    strangers = user_ids(space.users + rng.integers(0, 1_000_000, len(rows))).to_list()
    for row, stranger in zip(rows.tolist(), strangers, strict=True):
        edits.set("user_id", row, stranger)
    return [Planted(row, "unknown_user", "user_id") for row in rows.tolist()]


_SEARCHES: tuple[tuple[str, Callable[[dict[str, str]], str]], ...] = (
    ("search_query:email", lambda p: f"order status {p['email']}"),
    ("search_query:email", lambda p: p["email"]),
    ("search_query:phone", lambda p: f"call {p['phone']} delivery"),
    ("search_query:phone", lambda p: p["phone"]),
    ("search_query:name", lambda p: f"{p['first_name']} {p['last_name']}"),
    ("search_query:name", lambda p: f"gift card {p['first_name'].lower()} {p['last_name'].lower()}"),
)
_URLS: tuple[tuple[str, Callable[[dict[str, str]], str]], ...] = (
    ("page_url:email", lambda p: f"/account?email={p['email']}"),
    ("page_url:email", lambda p: f"/account?email={quote(p['email'], safe='')}"),
    ("page_url:email", lambda p: f"/unsubscribe?list=news&email={quote(p['email'], safe='')}&ok=1"),
)


def _personal(
    edits: _Edits, rows: I64, frame: pl.DataFrame, space: UserSpace, rng: np.random.Generator
) -> list[Planted]:
    """The row's own user types who they are into the search box, or a page's address carries it."""
    if not len(rows):
        return []
    picked = frame[rows]
    numbers = picked["user_id"].str.slice(5).cast(pl.Int64).to_numpy() - 1
    people = space.frame(numbers).select("email", "phone", "first_name", "last_name").to_dicts()
    searched = picked["search_query"].is_not_null().to_list()
    planted = []
    for row, person, search in zip(rows.tolist(), people, searched, strict=True):
        variants = _SEARCHES if search else _URLS
        detail, write = variants[int(rng.integers(0, len(variants)))]
        edits.set("search_query" if search else "page_url", row, write(person))
        planted.append(Planted(row, "pii", detail))
    return planted


def _duplicate(
    frame: pl.DataFrame, dataset: Dataset, rows: I64, planted: list[Planted], rng: np.random.Generator
) -> tuple[pl.DataFrame, list[Planted]]:
    """Put a copy after each of ``rows`` (ascending); half of them with other content under the same id."""
    if len(rows):
        copies = rows + 1 + np.arange(len(rows))
        order = np.insert(np.arange(frame.height), rows + 1, rows)
        changed = rng.permutation(np.arange(len(rows)) % 2).astype(np.bool_)
        frame = _change(frame[order], dataset, copies[changed])
        moved = [replace(p, position=p.position + int(np.searchsorted(rows, p.position))) for p in planted]
        details = np.where(changed, "changed", "verbatim").tolist()
        planted = moved + [Planted(c, "duplicate", d) for c, d in zip(copies.tolist(), details, strict=True)]
    return frame, sorted(planted, key=lambda p: p.position)


def _change(frame: pl.DataFrame, dataset: Dataset, rows: I64) -> pl.DataFrame:
    marked = pl.Series(np.isin(np.arange(frame.height), rows))
    if dataset == "users":
        status = pl.when(pl.col("account_status") == "active").then(pl.lit("inactive")).otherwise(pl.lit("active"))
        values = [status.alias("account_status"), pl.col("total_purchases") + 1]
    else:
        other = pl.col("browser").replace_strict(_OTHER_BROWSER, default="Chrome").alias("browser")
        values = [other, pl.col("duration_seconds").fill_null(0) + 1]
    return frame.with_columns(
        pl.when(marked).then(value).otherwise(pl.col(value.meta.output_name())).alias(value.meta.output_name())
        for value in values
    )


def _broken_json(line: str, rng: np.random.Generator) -> tuple[str, str]:
    return line[: 1 + int(len(line) * rng.uniform(0.2, 0.95))], "truncated"


def _broken_csv(line: str, rng: np.random.Generator) -> tuple[str, str]:
    cells = next(csv.reader([line]))
    if rng.random() < 0.5:
        return _csv_line(cells[: int(rng.integers(2, len(cells)))]), "too_few_columns"
    return _csv_line([*cells, *["extra"] * int(rng.integers(1, 4))]), "too_many_columns"


def _csv_line(cells: list[str]) -> str:
    out = io.StringIO()
    csv.writer(out, lineterminator="").writerow(cells)
    return out.getvalue()


def _mistype(line: str, dataset: Dataset, form: TextFormat, rng: np.random.Generator) -> tuple[str, str]:
    choices = _MISTYPED[dataset]
    column, word = choices[int(rng.integers(0, len(choices)))]
    if form == "jsonl":
        record = json.loads(line)
        record[column] = word
        return json.dumps(record, ensure_ascii=False, separators=(",", ":")), column
    cells = next(csv.reader([line]))
    cells[list(SCHEMAS[dataset]).index(column)] = word
    return _csv_line(cells), column
