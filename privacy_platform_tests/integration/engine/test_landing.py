"""Landing: nothing readable in raw, landing again changes nothing, bad rows in quarantine, drift stops the run."""

import gzip
import json
import secrets
from collections.abc import Callable
from pathlib import Path

import polars as pl
import pytest
from psycopg import Connection

from privacy_platform.engine.gate import GateError
from privacy_platform.engine.land import MAX_KEY_BYTES, MAX_REJECTS, QUARANTINE_DATASET, sealing_keys
from privacy_platform.engine.release_raw import NothingLandedError
from privacy_platform.engine.stage import TaskRefusedError
from privacy_platform.policy.model import DatasetPolicy
from privacy_platform.policy.tables import Partition
from privacy_platform.vault.keyring import load_keyring
from privacy_platform.vault.sealing import data_keys, unseal
from privacy_platform.warehouse.release import Release, staged_partitions
from privacy_platform.warehouse.tables import TableMismatchError
from privacy_platform_tests.integration.engine.support import (
    START,
    World,
    days,
    execute,
    exists,
    figures,
    people_policy,
    person,
    query,
    staging_is_empty,
    table,
    visit,
    visits_policy,
    with_field,
)

CHANGING = ("landed_at", "sealed")
# Of a run with nothing new: there are no values to look at.
NOT_RUN = ["data_match_policy"]


def quarantined(dataset: str) -> list[tuple[str, str, str]]:
    return query(
        "SELECT source, position, error FROM raw.quarantine WHERE dataset = %s ORDER BY source, position::bigint",
        dataset,
    )


def opened_quarantine(dataset: str) -> list[bytes]:
    rows = query(
        "SELECT salt, sealed, key_version FROM raw.quarantine WHERE dataset = %s ORDER BY position::bigint", dataset
    )
    salts, sealed, versions = (list(column) for column in zip(*rows, strict=True))
    keys = data_keys(pl.Series(salts), pl.Series(versions), sealing_keys(load_keyring()))
    records = pl.Series([salt.hex() for salt in salts])
    opened = unseal(pl.Series(sealed), keys, records, dataset=QUARANTINE_DATASET)
    return [bytes.fromhex(text.decode()) for text in opened]


def test_raw_shows_no_personal_value_and_landing_again_changes_nothing(world: World) -> None:
    policy = people_policy("land_twice")
    rows = [person(n) for n in range(30)]
    path = world.put("people.jsonl", rows)
    first = world.land(policy, path)
    assert (first.rows, first.table_rows) == (30, 30)
    before = table("raw.raw_land_twice")
    shown = str([{k: v for k, v in row.items() if k != "sealed"} for row in before])
    dumped = shown + str([bytes(row["sealed"]) for row in before])
    for row in rows:
        for name in policy.sealed_fields():
            value = row[name]
            assert not isinstance(value, str) or value not in dumped
    second = world.land(policy, path)
    assert figures(second, "new", "kept", "replaced") == {"new": 30, "kept": 0, "replaced": 30}
    assert table("raw.raw_land_twice", without=CHANGING) == [
        {name: value for name, value in row.items() if name not in CHANGING} for row in before
    ]
    assert query("SELECT count(*) FROM vault.subjects WHERE user_token IN (SELECT token FROM raw.raw_land_twice)") == [
        (30,)
    ]
    assert staging_is_empty()


def test_the_newer_record_wins_within_and_between_landings(world: World) -> None:
    policy = people_policy("land_newer")
    first = world.put("people_1.jsonl", [person(1, tier="a"), person(2, tier="a"), person(1, tier="b")])
    report = world.land(policy, first)
    assert figures(report, "read", "duplicates", "new") == {"read": 3, "duplicates": 1, "new": 2}
    second = world.put("people_2.jsonl", [person(2, tier="c"), person(3, tier="c"), person(3, tier="d")])
    report = world.land(policy, second)
    assert figures(report, "read", "duplicates", "new", "kept", "replaced") == {
        "read": 3,
        "duplicates": 1,
        "new": 2,
        "kept": 1,
        "replaced": 1,
    }
    assert sorted(row["tier"] for row in table("raw.raw_land_newer")) == ["b", "c", "d"]
    # Both files in one landing: the order of the files decides.
    report = world.land(people_policy("land_newer_2"), first, second)
    assert sorted(row["tier"] for row in table("raw.raw_land_newer_2")) == ["b", "c", "d"]
    assert report.statistics["duplicates"] == 3


