"""The generator's promises: same arguments, same bytes; believable rows; the same rows in every format."""

import csv
import gzip
import hashlib
import ipaddress
import json
import os
import subprocess
import sys
from collections import defaultdict
from datetime import date
from pathlib import Path

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from privacy_platform.synthetic import GenerationError, generate
from privacy_platform.synthetic.events import EVENT_SCHEMA, EVENT_WEIGHTS, plan
from privacy_platform.synthetic.pools import ascii_fold, cities, names
from privacy_platform.synthetic.users import USER_SCHEMA

ROOT = Path(__file__).parents[3]
DATA = ROOT / "privacy_platform"
SCHEMAS = {"users": USER_SCHEMA, "events": EVENT_SCHEMA}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("made")
    generate(users=20_000, events=60_000, out=out, seed=7)
    return out


@pytest.fixture(scope="module")
def users(made: Path) -> pl.DataFrame:
    return pl.read_ndjson(made / "users.jsonl", schema=USER_SCHEMA)


@pytest.fixture(scope="module")
def events(made: Path) -> pl.DataFrame:
    return pl.read_ndjson(made / "events.jsonl", schema=EVENT_SCHEMA)


def digests(folder: Path) -> dict[str, str]:
    return {p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in sorted(folder.iterdir())}


@pytest.mark.parametrize("form", ["jsonl", "csv", "parquet"])
def test_same_arguments_give_same_bytes(tmp_path: Path, form: str) -> None:
    for run in ("a", "b", "other"):
        generate(
            users=500,
            events=2_000,
            out=tmp_path / run,
            format=form,
            seed=run == "other",
            dirty=0.05,
            compress=True,
        )
    assert digests(tmp_path / "a") == digests(tmp_path / "b")
    assert set(digests(tmp_path / "a").values()).isdisjoint(digests(tmp_path / "other").values())


def test_same_bytes_in_another_process(tmp_path: Path) -> None:
    generate(users=300, events=900, out=tmp_path / "here", seed=3, dirty=0.1, days=3)
    code = (
        "import sys, pathlib; from privacy_platform.synthetic import generate;"
        "generate(users=300, events=900, out=pathlib.Path(sys.argv[1]), seed=3, dirty=0.1, days=3)"
    )
    environment = {**os.environ, "PYTHONHASHSEED": "12345", "POLARS_MAX_THREADS": "1", "TZ": "Asia/Tokyo"}
    subprocess.run([sys.executable, "-c", code, str(tmp_path / "there")], check=True, cwd=ROOT, env=environment)
    assert digests(tmp_path / "here") == digests(tmp_path / "there")


def test_users_do_not_depend_on_how_many_there_are(tmp_path: Path, users: pl.DataFrame) -> None:
    generate(users=50, events=0, out=tmp_path, seed=7)
    assert_frame_equal(pl.read_ndjson(tmp_path / "users.jsonl", schema=USER_SCHEMA), users.head(50))


@pytest.mark.parametrize(("form", "compress"), [("jsonl", True), ("csv", False), ("csv", True), ("parquet", False)])
def test_every_format_holds_the_same_rows(
    tmp_path: Path, users: pl.DataFrame, events: pl.DataFrame, form: str, compress: bool
) -> None:
    report = generate(users=20_000, events=60_000, out=tmp_path, seed=7, format=form, compress=compress)
    for file, expected in zip(report.files, (users, events), strict=True):
        raw = gzip.decompress(file.path.read_bytes()) if compress else file.path.read_bytes()
        if form == "jsonl":
            got = pl.read_ndjson(raw, schema=SCHEMAS[file.dataset])
        elif form == "csv":
            got = pl.read_csv(raw, schema=SCHEMAS[file.dataset])
        else:
            got = pl.read_parquet(file.path)
            stamps = [name for name, kind in got.schema.items() if kind == pl.Datetime("ms", "UTC")]
            assert stamps == (["created_at", "last_login"] if file.dataset == "users" else ["timestamp"])
            fraction = "" if file.dataset == "users" else "%.3f"
            got = got.with_columns(pl.col(stamps).dt.strftime(f"%Y-%m-%dT%H:%M:%S{fraction}Z"))
        assert_frame_equal(got, expected)
        assert file.rows == expected.height
        assert file.size == file.path.stat().st_size


def test_compressed_files_are_read_by_polars(tmp_path: Path) -> None:
    report = generate(users=70_000, events=0, out=tmp_path, compress=True)  # two chunks in one gzip member
    assert pl.scan_ndjson(report.files[0].path, schema=USER_SCHEMA).select(pl.len()).collect().item() == 70_000


def test_every_key_is_present_in_every_line(made: Path) -> None:
    for name, schema in SCHEMAS.items():
        with (made / f"{name}.jsonl").open(encoding="utf-8") as lines:
            for _, line in zip(range(200), lines, strict=False):
                assert list(json.loads(line)) == list(schema)


def test_identifiers_are_unique(users: pl.DataFrame, events: pl.DataFrame) -> None:
    assert users["user_id"].is_unique().all()
    assert users["email"].is_unique().all()
    assert events["event_id"].is_unique().all()
    assert users["user_id"][0] == "user_000001"
    assert events["event_id"].str.contains(r"^evt_[0-9a-f]{16}$").all()


