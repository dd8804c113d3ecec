"""Anonymizing: what the policy says comes out, and nothing comes out when any of it would be personal."""

import hashlib
import hmac
import itertools
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from adbc_driver_manager import Error as AdbcError
from psycopg.errors import InsufficientPrivilege

from privacy_platform.anonymization import techniques
from privacy_platform.engine import gate, release_raw
from privacy_platform.engine.anonymize import AnonymizeTask, output_rules
from privacy_platform.engine.gate import GateError, WarehouseError, releasing
from privacy_platform.engine.release_anonymized import UpstreamMissingError, check_names
from privacy_platform.engine.sources import zone
from privacy_platform.engine.sources.zone import subject_splits, zone_splits
from privacy_platform.engine.stage import TaskRefusedError
from privacy_platform.engine.standing import anonymized_again
from privacy_platform.policy.compile import anonymized_table, raw_table
from privacy_platform.policy.model import DatasetPolicy
from privacy_platform.policy.tables import WHOLE
from privacy_platform.vault.keyring import Purpose, load_keyring
from privacy_platform.warehouse.checks import raw_pii_check, tokens_check
from privacy_platform.warehouse.connection import Role, connect
from privacy_platform.warehouse.release import Release, ReleaseBusyError, open_staging
from privacy_platform.warehouse.tables import (
    TableMismatchError,
    expected_shape,
    index_columns,
    must_be_remade,
    partition_name,
    partitions,
    standing_shape,
)
from privacy_platform_tests.integration.engine.support import (
    PEOPLE,
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

BASE = people_policy("base")
PERSONAL = [name for name, field in PEOPLE["fields"].items() if field["sensitivity"] in ("high", "medium")]


@pytest.fixture(scope="module")
def landed(world: World) -> World:
    """Raw people and visits, sixty and two hundred; nothing anonymized yet."""
    world.land(BASE, world.put("people.jsonl", [person(n) for n in range(60)]))
    return world


@contextmanager
def unpublished(world: World, name: str) -> Iterator[None]:
    """Whatever happens in the block, the table is afterwards as before and staging is empty."""
    before = table(name) if exists(name) else None
    yield
    assert (table(name) if exists(name) else None) == before
    assert staging_is_empty()


def test_every_field_meets_its_fate(landed: World) -> None:
    report = landed.anonymize(BASE)
    assert figures(report, "read", "staged", "erased") == {"read": 60, "staged": 60, "erased": 0}
    assert {check.name for check in report.checks} == {
        "schema_matches_policy",
        "no_raw_pii",
        "row_count_reconciled",
        "tokens_resolve",
    }
    rows = {row["orders"]: row for row in table("anonymized.anonymized_base")}
    row = rows[37]
    assert row["token"].startswith("tok_")
    assert len(row["email_hash"]) == len(row["name_hash"]) == len(row["seen_hash"]) == len(row["born_hash"]) == 64
    assert {name: row[name] for name in list(row)[3:] if not name.endswith("_hash") and name != "anonymized_at"} == {
        "age_range": "30-59",
        "region": "Northeast",
        "zip_prefix": "920**",
        "network": "10.1.37.0",
        "phone_end": "***-***-0037",
        "weight_range": "70+",
        "note": "call [NAME] or write [EMAIL]",
        "tier": "basic",
        "joined": datetime(2025, 2, 15, tzinfo=UTC),
        "spent": 46.25,
        "orders": 37,
        "active": True,
    }
    assert rows[36]["seen_hash"] is None


def test_anonymizing_again_keeps_joins_and_unlinks_hashes(landed: World) -> None:
    landed.anonymize(BASE)
    first = table("anonymized.anonymized_base")
    landed.anonymize(BASE)
    second = table("anonymized.anonymized_base")
    unlinked = {"name_hash", "born_hash", "anonymized_at"}
    for before, after in zip(first, second, strict=True):
        assert {name for name in before if before[name] != after[name]} == unlinked
    assert len({row["name_hash"] for row in second}) == 60


def test_a_dictionary_without_the_keys_matches_nothing_of_a_release(landed: World) -> None:
    """Every candidate known, every column readable, the database's own contents at hand: no hash or token is made."""
    landed.anonymize(BASE)
    rows = table("anonymized.anonymized_base")
    published = {row[name] for row in rows for name in ("token", "email_hash", "name_hash")}
    candidates = [str(value) for n in range(60) for name, value in person(n).items() if name in ("id", "email", "name")]
    [(digest,)] = query("SELECT encode(digest, 'hex') FROM vault.keyring_check")
    keys = ["", "secret", BASE.dataset, digest, *sorted(published)[:20]]

    def digests(value: str, key: str) -> set[str]:
        forms = (key.encode(), hashlib.sha256(key.encode()).digest())
        keyed = [hmac.digest(form, value.encode(), "sha256").hex() for form in forms]
        plain = [hashlib.new(kind, (key + value).encode()).hexdigest() for kind in ("sha256", "sha1", "md5")]
        return {text for digest in (*keyed, *plain) for text in (digest, f"tok_{digest[:32]}")}

    assert len(published) == 180
    assert not published & {text for value in candidates for key in keys for text in digests(value, key)}
    # The attack is right: whoever holds the keys succeeds, but for names, whose salt is gone.
    keyring = load_keyring()
    known = [keyring.secret(purpose) for purpose in (Purpose.TOKEN, Purpose.HMAC)]
    matched = published & {text for value in candidates for key in known for text in digests(value, key)}
    assert matched == {row[name] for row in rows for name in ("token", "email_hash")}


@pytest.mark.parametrize("name", PERSONAL)
def test_a_personal_field_that_is_kept_is_refused_by_name(landed: World, name: str) -> None:
    if name == BASE.subject:
        with pytest.raises(ValueError, match="tokenize"):
            with_field(BASE, name, technique="keep")
        return
    policy = with_field(BASE, name, technique="keep")
    with unpublished(landed, "anonymized.anonymized_base"), pytest.raises(GateError) as caught:
        landed.anonymize(policy)
    assert f"field `{name}`" in str(caught.value)
    ((action, outcome, details),) = landed.actions()
    assert (action, outcome, details["check"]) == ("check_failed", "refused", "no_raw_pii")
    assert f"`{name}`" in details["message"]


def identity(
    self: object, column: pl.Expr, *, secrets: object, context: Mapping[str, pl.Expr] | None = None, **_: object
) -> pl.Expr:
    """What a technique does that has been broken."""
    return column.cast(pl.String)


@pytest.mark.parametrize(
    ("technique", "columns"),
    [
        ("Hmac", {"email_hash", "seen_hash"}),
        ("Hash", {"name_hash", "born_hash"}),
        ("Bucket", {"age_range", "weight_range"}),
        ("Generalize", {"region"}),
        ("MaskZip", {"zip_prefix"}),
        ("MaskIp", {"network"}),
        ("MaskPhone", {"phone_end"}),
        ("Scrub", {"note"}),
    ],
)
def test_a_broken_kernel_is_caught_on_the_rows_it_made(
    landed: World, monkeypatch: pytest.MonkeyPatch, technique: str, columns: set[str]
) -> None:
    table_ = anonymized_table(BASE)
    with releasing(table_) as connection:
        release = Release(table_, (WHOLE,))
        open_staging(connection, release)
        (split,) = zone_splits(connection, raw_table(BASE), (WHOLE,), parallelism=1)
        connection.commit()
        monkeypatch.setattr(getattr(techniques, technique), "expr", identity)
        statistics = AnonymizeTask(BASE, release, "r", datetime.now(UTC))(split)
        outcome = raw_pii_check(BASE, statistics, tuple(output_rules(BASE)))
        assert not outcome.passed
        assert {key.split(".")[1] for key in statistics if key.startswith("leak.")} == columns
        assert "Zebediah" not in outcome.message
    assert staging_is_empty()


def test_a_token_that_is_the_subject_never_gets_into_the_vault(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Tokens are made once, on landing, and published as they stand in the raw table."""
    monkeypatch.setattr(techniques.Tokenize, "expr", identity)
    monkeypatch.setattr(release_raw, "run_stage", lambda _, splits, task: [task(split) for split in splits])
    policy = people_policy("bare")
    with pytest.raises(AdbcError, match="subjects_user_token_check"):
        world.land(policy, world.put("bare.jsonl", [person(n, id=f"bare-{n}") for n in range(20)]))
    assert not exists("raw.raw_bare")
    assert staging_is_empty()
    assert query("SELECT 1 FROM vault.subjects WHERE user_token LIKE 'bare%%'") == []


def test_a_leak_found_by_a_task_stops_the_release(landed: World) -> None:
    # The policy calls the tier harmless, and somebody overrode the detector; the pattern scan does not take their word.
    override = {"type": "email", "reason": "Somebody was in a hurry."}
    policy = with_field(people_policy("leaky"), "tier", override=override)
    path = landed.put("people_leaky.jsonl", [person(n, tier=f"given{n}@example.org") for n in range(10)])
    landed.land(policy, path)
    with pytest.raises(GateError, match="column `tier` holds") as caught:
        landed.anonymize(policy)
    assert "example.org" not in str(caught.value)
    assert not exists("anonymized.anonymized_leaky")
    assert staging_is_empty()


# --- k-anonymity ------------------------------------------------------------------------------------------------


def groups(*sizes: int) -> list[dict[str, Any]]:
    """People whose tiers are shared by so many."""
    tiers = itertools.chain.from_iterable([f"t{index}"] * size for index, size in enumerate(sizes))
    return [person(n, tier=tier, active=None) for n, tier in enumerate(tiers)]


def k_policy(name: str, limit: float) -> DatasetPolicy:
    model = {"k": 3, "quasi_identifiers": ["tier", "active"], "suppression_limit": limit}
    return people_policy(name, privacy_model=model)


def test_small_classes_are_suppressed_and_counted(world: World) -> None:
    policy = k_policy("k_small", 0.2)
    world.land(policy, world.put("people_k.jsonl", groups(10, 3, 2, 1)))
    report = world.anonymize(policy)
    assert (report.rows, report.statistics["suppressed_for_k"]) == (13, 3)
    assert {row["tier"] for row in table("anonymized.anonymized_k_small")} == {"t0", "t1"}
    (check,) = [check for check in report.checks if check.name == "k_anonymity"]
    assert check.figures == {"k": 3, "required_k": 3, "classes": 2, "suppressed_rows": 3}


def test_too_much_suppression_is_refused(world: World) -> None:
    policy = k_policy("k_limit", 0.1)
    world.land(policy, world.put("people_k.jsonl", groups(10, 3, 2, 1)))
    with (
        unpublished(world, "anonymized.anonymized_k_limit"),
        pytest.raises(GateError, match=r"k = 3 cannot be reached: .* 18\.8% of the records.*limit is 10\.0%.*`tier`"),
    ):
        world.anonymize(policy)


def test_a_standing_table_that_is_k_anonymous_no_longer_is_found_out(world: World) -> None:
    policy = k_policy("k_again", 0.0)
    world.land(policy, world.put("people_k.jsonl", groups(10, 3)))
    world.anonymize(policy)
    with connect(Role.PIPELINE) as connection:
        assert [check.failed for check in anonymized_again(connection, policy, None)] == [False] * 5
    execute("UPDATE anonymized.anonymized_k_again SET tier = 't1' WHERE orders = 0")
    execute("UPDATE anonymized.anonymized_k_again SET tier = 't0' WHERE orders IN (11, 12)")
    with connect(Role.PIPELINE) as connection:
        (failed,) = [check for check in anonymized_again(connection, policy, None) if check.failed]
    assert failed.message == "the smallest class of tier, active has 2 rows, not 3"


# --- references, erasure ------------------------------------------------------------------------------------------


def erase(number: int, world: World, policy: DatasetPolicy) -> None:
    """Delete the vault row of a person, by the number of their orders in the published table."""
    ((token,),) = query(f"SELECT token FROM anonymized.anonymized_{policy.dataset} WHERE orders = %s", number)
    assert execute("DELETE FROM vault.subjects WHERE user_token = %s", token) == 1


def test_an_erased_subject_leaves_every_table(world: World) -> None:
    people, visits = people_policy("er_people"), visits_policy("er_visits", "er_people")
    # The vault is shared by all datasets of a platform: people of this test's own.
    crowd = [person(n, id=f"erased-{n}") for n in range(6)]
    world.land(people, world.put("people_er.jsonl", crowd))
    world.anonymize(people)
    rows = [visit(n, 6, id=f"erased-{n % 6}") for n in range(12)]
    world.land(visits, world.put("visits_er.jsonl", rows), selected=days(3))
    assert world.anonymize(visits, people, selected=days(3)).rows == 12
    erase(4, world, people)
    report = world.anonymize(people)
    assert figures(report, "read", "erased", "staged") == {"read": 6, "erased": 1, "staged": 5}
    assert sorted(row["orders"] for row in table("anonymized.anonymized_er_people")) == [0, 1, 2, 3, 5]
    report = world.anonymize(visits, people, selected=days(3))
    assert figures(report, "read", "erased", "staged") == {"read": 12, "erased": 2, "staged": 10}
    # Their raw records still stand, and are noise.
    assert len(table("raw.raw_er_people")) == 6


def test_an_erased_subject_who_lands_again_is_a_new_one(world: World) -> None:
    people, visits = people_policy("back_people"), visits_policy("back_visits", "back_people")
    rows = [visit(n, 6, id=f"back-{n % 6}") for n in range(12)]
    first, second = world.put("visits_back_1.jsonl", rows[:6]), world.put("visits_back_2.jsonl", rows[6:])
    landing = world.put("people_back.jsonl", [person(n, id=f"back-{n}") for n in range(6)])
    world.land(people, landing)
    world.anonymize(people)
    world.land(visits, first, selected=days(3))
    world.anonymize(visits, people, selected=days(3))
    erase(4, world, people)
    # Known again by an event alone: their own record is noise still, and so are the events of before.
    world.land(visits, second, selected=days(3))
    report = world.anonymize(visits, people, selected=days(3))
    assert figures(report, "read", "erased", "staged") == {"read": 12, "erased": 2, "staged": 10}
    assert world.anonymize(people).statistics["erased"] == 1
    # Landed again themselves, they are shown, and what they do from then on.
    world.land(people, landing)
    assert world.anonymize(people).rows == 6
    world.land(visits, world.put("visits_back_3.jsonl", [visit(20, 6, id="back-4")]), selected=days(3))
    report = world.anonymize(visits, people, selected=days(3))
    assert figures(report, "read", "erased", "staged") == {"read": 13, "erased": 1, "staged": 12}


def test_an_altered_record_is_not_taken_for_an_erased_one(world: World) -> None:
    policy = people_policy("altered")
    world.land(policy, world.put("people_altered.jsonl", [person(n) for n in range(3)]))
    last = "length(sealed) - 1"
    changed = f"UPDATE raw.raw_altered SET sealed = set_byte(sealed, {last}, get_byte(sealed, {last}) # 1)"
    assert execute(f"{changed} WHERE orders = 1") == 1
    with pytest.raises(TaskRefusedError, match="A sealed record of altered does not open"):
        world.anonymize(policy)
    assert not exists("anonymized.anonymized_altered")


def test_events_of_people_not_yet_anonymized_are_counted_as_waiting(world: World) -> None:
    people, visits = people_policy("wait_people"), visits_policy("wait_visits", "wait_people")
    world.land(people, world.put("people_wait.jsonl", [person(n) for n in range(3)]))
    world.anonymize(people)
    world.land(people, world.put("people_wait.jsonl", [person(n) for n in range(6)]))
    world.land(visits, world.put("visits_wait.jsonl", [visit(n, 6) for n in range(6)]), selected=days(3))
    report = world.anonymize(visits, people, selected=days(3))
    wanted = {"read": 6, "staged": 3, "waiting": 3, "suppressed": 0}
    assert figures(report, *wanted) == wanted
    (message,) = [check.message for check in report.checks if check.name == "row_count_reconciled"]
    assert "3 waiting; those waiting are of subjects not in anonymized_wait_people" in message
    world.anonymize(people)
    report = world.anonymize(visits, people, selected=days(3))
    assert figures(report, *wanted) == {"read": 6, "staged": 6, "waiting": 0, "suppressed": 0}


def test_only_what_is_staged_is_kept_from_being_vacuumed(world: World) -> None:
    people, visits = people_policy("vacuum_people"), visits_policy("vacuum_visits", "vacuum_people")
    world.land(people, world.put("people_vacuum.jsonl", [person(n) for n in range(5)]))
    world.anonymize(people)
    world.land(visits, world.put("visits_vacuum.jsonl", [visit(n, 5) for n in range(9)]), selected=days(3))
    options = "SELECT relname, reloptions FROM pg_class WHERE relname ~ %s AND relkind = 'r'"
    assert [found for _, found in query(options, "^(raw|anonymized)_vacuum")] == [None] * 5
    staged = anonymized_table(visits)
    with releasing(staged) as connection:
        release = Release(staged, tuple(days(1)))
        open_staging(connection, release)
        assert query(options, release.id)[0] == (release.partition(days(1)[0]), ["autovacuum_enabled=false"])


def test_shares_of_the_subjects_together_are_all_of_them(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    people, visits = people_policy("share_people"), visits_policy("share_visits", "share_people")
    world.land(people, world.put("people_share.jsonl", [person(n) for n in range(400)]))
    world.anonymize(people)
    path = world.put("visits_share.jsonl", [visit(n, 1 + n % 3, id=f"person-{n % 400:05d}") for n in range(1000)])
    world.land(visits, path, selected=days(3))
    world.anonymize(visits, people, selected=days(3))
    together = table("anonymized.anonymized_share_visits")
    monkeypatch.setattr(zone, "_SUBJECT_BYTES", 8192)
    monkeypatch.setattr(zone, "_SPLIT_BYTES", 65536)
    monkeypatch.setattr(zone, "_LEAST_BLOCKS", 1)
    raw = raw_table(visits)
    with connect(Role.PIPELINE) as connection:
        names = [partition_name(raw, partition) for partition in partitions(connection, raw)]
        splits = subject_splits(connection, raw.zone, names, visits.token_column, parallelism=2)
    shares = {split.shares for split in splits}
    assert min(shares) > 2
    assert len(splits) >= max(shares)
    report = world.anonymize(visits, people, selected=days(3))
    wanted = {"read": 1000, "staged": 1000, "erased": 0, "quarantined": 0}
    assert figures(report, *wanted) == wanted
    in_shares = table("anonymized.anonymized_share_visits")

    def comparable(rows: list[dict[str, Any]]) -> list[str]:
        return sorted(repr({k: v for k, v in row.items() if k != "anonymized_at"}) for row in rows)

    assert comparable(in_shares) == comparable(together)


def test_visits_of_unknown_and_of_suppressed_people(world: World) -> None:
    model = {"k": 3, "quasi_identifiers": ["tier"], "suppression_limit": 1.0}
    people = people_policy("ref_people", privacy_model=model)
    world.land(people, world.put("people_ref.jsonl", groups(5, 1)))
    world.anonymize(people)
    rows = [visit(n, 6, id=f"person-{n:05d}") for n in range(6)] + [visit(9, 6, id="stranger-1")]
    path = world.put("visits_ref.jsonl", rows)
    strict = visits_policy("ref_visits", "ref_people")
    world.land(strict, path, selected=days(3))
    report = world.anonymize(strict, people, selected=days(3))
    wanted = {"read": 7, "quarantined": 1, "suppressed": 1, "staged": 5}
    assert figures(report, *wanted) == wanted
    (bad,) = query("SELECT stage, source, position, error, sealed FROM raw.quarantine WHERE dataset = 'ref_visits'")
    assert bad == ("anonymizing", "raw.raw_ref_visits_20240301", "v9", "id: not a subject of ref_people", None)
    world.anonymize(strict, people, selected=days(3))
    assert query("SELECT count(*) FROM raw.quarantine WHERE dataset = 'ref_visits'") == [(1,)]
    keeping = visits_policy("ref_visits", "ref_people", references={"dataset": "ref_people", "unknown": "keep"})
    report = world.anonymize(keeping, people, selected=days(3))
    assert figures(report, *wanted) == {"read": 7, "quarantined": 0, "suppressed": 1, "staged": 6}


def test_a_token_that_resolves_nowhere_fails_the_check(landed: World) -> None:
    landed.anonymize(BASE)
    published = anonymized_table(BASE)
    visits = anonymized_table(visits_policy("dangling", "base"))
    with releasing(visits) as connection:
        release = Release(visits, tuple(days(1)))
        open_staging(connection, release)
        for number, token in enumerate([table("anonymized.anonymized_base")[0]["token"], "tok_" + "0" * 32]):
            connection.execute(
                f'INSERT INTO staging."{release.staging}" (visit, token, at, anonymized_at) '
                "VALUES (%s, %s, '2024-03-01 12:00+00', now())",
                [f"v{number}", token],
            )
            connection.commit()
            for referred in (None, published):
                outcome = tokens_check(connection, release, "token", referred=referred)
                assert (outcome.passed, outcome.figures) == (number == 0, {"rows": number + 1, "dangling_rows": number})


# --- tables, runs -------------------------------------------------------------------------------------------------


def test_upstream_tables_come_first(world: World) -> None:
    people, visits = people_policy("up_people"), visits_policy("up_visits", "up_people")
    with pytest.raises(UpstreamMissingError, match="materialize raw_up_people first"):
        world.anonymize(people)
    world.land(people, world.put("people_up.jsonl", [person(1)]))
    world.land(visits, world.put("visits_up.jsonl", [visit(1, 1)]), selected=days(3))
    with pytest.raises(UpstreamMissingError, match="materialize anonymized_up_people first"):
        world.anonymize(visits, people, selected=days(3))
    world.anonymize(people)
    changed = with_field(people, "extra", type="string", sensitivity="none", technique="keep")
    with pytest.raises(UpstreamMissingError, match="needs column `extra` of raw_up_people"):
        world.anonymize(changed)
    assert world.anonymize(visits, people, selected=days(1)).released is False


@pytest.mark.parametrize(
    ("tampering", "failing"),
    [
        ("DELETE FROM {} WHERE visit = 'v1'", {"row_count_reconciled"}),
        ("UPDATE {} SET token = 'tok_' || repeat('0', 32) WHERE visit = 'v1'", {"tokens_resolve"}),
        ("ALTER TABLE {} RENAME page TO place", {"schema_matches_policy"}),
    ],
)
def test_with_nothing_new_an_altered_table_turns_the_run_red(world: World, tampering: str, failing: set[str]) -> None:
    people = people_policy(f"al_people_{world.age}")
    visits = visits_policy(f"al_visits_{world.age}", people.dataset)
    world.land(people, world.put("people_al.jsonl", [person(n) for n in range(6)]))
    world.anonymize(people)
    world.land(visits, world.put("visits_al.jsonl", [visit(n, 6) for n in range(30)]), selected=days(3))
    assert [check.ran for check in world.anonymize(visits, people, selected=days(9)[5:]).checks] == [False] * 4
    world.anonymize(visits, people, selected=days(3))
    report = world.anonymize(visits, people, selected=days(9)[5:])
    assert report.released is False
    outcomes = {check.name: (check.passed, check.ran) for check in report.checks}
    assert outcomes.pop("no_raw_pii") == (False, False)
    assert set(outcomes) == set(check_names(visits)) - {"no_raw_pii"}
    assert set(outcomes.values()) == {(True, True)}
    execute(tampering.format(f"anonymized.anonymized_{visits.dataset}"))
    with pytest.raises(GateError, match="has nothing new, and what stands does not pass") as caught:
        world.anonymize(visits, people, selected=days(9)[5:])
    assert {check.name for check in caught.value.checks if check.failed} == failing


def test_a_changed_policy_remakes_the_table_but_never_a_part_of_it(world: World) -> None:
    people, visits = people_policy("ch_people"), visits_policy("ch_visits", "ch_people")
    world.land(people, world.put("people_ch.jsonl", [person(n) for n in range(6)]))
    world.anonymize(people)
    world.land(visits, world.put("visits_ch.jsonl", [visit(n, 6) for n in range(30)]), selected=days(3))
    world.anonymize(visits, people, selected=days(3))
    changed = with_field(visits, "session", output="visit_hash")
    with (
        unpublished(world, "anonymized.anonymized_ch_visits"),
        pytest.raises(TableMismatchError, match=r"2 would keep the old columns, the first being 20240302"),
    ):
        world.anonymize(changed, people, selected=days(1))
    world.anonymize(changed, people, selected=days(3))
    assert "visit_hash" in table("anonymized.anonymized_ch_visits")[0]
    ((comment,),) = query("SELECT obj_description('anonymized.anonymized_ch_visits'::regclass)")
    assert comment.startswith("Visits. Anonymized by the policy `ch_visits`")


def test_a_changed_key_or_partition_remakes_the_table(world: World) -> None:
    people, visits = people_policy("rk_people"), visits_policy("rk_visits", "rk_people")
    world.land(people, world.put("people_rk.jsonl", [person(n) for n in range(6)]))
    world.anonymize(people)
    world.land(visits, world.put("visits_rk.jsonl", [visit(n, 6) for n in range(12)]), selected=days(3))
    world.anonymize(visits, people, selected=days(3))
    published = anonymized_table(visits)
    name = f"anonymized.{published.name}"
    execute(f"ALTER TABLE {name} DROP CONSTRAINT {published.name}_pkey")
    with connect(Role.PIPELINE) as connection:
        assert standing_shape(connection, published) == replace(expected_shape(published), key=frozenset())
        undivided = replace(published, partition_column=None)
        assert expected_shape(undivided) != standing_shape(connection, published)
        assert must_be_remade(connection, undivided, replacing=days(3))
        with pytest.raises(TableMismatchError, match="or another key"):
            must_be_remade(connection, published, replacing=days(2))
    world.anonymize(visits, people, selected=days(3))
    with connect(Role.PIPELINE) as connection:
        assert standing_shape(connection, published) == expected_shape(published)


def test_a_table_of_an_earlier_warehouse_keeps_the_order_of_its_key_until_it_is_made_anew(world: World) -> None:
    people, visits = people_policy("ok_people"), visits_policy("ok_visits", "ok_people")
    world.land(people, world.put("people_ok.jsonl", [person(n) for n in range(6)]))
    world.anonymize(people)
    world.land(visits, world.put("visits_ok.jsonl", [visit(n, 6) for n in range(12)]), selected=days(3))
    world.anonymize(visits, people, selected=days(3))
    published = anonymized_table(visits)
    name = f"anonymized.{published.name}"

    def keys() -> set[tuple[Any, ...]]:
        return set(
            query(
                "SELECT DISTINCT pg_get_indexdef(i.indexrelid, 1, true), pg_get_indexdef(i.indexrelid, 2, true) "
                "FROM pg_index i JOIN pg_class c ON c.oid = i.indrelid "
                "WHERE i.indisprimary AND starts_with(c.relname, %s)",
                published.name,
            )
        )

    assert keys() == {("at", "visit")}
    execute(
        f"ALTER TABLE {name} DROP CONSTRAINT {published.name}_pkey; ALTER TABLE {name} ADD PRIMARY KEY (visit, at); "
        f"CREATE INDEX ON {name} (at)"
    )
    with connect(Role.PIPELINE) as connection:
        assert index_columns(connection, published) == (("visit", "at"), [("token",), ("at",)])
    rows = table(name)
    world.anonymize(visits, people, selected=days(1))
    assert keys() == {("visit", "at")}
    assert [row["visit"] for row in table(name)] == [row["visit"] for row in rows]
    changed = with_field(visits, "session", output="visit_hash")
    world.anonymize(changed, people, selected=days(3))
    assert keys() == {("at", "visit")}


def test_making_a_table_anew_drops_no_view_of_others(
    world: World, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    policy = people_policy("rv")
    world.land(policy, world.put("people_rv.jsonl", [person(n) for n in range(5)]))
    (tmp_path / "views").mkdir()
    own = "-- requires: anonymized.anonymized_rv\nCREATE VIEW anonymized.v_own WITH (security_barrier) AS\n"
    (tmp_path / "views" / "v_own.sql").write_text(f"{own}SELECT tier FROM anonymized.anonymized_rv;")
    monkeypatch.setattr("privacy_platform.warehouse.views.sql_directory", lambda: tmp_path)
    world.anonymize(policy)
    execute("CREATE VIEW anonymized.v_theirs AS SELECT tier FROM anonymized.v_own")
    changed = with_field(policy, "zip", output="zip_start")
    try:
        with (
            unpublished(world, "anonymized.anonymized_rv"),
            pytest.raises(TableMismatchError, match=r"view anonymized\.v_theirs depends on view anonymized\.v_own"),
        ):
            world.anonymize(changed)
        assert exists("anonymized.v_own")
        assert exists("anonymized.v_theirs")
        execute("DROP VIEW anonymized.v_theirs")
        execute("CREATE VIEW anonymized.v_theirs AS SELECT count(*) FROM anonymized.anonymized_rv")
        with pytest.raises(TableMismatchError, match=r"view anonymized\.v_theirs depends on table"):
            world.anonymize(changed)
    finally:
        execute("DROP VIEW anonymized.v_theirs")
    world.anonymize(changed)
    assert "zip_start" in table("anonymized.anonymized_rv")[0]
    assert query("SELECT count(*) FROM anonymized.v_own") == [(5,)]
    execute("DROP VIEW anonymized.v_own")


def test_views_and_comments_survive_a_release(world: World) -> None:
    policy = people_policy("viewed")
    path = world.put("people_viewed.jsonl", [person(n) for n in range(5)])
    world.land(policy, path)
    world.anonymize(policy)
    execute("CREATE VIEW anonymized.v_viewed AS SELECT count(*) AS people FROM anonymized.anonymized_viewed")
    try:
        world.land(policy, world.put("people_viewed.jsonl", [person(n) for n in range(8)]))
        world.anonymize(policy)
        assert query("SELECT people FROM anonymized.v_viewed") == [(8,)]
        with connect(Role.ANALYST) as analyst:
            assert analyst.execute("SELECT count(*) FROM anonymized.anonymized_viewed").fetchone() == (8,)
    finally:
        execute("DROP VIEW anonymized.v_viewed")


def test_a_reader_keeps_its_snapshot_and_a_stuck_reader_stops_the_swap(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    policy = people_policy("stuck")
    world.land(policy, world.put("people_stuck.jsonl", [person(n) for n in range(5)]))
    world.anonymize(policy)
    patient: Callable[..., Any] = connect
    monkeypatch.setattr("privacy_platform.engine.gate.connect", lambda role: patient(role, lock_timeout=0.3))
    with connect(Role.ANALYST) as reader:
        reader.execute("SELECT count(*) FROM anonymized.anonymized_stuck")
        with pytest.raises(WarehouseError, match="readers have held it for too long"):
            world.anonymize(policy)
        assert reader.execute("SELECT count(*) FROM anonymized.anonymized_stuck").fetchone() == (5,)
    assert staging_is_empty()
    assert world.anonymize(policy).rows == 5


def test_a_release_that_waits_for_a_reader_lets_others_read(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    policy = people_policy("waiting")
    world.land(policy, world.put("people_waiting.jsonl", [person(n) for n in range(5)]))
    world.anonymize(policy)
    monkeypatch.setattr(gate, "LOCK_MOMENT", 0.1)
    monkeypatch.setattr(gate, "LOCK_PAUSE", 0.2)
    count = "SELECT count(*) FROM anonymized.anonymized_waiting"
    waiting = "SELECT count(*) FROM pg_stat_activity WHERE query LIKE 'LOCK TABLE%%' AND wait_event_type = 'Lock'"
    with ThreadPoolExecutor(1) as pool, connect(Role.ANALYST) as reader:
        reader.execute(count)
        release = pool.submit(world.anonymize, policy)
        deadline = time.monotonic() + 30
        while query(waiting) == [(0,)] and time.monotonic() < deadline and not release.done():
            time.sleep(0.02)
        with connect(Role.ANALYST, lock_timeout=5) as other:
            assert other.execute(count).fetchone() == (5,)
        assert not release.done()
        reader.rollback()
        assert release.result(timeout=30).rows == 5


def test_two_runs_never_release_one_table_at_once(landed: World) -> None:
    landed.anonymize(BASE)
    published = anonymized_table(BASE)
    with releasing(published) as connection:
        release = Release(published, (WHOLE,))
        open_staging(connection, release)
        with pytest.raises(ReleaseBusyError, match=r"anonymized\.anonymized_base is being materialized"):
            landed.anonymize(BASE)
        # The refused run has not dropped the staging tables of the other one.
        assert exists(f"staging.{release.staging}")
    assert staging_is_empty()
    assert landed.anonymize(BASE).rows == 60


def test_no_other_login_can_keep_a_table_from_being_released(landed: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("privacy_platform.warehouse.release.BUSY_SECONDS", 0.3)
    taken = "SELECT pg_advisory_lock(hashtextextended('anonymized.anonymized_base', 0))"
    with connect(Role.ANALYST) as analyst:
        analyst.execute(taken)
        with pytest.raises(InsufficientPrivilege):
            analyst.execute(
                "INSERT INTO staging.commits (stage, split) VALUES ('release anonymized.anonymized_base', 0)"
            )
        analyst.rollback()
        analyst.execute(taken)
        assert landed.anonymize(BASE).rows == 60


def test_the_lock_of_a_killed_run_goes_with_its_session(landed: World) -> None:
    with releasing(anonymized_table(BASE)):
        assert execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query LIKE 'INSERT INTO staging.commits%%'"
        )
        assert landed.anonymize(BASE).rows == 60


def test_what_a_dead_run_left_is_cleared_by_the_next(landed: World) -> None:
    published = anonymized_table(BASE)
    with connect(Role.PIPELINE) as connection:
        open_staging(connection, Release(published, (WHOLE,)))
        open_staging(connection, dead := Release(published, (WHOLE,)))
        connection.execute("INSERT INTO staging.commits (stage, split) VALUES (%s, 0)", [dead.staging])
    assert not staging_is_empty()
    landed.anonymize(BASE)
    assert staging_is_empty()


def test_lineage_has_an_arrow_from_every_table_that_was_read(world: World) -> None:
    people, visits = people_policy("ar_people"), visits_policy("ar_visits", "ar_people")
    world.land(people, world.put("people_ar.jsonl", [person(n) for n in range(6)]))
    world.anonymize(people)
    world.land(visits, world.put("visits_ar.jsonl", [visit(n, 6) for n in range(30)]), selected=days(3))
    world.anonymize(visits, people, selected=days(2))
    arrows = query(
        "SELECT source, records_in, records_out, column_lineage <> '{}' FROM governance.data_lineage "
        "WHERE target = 'anonymized.anonymized_ar_visits' ORDER BY source"
    )
    assert arrows == [
        ("anonymized.anonymized_ar_people", 6, 20, False),
        ("raw.raw_ar_people", 6, 20, False),
        ("raw.raw_ar_visits", 20, 20, True),
    ]


def test_lineage_and_audit_tell_what_was_published(landed: World) -> None:
    landed.anonymize(BASE)
    run = landed.runs[-1]
    assert [action for action, *_ in landed.actions()] == ["key_use", "publish"]
    ((source, target, read, written, columns),) = query(
        "SELECT source, target, records_in, records_out, column_lineage FROM governance.data_lineage WHERE run_id = %s",
        run,
    )
    assert (source, target, read, written) == ("raw.raw_base", "anonymized.anonymized_base", 60, 60)
    assert columns["email_hash"] == {"sources": ["raw_base.sealed"], "transformation": "hmac of email"}