def test_a_table_of_an_earlier_warehouse_keeps_its_partition_by_hash(world: World) -> None:
    policy = people_policy("land_hash")
    world.land(policy, world.put("old.jsonl", [person(n) for n in range(3)]))
    raw, key = "raw.raw_land_hash", policy.token_column
    execute(
        f"ALTER TABLE {raw} DETACH PARTITION {raw}_all; ALTER TABLE {raw} RENAME TO renamed; "
        f"CREATE TABLE {raw} (LIKE raw.renamed, PRIMARY KEY ({key})) PARTITION BY HASH ({key}); "
        f"DROP TABLE raw.renamed; ALTER TABLE {raw} OWNER TO privacy_pipeline; "
        f"ALTER TABLE {raw} ATTACH PARTITION {raw}_all FOR VALUES WITH (MODULUS 1, REMAINDER 0)"
    )
    report = world.land(policy, world.put("new.jsonl", [person(n) for n in range(2, 5)]))
    assert figures(report, "new", "kept", "replaced") == {"new": 3, "kept": 2, "replaced": 1}
    strategy = f"SELECT partstrat::text FROM pg_partitioned_table WHERE partrelid = '{raw}'::regclass"
    assert query(strategy) == [("h",)]
    assert staging_is_empty()


def test_quarantine_names_file_line_and_reason_and_can_be_opened(world: World) -> None:
    policy = people_policy("land_bad")
    bad: list[dict[str, object] | bytes] = [
        person(1),
        b"Maria is no JSON",
        person(2, age="forty"),
        person(3),
        person(4, joined="someday"),
        person(5, id=None),
        person(6, note={"text": "nested"}),
        person(7, spent=float("nan")),
        person(8),
        b"\xff\xfe",
        person(9, email="a\0b"),
    ]
    first = world.put("people_bad.jsonl", bad)
    csv = world.landing / "people_bad.csv"
    columns = list(person(0))
    csv.write_text(
        ",".join(columns) + "\n" + "only,three,columns\n" + ",".join(str(person(50)[c] or "") for c in columns) + "\n"
    )
    report = world.land(policy, first, csv)
    assert figures(report, "read", "quarantined", "new") == {"read": 13, "quarantined": 9, "new": 4}
    assert quarantined("land_bad") == [
        ("people_bad.csv", "2", "3 columns instead of 17"),
        ("people_bad.jsonl", "2", "not valid JSON"),
        ("people_bad.jsonl", "3", "age: not a valid integer"),
        ("people_bad.jsonl", "5", "joined: not a valid timestamp"),
        ("people_bad.jsonl", "6", "id: missing"),
        ("people_bad.jsonl", "7", "note: not a valid string"),
        ("people_bad.jsonl", "8", "not valid JSON"),
        ("people_bad.jsonl", "10", "not valid JSON"),
        ("people_bad.jsonl", "11", "email: not a valid string"),
    ]
    assert ("quarantine", "succeeded", {"rows": 9}) in world.actions()
    payloads = opened_quarantine("land_bad")
    assert b"Maria is no JSON" in payloads
    assert b"\xff\xfe" in payloads
    # Read again, the same rows are not quarantined twice; corrected, they leave the quarantine of their file only.
    world.land(policy, first, csv)
    assert len(quarantined("land_bad")) == 9
    world.land(policy, world.put("people_bad.jsonl", [person(n) for n in range(1, 10)]))
    assert quarantined("land_bad") == [("people_bad.csv", "2", "3 columns instead of 17")]