def test_city_state_postcode_and_phone_agree(users: pl.DataFrame) -> None:
    with (DATA / "synthetic/cities.csv").open(encoding="utf-8", newline="") as file:
        rows = {row["city"]: row for row in csv.DictReader(file)}
    table = cities()
    codes = defaultdict(set)
    for n, city in enumerate(table.city):
        start = int(table.postcode_start[n])
        codes[city] = set(table.postcodes[start : start + int(table.postcode_count[n])].to_list())
    for user in users.head(3_000).iter_rows(named=True):
        row = rows[user["city"]]
        assert user["state"] == row["state"]
        assert user["zip_code"] in codes[user["city"]]
        expected = "".join(c for c in row["phone"].split("#")[0] if c.isdigit())
        digits = "".join(c for c in user["phone"] if c.isdigit())
        assert digits.startswith((expected, expected.removeprefix("1")))
    diego = users.filter(pl.col("city") == "San Diego")
    assert diego["state"].unique().to_list() == ["CA"]
    assert diego["zip_code"].str.contains("^921").all()


def test_about_85_percent_are_in_the_united_states(users: pl.DataFrame) -> None:
    with (DATA / "synthetic/cities.csv").open(encoding="utf-8", newline="") as file:
        american = [row["city"] for row in csv.DictReader(file) if row["country"] == "United States"]
    assert users["city"].is_in(american).mean() == pytest.approx(0.85, abs=0.01)


def test_email_follows_the_name(users: pl.DataFrame) -> None:
    for user in users.head(2_000).iter_rows(named=True):
        local, domain = user["email"].split("@")
        assert domain.split(".", domain.count(".") - 1)[-1] in {
            "example.com",
            "example.org",
            "example.net",
            "example.edu",
        }
        assert local.isascii()
        if ascii_fold(user["last_name"]) and user["last_name"][0].isascii():
            assert ascii_fold(user["last_name"]) in local
    assert not users["first_name"].str.contains(r"^[\x00-\x7f]*$").all()


def test_dates_are_in_order_and_in_range(users: pl.DataFrame, events: pl.DataFrame) -> None:
    assert (users["created_at"] <= users["last_login"]).all()
    assert users["last_login"].max() < "2026-07-01"
    assert users["created_at"].str.contains(r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ$").all()
    assert users["created_at"].max() < "2026-06-01"
    assert events["timestamp"].str.contains(r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$").all()
    assert events["timestamp"].str.slice(0, 10).n_unique() == 30
    assert events["timestamp"].min() >= "2026-06-01"
    assert events["timestamp"].max() < "2026-07-01"
    assert events["timestamp"].is_sorted()


def test_values_are_believable(users: pl.DataFrame) -> None:
    assert users["age"].is_between(13, 95).all()
    assert users["age"].n_unique() > 70
    by_tier = users.group_by("subscription_tier").agg(pl.col("lifetime_value", "total_purchases").mean())
    rank = {"free": 0, "basic": 1, "premium": 2, "enterprise": 3}
    ordered = by_tier.sort(pl.col("subscription_tier").replace_strict(rank))
    assert ordered["lifetime_value"].is_sorted()
    assert ordered["total_purchases"].is_sorted()
    assert (users["lifetime_value"].round(2) == users["lifetime_value"]).all()
    assert set(users["gender"]) == {"female", "male", "non-binary", "undisclosed"}
    assert set(users["account_status"]) == {"active", "inactive", "suspended"}
    versions = [ipaddress.ip_address(ip).version for ip in users["ip_address"].head(5_000)]
    assert versions.count(6) / len(versions) == pytest.approx(0.08, abs=0.02)
    six = users.filter(pl.col("ip_address").str.contains(":"))["ip_address"].head(200)
    assert all(str(ipaddress.ip_address(ip)) == ip for ip in six)


def test_event_types_have_their_weights(events: pl.DataFrame) -> None:
    counts = dict(events["event_type"].value_counts().iter_rows())
    for kind, weight in EVENT_WEIGHTS.items():
        assert counts[kind] / events.height == pytest.approx(weight / sum(EVENT_WEIGHTS.values()), abs=0.01)


def test_fields_apply_to_their_events_only(events: pl.DataFrame) -> None:
    kind = pl.col("event_type")
    ordered = kind.is_in(["add_to_cart", "purchase"])
    video = kind.is_in(["video_play", "video_complete"])
    rules = {
        "search": pl.col("search_query").is_not_null() == (kind == "search"),
        "price": pl.col("price").is_not_null() == ordered,
        "quantity": pl.col("quantity").is_not_null() == ordered,
        "video": pl.col("video_id").is_not_null() == video,
        "duration": pl.col("duration_seconds").is_not_null() == (video | (kind == "page_view")),
        "page": pl.col("page_url").str.starts_with("/products/prod_").not_()
        | (pl.col("page_url") == "/products/" + pl.col("product_id")),
        "one price": pl.col("price").n_unique().over("product_id", ordered) == 1,
    }
    for name, rule in rules.items():
        assert events.select(rule.all()).item(), name
    needed = [
        "event_id",
        "user_id",
        "event_type",
        "timestamp",
        "page_url",
        "device_type",
        "browser",
        "session_id",
        "ip_address",
    ]
    assert events.select(needed).null_count().sum_horizontal().item() == 0


def test_a_session_belongs_to_one_user_device_browser_and_address(events: pl.DataFrame) -> None:
    spread = events.group_by("session_id").agg(pl.col("user_id", "device_type", "browser", "ip_address").n_unique())
    assert spread.drop("session_id").max().row(0) == (1, 1, 1, 1)


def test_events_refer_to_users_and_mostly_to_their_address(users: pl.DataFrame, events: pl.DataFrame) -> None:
    joined = events.join(users.select("user_id", home="ip_address"), on="user_id", how="left")
    assert joined["home"].null_count() == 0
    assert 0.8 < (joined["home"] == joined["ip_address"]).mean() < 0.95


def test_activity_has_a_long_tail(events: pl.DataFrame) -> None:
    counts = events["user_id"].value_counts(sort=True)["count"]
    top = counts.head(counts.len() // 10).sum() / events.height
    assert top > 0.3
    assert counts.median() < counts.mean()


def test_clean_searches_hold_no_name(events: pl.DataFrame) -> None:
    pool = names()
    taken = {word for s in (pool.first, pool.last, pool.first_ascii) for n in s for word in n.casefold().split()}
    words = {word for query in events["search_query"].drop_nulls() for word in query.split()}
    assert words.isdisjoint(taken)


def test_split_by_day_puts_each_day_in_its_file(tmp_path: Path, events: pl.DataFrame) -> None:
    report = generate(users=20_000, events=60_000, out=tmp_path, seed=7, split_by_day=True)
    parts = [file for file in report.files if file.dataset == "events"]
    assert len(parts) == 30
    for file in parts:
        day = file.path.stem.removeprefix("events-")
        assert pl.read_ndjson(file.path, schema=EVENT_SCHEMA)["timestamp"].str.starts_with(day).all()
    whole = b"".join(file.path.read_bytes() for file in parts)
    assert_frame_equal(pl.read_ndjson(whole, schema=EVENT_SCHEMA), events)


def test_a_busy_day_is_cut_into_slices_that_add_up() -> None:
    slices = plan(500_000, date(2026, 6, 30), 1)
    assert len(slices) == 8
    assert sum(part.rows for part in slices) == 500_000
    assert [part.first_event for part in slices] == [sum(p.rows for p in slices[:n]) for n in range(8)]


def test_empty_data_sets_still_have_their_files(tmp_path: Path) -> None:
    for form in ("jsonl", "csv", "parquet"):
        report = generate(users=0, events=0, out=tmp_path, format=form)
        assert report.rows == {f"users.{form}": 0, f"events.{form}": 0}
    assert pl.read_parquet(tmp_path / "events.parquet").columns == list(EVENT_SCHEMA)
    assert (tmp_path / "users.csv").read_text().strip() == ",".join(USER_SCHEMA)


def test_progress_reaches_the_total(tmp_path: Path) -> None:
    seen: list[tuple[str, int, int]] = []
    generate(users=10, events=100, out=tmp_path, progress=lambda *step: seen.append(step))
    assert seen[0] == ("users", 10, 10)
    assert seen[-1] == ("events", 100, 100)


def test_a_failed_run_leaves_nothing_and_keeps_the_old_file(tmp_path: Path) -> None:
    generate(users=10, events=10, out=tmp_path)
    before = digests(tmp_path)

    def stop(dataset: str, done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        generate(users=20, events=20, out=tmp_path, progress=stop)
    assert digests(tmp_path) == before


@pytest.mark.parametrize(
    "bad",
    [
        {"users": -1},
        {"users": 0},
        {"dirty": 1.5},
        {"days": 0},
        {"format": "xml"},
        {"seed": -1},
        {"events": -1},
    ],
)
def test_unusable_arguments_are_refused(tmp_path: Path, bad: dict[str, object]) -> None:
    with pytest.raises(GenerationError, match="give"):
        generate(**{"users": 5, "events": 5, "out": tmp_path, **bad})  # type: ignore[arg-type]


def test_hierarchy_covers_every_city_and_is_a_tree() -> None:
    with (DATA / "policies/hierarchies/city.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    leaves = [row["city"].casefold() for row in rows]
    assert len(leaves) == len(set(leaves))
    countries = defaultdict(set)
    for row in rows:
        countries[row["region"]].add(row["country"])
    assert all(len(found) == 1 for found in countries.values())
    assert set(cities().city.str.to_lowercase()) <= set(leaves)
    assert {row["region"] for row in rows if row["city"] == "San Diego"} == {"West"}
    with (DATA / "synthetic/cities.csv").open(encoding="utf-8", newline="") as file:
        regions = {row["city"]: row["region"] for row in csv.DictReader(file)}
    assert all(regions.get(row["city"], row["region"]) == row["region"] for row in rows)