def test_blank_lines_and_line_ends_in_quotes_move_no_position(world: World) -> None:
    lines: list[dict[str, object] | bytes] = [b"", person(1), b"  ", b"?", person(2), b""]
    csv = world.landing / "people_blank.csv"
    pl.DataFrame([person(3, note="a\nb")]).write_csv(csv)
    with csv.open("a") as file:
        file.write("too,few\n")
    report = world.land(people_policy("land_blank"), world.put("people_blank.jsonl", lines), csv)
    wanted = {"read": 8, "blank": 3, "quarantined": 2, "new": 3}
    assert figures(report, *wanted) == wanted
    assert [(source, position) for source, position, _ in quarantined("land_blank")] == [
        ("people_blank.csv", "4"),
        ("people_blank.jsonl", "4"),
    ]


def test_lines_are_counted_over_the_splits_of_a_file(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("privacy_platform.engine.sources.splits._SPLIT_BYTES", (1000, 1500))
    rows: list[dict[str, object] | bytes] = [person(n) if n % 10 else b"?" for n in range(60)]
    report = world.land(people_policy("land_split"), world.put("people_split.jsonl", rows))
    assert figures(report, "read", "new", "quarantined") == {"read": 60, "new": 54, "quarantined": 6}
    assert [int(position) for _, position, _ in quarantined("land_split")] == [1, 11, 21, 31, 41, 51]


def test_many_small_files_are_landed_together_and_their_bad_lines_found(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("privacy_platform.engine.sources.splits._FILE_BYTES", 10)
    files = []
    for number in range(30):
        rows: list[dict[str, object] | bytes] = [
            person(3 * number),
            person(3 * number + 1),
            b"?",
            person(3 * number + 2),
        ]
        files.append(world.put(f"people_small_{number:02d}.jsonl", rows[2:] if number % 3 else rows))
    files.append(world.put("people_small_last.csv", [b"id,email", b"person-99999,given@example.org", b"x"]))
    report = world.land(people_policy("land_small", quarantine_limit=1), *files)
    assert figures(report, "read", "new", "quarantined") == {"read": 82, "new": 51, "quarantined": 31}
    places = [(source, position) for source, position, _ in quarantined("land_small")]
    assert sorted(places) == sorted(
        [(f"people_small_{n:02d}.jsonl", "1" if n % 3 else "3") for n in range(30)] + [("people_small_last.csv", "3")]
    )
    # What a file holds is replaced when it is read again, in a group or not.
    again = world.land(people_policy("land_small", quarantine_limit=1), files[0])
    assert figures(again, "read", "quarantined") == {"read": 4, "quarantined": 1}
    assert len(quarantined("land_small")) == 31


def test_a_line_too_long_is_quarantined_with_its_beginning_and_the_rest_lands(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("privacy_platform.engine.sources.splits._SPLIT_BYTES", (2**20, 2**20))
    long = b'{"id":"' + b"z" * (17 * 2**20) + b'"}'
    report = world.land(people_policy("land_long"), world.put("people_long.jsonl", [person(1), long, person(2), b"?"]))
    assert figures(report, "read", "new", "quarantined") == {"read": 4, "new": 2, "quarantined": 2}
    found = quarantined("land_long")
    assert [position for _, position, _ in found] == ["2", "4"]
    assert found[0][2] == "longer than 16777216 bytes; only its beginning is kept here"
    ((size,),) = query("SELECT max(octet_length(sealed)) FROM raw.quarantine WHERE dataset = 'land_long'")
    assert 100_000 < size < 200_000


def test_a_key_that_no_index_takes_is_quarantined_and_one_as_long_as_it_may_be_lands(world: World) -> None:
    policy = visits_policy("land_keys", "land_keys_people")
    rows = [visit(n, 5, days=1) for n in range(3)]
    # Random, for what repeats is compressed in an index.
    rows[1]["visit"], rows[2]["visit"] = (secrets.token_hex(size // 2) for size in (MAX_KEY_BYTES + 2, MAX_KEY_BYTES))
    report = world.land(policy, world.put("visits_keys.jsonl", rows), selected=days(1))
    assert figures(report, "read", "new", "quarantined") == {"read": 3, "new": 2, "quarantined": 1}
    assert [row[1:] for row in quarantined("land_keys")] == [("2", f"visit: longer than {MAX_KEY_BYTES} bytes")]


def test_a_file_that_is_mostly_no_data_is_given_up_and_named(world: World) -> None:
    path = world.put("people_bomb.jsonl.gz", [])
    path.write_bytes(gzip.compress(json.dumps(person(1)).encode() + b"\n" + b"{}\n" * (MAX_REJECTS + 50_000)))
    with pytest.raises(TaskRefusedError, match=r"people_bomb\.jsonl\.gz: 1\d{5} of 1\d{5} records do not fit .* raise"):
        world.land(people_policy("land_bomb"), path)
    assert staging_is_empty()


def test_a_source_whose_columns_are_values_names_a_few_of_them(world: World) -> None:
    rows = [person(n) | {f"column_of_{'abcdefghij'[n % 10]}{'abcdefghij'[n // 10]}": 1} for n in range(100)]
    with pytest.raises(GateError, match="and 90 columns more") as caught:
        world.land(people_policy("land_names"), world.put("people_names.jsonl", rows))
    assert len(str(caught.value)) < 2500


@pytest.mark.parametrize(
    ("line", "named"),
    [
        (json.dumps(person(7) | {"shoe_size": 42}).encode(), "`shoe_size`"),
        (json.dumps(person(7) | {"maria@example.org": 1}).encode(), "(a name that is not an identifier)"),
    ],
)
def test_a_new_column_stops_the_run_with_its_name(world: World, line: bytes, named: str) -> None:
    policy = people_policy("land_drift")
    world.land(policy, world.put("people_ok.jsonl", [person(1), person(2)]))
    before = table("raw.raw_land_drift")
    with pytest.raises(GateError) as caught:
        world.land(policy, world.put("people_drift.jsonl", [person(3), line, b"?"]))
    assert named in str(caught.value)
    assert "maria" not in str(caught.value)
    assert table("raw.raw_land_drift") == before
    assert quarantined("land_drift") == []
    assert staging_is_empty()
    ((action, outcome, details),) = world.actions()
    assert (action, outcome, details["check"]) == ("check_failed", "refused", "schema_matches_policy")
    assert named in details["message"]


def test_a_column_of_another_type_stops_the_run_with_its_name(world: World) -> None:
    rows = [person(n, age=f"about {n}") for n in range(20)]
    with pytest.raises(GateError, match=r"20 of 20 rows do not fit the policy, most of them for `age`"):
        world.land(people_policy("land_type"), world.put("people_type.jsonl", rows))
    assert not exists("raw.raw_land_type")
    assert staging_is_empty()


def test_a_broken_file_stops_the_run_with_its_name(world: World) -> None:
    path = world.landing / "people_cut.jsonl.gz"
    path.write_bytes(gzip.compress(json.dumps(person(1)).encode() * 100)[:-20])
    with pytest.raises(TaskRefusedError, match=r"people_cut\.jsonl\.gz: cannot be read") as caught:
        world.land(people_policy("land_cut"), path)
    assert "Zebediah" not in str(caught.value)
    assert not exists("raw.raw_land_cut")
    assert staging_is_empty()


def test_without_files_a_table_stands_or_the_mend_is_named(world: World) -> None:
    policy = people_policy("land_none")
    with pytest.raises(NothingLandedError, match=r"no file named `people\*`"):
        world.land(policy)
    world.land(policy, world.put("people_none.jsonl", [person(1)]))
    report = world.land(policy)
    assert (report.released, report.table_rows) == (False, 1)
    assert [check.name for check in report.checks if not check.passed] == NOT_RUN
    assert not any(check.failed for check in report.checks)


@pytest.mark.parametrize(
    ("tampering", "failing"),
    [
        ("DELETE FROM raw.raw_{} WHERE orders = 1", {"row_count_reconciled"}),
        ("UPDATE raw.raw_{} SET token = 'tok_' || repeat('0', 32) WHERE orders = 1", {"tokens_resolve"}),
        ("ALTER TABLE raw.raw_{} RENAME tier TO stage", {"schema_matches_policy"}),
    ],
)
def test_with_nothing_new_an_altered_table_turns_the_run_red(world: World, tampering: str, failing: set[str]) -> None:
    policy = people_policy(f"land_altered_{world.age}")
    world.land(policy, world.put("people_altered.jsonl", [person(n) for n in range(5)]))
    assert [check.name for check in world.land(policy).checks if not check.passed] == NOT_RUN
    execute(tampering.format(policy.dataset))
    with pytest.raises(GateError, match="has nothing new, and what stands does not pass") as caught:
        world.land(policy)
    assert {check.name for check in caught.value.checks if check.failed} == failing
    assert {details["check"] for _, _, details in world.actions()} == failing


def test_an_erasure_on_record_explains_the_missing_rows(world: World) -> None:
    policy = people_policy("land_erased")
    world.land(policy, world.put("people_erased.jsonl", [person(n, id=f"leaving-{n}") for n in range(5)]))
    ((token,),) = query("DELETE FROM raw.raw_land_erased WHERE orders = 3 RETURNING token")
    execute("DELETE FROM vault.subjects WHERE user_token = %s", token)
    with pytest.raises(GateError, match="4 rows stand, 5 were released and 0 erasures are on record"):
        world.land(policy)
    execute(
        "INSERT INTO governance.privacy_audit_log (action, subject_table, outcome, details) "
        "VALUES ('erase', 'raw.raw_land_erased', 'succeeded', '{\"rows\": 1}')"
    )
    assert [check.name for check in world.land(policy).checks if not check.passed] == NOT_RUN


def test_a_standing_record_that_is_lost_is_not_taken_for_replaced(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    policy = people_policy("land_lost")
    world.land(policy, world.put("people_lost.jsonl", [person(n) for n in range(5)]))
    execute(
        "CREATE OR REPLACE FUNCTION staging.lose() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN NULL; END $$"
    )

    def losing(connection: Connection, release: Release) -> list[Partition]:
        filled = staged_partitions(connection, release)
        name = release.partition(filled[0])
        connection.execute(
            f'CREATE TRIGGER lose BEFORE INSERT ON staging."{name}" FOR EACH ROW WHEN (NEW.orders = 3) '
            "EXECUTE FUNCTION staging.lose()"
        )
        return filled

    monkeypatch.setattr("privacy_platform.engine.release_raw.staged_partitions", losing)
    before = table("raw.raw_land_lost")
    try:
        with pytest.raises(GateError, match=r"row_count_reconciled: 5 standing, but 3 kept \+ 1 replaced: 1 rows"):
            world.land(policy, world.put("people_lost.jsonl", [person(1)]))
    finally:
        execute("DROP FUNCTION staging.lose CASCADE")
    assert table("raw.raw_land_lost") == before


def test_days_are_landed_as_selected_and_the_rest_later(world: World) -> None:
    people, policy = people_policy("day_people"), visits_policy("day_visits", "day_people")
    world.land(people, world.put("people_day.jsonl", [person(n) for n in range(5)]))
    rows = [visit(n, 5) for n in range(30)]
    rows += [visit(3, 5, price=99.0), visit(90, 5, at="2024-02-29T23:59:59Z"), visit(91, 5, at="9999-01-01T00:00:00Z")]
    path = world.put("visits_day.jsonl", rows)
    report = world.land(policy, path, selected=days(1))
    assert [partition.day for partition in report.partitions] == [START]
    assert figures(report, "read", "not_selected", "duplicates", "quarantined", "new") == {
        "read": 33,
        "not_selected": 20,
        "duplicates": 1,
        "quarantined": 2,
        "new": 10,
    }
    assert [error for *_, error in quarantined("day_visits")] == [
        f"at: outside the partitions, {START} to {report_day(policy)}"
    ] * 2
    report = world.land(policy, path, selected=days(3))
    assert figures(report, "already_landed", "new", "duplicates") == {
        "already_landed": 10,
        "new": 20,
        "duplicates": 1,
    }
    landed = table("raw.raw_day_visits")
    assert sorted(row["visit"] for row in landed) == sorted(f"v{n}" for n in range(30))
    assert 99.0 not in {row["price"] for row in landed}
    assert len(quarantined("day_visits")) == 2
    assert [
        name
        for (name,) in query(
            "SELECT inhrelid::regclass::text FROM pg_inherits "
            "WHERE inhparent = 'raw.raw_day_visits'::regclass ORDER BY 1"
        )
    ] == [f"raw.raw_day_visits_2024030{day}" for day in (1, 2, 3)]


def report_day(policy: DatasetPolicy) -> str:
    ((day,),) = query(
        "SELECT DISTINCT quarantined_at::date::text FROM raw.quarantine WHERE dataset = %s", policy.dataset
    )
    return str(day)


@pytest.mark.parametrize(
    "change",
    [
        lambda policy: with_field(policy, "extra", type="string", sensitivity="none", technique="keep"),
        lambda policy: with_field(policy, "tier", technique=None),
        lambda policy: with_field(policy, "tier", sensitivity="high", technique="hmac"),
        lambda policy: with_field(policy, "orders", type="number"),
        lambda policy: policy.model_copy(update={"key": "tier"}),
    ],
)
def test_a_changed_policy_does_not_mix_with_standing_records(
    world: World, change: Callable[[DatasetPolicy], DatasetPolicy]
) -> None:
    policy = people_policy("land_change")
    path = world.put("people_change.jsonl", [person(1)])
    if not exists("raw.raw_land_change"):
        world.land(policy, path)
    before = table("raw.raw_land_change")
    with pytest.raises(TableMismatchError, match="was landed under another policy"):
        world.land(change(policy), path)
    assert table("raw.raw_land_change") == before


def test_a_parquet_and_a_csv_file_land_like_json(world: World) -> None:
    rows = [person(n) for n in range(12)]
    paths: dict[str, Path] = {"jsonl": world.put("people_f.jsonl", rows)}
    frame = pl.DataFrame(rows)
    paths["parquet"], paths["csv"] = world.landing / "people_f.parquet", world.landing / "people_f.csv"
    frame.write_parquet(paths["parquet"])
    frame.write_csv(paths["csv"])
    landed = {}
    for kind, path in paths.items():
        world.land(people_policy(f"land_{kind}"), path)
        landed[kind] = table(f"raw.raw_land_{kind}", without=CHANGING)
    assert landed["csv"] == landed["parquet"] == landed["jsonl"]


# --- the detector --------------------------------------------------------------------------------------------------


def test_a_hidden_email_column_stops_the_landing_with_its_name(world: World) -> None:
    policy = with_field(people_policy("land_hidden"), "c7", type="string", sensitivity="none", technique="keep")
    rows = [person(n, c7=f"given{n}@example.org") for n in range(10)]
    with pytest.raises(GateError, match="`c7` is published by `keep` and looks like email") as caught:
        world.land(policy, world.put("people_hidden.jsonl", rows))
    assert "example.org" not in str(caught.value)
    assert not exists("raw.raw_land_hidden")
    assert staging_is_empty()


def test_an_override_with_a_reason_lets_it_through(world: World) -> None:
    override = {"type": "email", "reason": "Addresses of our own shops."}
    policy = with_field(
        people_policy("land_overridden"), "c7", type="string", sensitivity="none", technique="keep", override=override
    )
    rows = [person(n, c7=f"shop{n}@example.org") for n in range(10)]
    assert world.land(policy, world.put("people_overridden.jsonl", rows)).rows == 10
