"""Stages: a task that is run again never doubles rows, and what a failing task saw stays in the worker."""

import os
import threading
from collections import Counter
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import polars as pl
import pytest
from pyspark import cloudpickle

from privacy_platform import settings
from privacy_platform.engine import anonymize, land
from privacy_platform.engine.anonymize import AnonymizeTask
from privacy_platform.engine.gate import releasing
from privacy_platform.engine.land import LandTask
from privacy_platform.engine.sources.splits import file_splits
from privacy_platform.engine.sources.zone import zone_splits
from privacy_platform.engine.stage import CopyOnce, StageError, Statistics, TaskRefusedError, run_stage
from privacy_platform.errors import PrivacyPlatformError
from privacy_platform.policy.compile import anonymized_table, raw_table
from privacy_platform.policy.tables import WHOLE
from privacy_platform.vault.keyring import keyring_path, load_keyring, new_keyring, save_keyring
from privacy_platform.warehouse.checks import staged_rows
from privacy_platform.warehouse.connection import Role, connect
from privacy_platform.warehouse.release import Release, open_staging
from privacy_platform_tests.integration.engine.support import (
    World,
    exists,
    people_policy,
    person,
    query,
    staging_is_empty,
    table,
)

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

POLICY = people_policy("task")


@pytest.fixture(scope="module")
def landed(world: World) -> World:
    world.land(POLICY, world.put("people.jsonl", [person(n) for n in range(25)]))
    return world


class CrashError(Exception):
    """A worker that dies."""


class CrashingCopy(CopyOnce):
    """Dies between the copy and the commit."""

    def commit(self, statistics: Statistics) -> None:
        raise CrashError


def test_a_landing_task_run_again_adds_nothing(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    path = world.put("people_again.jsonl", [*(person(n) for n in range(25)), b"?"])
    world.land(people_policy("again_keys"), path)
    raw = raw_table(POLICY)
    with releasing(raw) as connection:
        release = Release(raw, (WHOLE,))
        open_staging(connection, release)
        (split,) = file_splits([path], parallelism=1)
        now = datetime.now(UTC)
        task = LandTask(POLICY, release, "r", now, now.date())
        with monkeypatch.context() as patch:
            patch.setattr(land, "CopyOnce", CrashingCopy)
            with pytest.raises(CrashError):
                task(split)
        assert staged_rows(connection, release) == 0
        assert query("SELECT count(*) FROM staging.commits") == [(0,)]
        first, second = task(split), task(split)
        assert first == second
        assert (first["read"], first["staged"], first["quarantined"]) == (26, 25, 1)
        assert staged_rows(connection, release) == 25
        assert query(f'SELECT count(*) FROM staging."{release.quarantine}"') == [(1,)]
        # Another split of the same stage is other work.
        task(replace(split, index=1))
        assert staged_rows(connection, release) == 50
    assert staging_is_empty()


def test_an_anonymizing_task_run_again_adds_nothing(landed: World, monkeypatch: pytest.MonkeyPatch) -> None:
    published = anonymized_table(POLICY)
    with releasing(published) as connection:
        release = Release(published, (WHOLE,))
        open_staging(connection, release)
        (split,) = zone_splits(connection, raw_table(POLICY), (WHOLE,), parallelism=1)
        connection.commit()
        task = AnonymizeTask(POLICY, release, "r", datetime.now(UTC))
        with monkeypatch.context() as patch:
            patch.setattr(anonymize, "CopyOnce", CrashingCopy)
            with pytest.raises(CrashError):
                task(split)
        assert staged_rows(connection, release) == 0
        assert task(split) == task(split)
        assert staged_rows(connection, release) == 25


def test_a_straggler_of_a_dead_run_cannot_write(landed: World) -> None:
    published = anonymized_table(POLICY)
    with releasing(published) as connection:
        release = Release(published, (WHOLE,))
        open_staging(connection, release)
        (split,) = zone_splits(connection, raw_table(POLICY), (WHOLE,), parallelism=1)
        connection.commit()
    with pytest.raises(Exception, match="does not exist"):
        AnonymizeTask(POLICY, release, "r", datetime.now(UTC))(split)
    assert staging_is_empty()


def test_of_two_attempts_at_once_one_waits_and_copies_nothing(landed: World) -> None:
    published = anonymized_table(POLICY)
    row = pl.DataFrame([{"dataset": "d", "stage": "s", "source": "f", "position": "1", "error": "e", "run_id": "r"}])
    found: list[Statistics | None] = []

    def second() -> None:
        with closing(connect(Role.PIPELINE)) as other, CopyOnce(other, release.staging, 7) as copy:
            found.append(copy.done)

    with releasing(published) as connection:
        release = Release(published, (WHOLE,))
        open_staging(connection, release)
        with closing(connect(Role.PIPELINE)) as own, CopyOnce(own, release.staging, 7) as copy:
            assert copy.done is None
            copy.copy(release.quarantine, row)
            thread = threading.Thread(target=second)
            thread.start()
            thread.join(0.5)
            assert thread.is_alive()
            copy.commit(Counter({"read": 1, "odd 'name'": 2}))
            thread.join(10)
        assert found == [Counter({"read": 1, "odd 'name'": 2})]
        assert query(f'SELECT count(*) FROM staging."{release.quarantine}"') == [(1,)]


def test_the_tasks_of_a_run_hold_no_key(landed: World) -> None:
    release = Release(raw_table(POLICY), (WHOLE,))
    now = datetime.now(UTC)
    tasks = [LandTask(POLICY, release, "r", now, now.date()), AnonymizeTask(POLICY, release, "r", now)]
    pickled = cloudpickle.dumps(tasks)
    secret = keyring_path().read_text().split('"secret": "')[1].split('"')[0]
    assert secret.encode() not in pickled


# Spark: functions made here travel by value, since workers need not find this module.


def test_a_failing_attempt_is_tried_again_and_leaves_nothing_behind(world: World, tmp_path: Path) -> None:
    published = anonymized_table(people_policy("retry"))
    with releasing(published) as connection:
        release = Release(published, (WHOLE,))
        open_staging(connection, release)
        stage, target = release.staging, release.quarantine

        def task(split: int) -> Statistics:
            mark = tmp_path / f"{split}"
            row = {"dataset": "d", "stage": "s", "source": "f", "position": str(split), "error": "e", "run_id": "r"}
            with closing(connect(Role.PIPELINE)) as own, CopyOnce(own, stage, split) as copy:
                if copy.done is not None:
                    return copy.done
                copy.copy(target, pl.DataFrame([row]))
                if split == 1 and not mark.exists():  # before the commit
                    mark.touch()
                    raise ValueError
                copy.commit(Counter(split=split))
                if split == 2 and not mark.exists():  # after it
                    mark.touch()
                    raise ValueError
                return Counter(split=split)

        assert run_stage(world.spark, [0, 1, 2, 3], task) == [Counter(split=n) for n in range(4)]
        assert (tmp_path / "1").exists()
        assert (tmp_path / "2").exists()
        positions = query(f'SELECT position FROM staging."{target}" ORDER BY 1')
        assert positions == [("0",), ("1",), ("2",), ("3",)]


def test_a_task_that_fails_for_good_shows_its_place_and_no_value(world: World) -> None:
    def task(split: str) -> Statistics:
        raise ValueError(f"cannot use {split}")

    with pytest.raises(StageError, match=r"failed 3 times \(ValueError in test_stages\.py, line \d+\)") as caught:
        run_stage(world.spark, ["maria@example.org"], task)
    shown = f"{caught.value} {caught.value.__cause__} {caught.value.__suppress_context__}"
    assert shown.endswith("None True")
    assert "maria" not in shown


def test_a_refusal_comes_back_in_its_own_words_after_one_attempt(world: World, tmp_path: Path) -> None:
    def task(split: int) -> Statistics:
        (tmp_path / f"{split}-{os.urandom(4).hex()}").touch()
        if split:
            raise PrivacyPlatformError(f"split {split} is unusable: mend it")
        return Counter(fine=1)

    with pytest.raises(TaskRefusedError, match=r"^split 1 is unusable: mend it; split 2 is unusable: mend it$"):
        run_stage(world.spark, [0, 1, 2], task)
    assert len(list(tmp_path.iterdir())) == 3


def test_workers_work_in_the_drivers_home(
    spark: "SparkSession", tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def task(split: int) -> Statistics:
        return Counter({str(settings.home()): 1})

    for name in ("one", "two"):
        monkeypatch.setenv(settings.HOME_VARIABLE, str(tmp_path / name))
        assert run_stage(spark, [0], task) == [Counter({str(tmp_path / name): 1})]


def test_a_stage_without_splits_starts_nothing(spark: "SparkSession") -> None:
    def task(split: int) -> Statistics:
        raise AssertionError

    assert run_stage(spark, [], task) == []


def test_a_lost_keyring_stops_the_run_with_the_mend(landed: World) -> None:
    path = keyring_path()
    kept = path.read_bytes()
    path.chmod(0o644)
    try:
        with pytest.raises(PrivacyPlatformError, match="chmod 600"):
            landed.anonymize(POLICY)
        path.unlink()
        with pytest.raises(PrivacyPlatformError, match="restore your backup"):
            landed.anonymize(POLICY)
    finally:
        path.write_bytes(kept)
        path.chmod(0o600)
    assert staging_is_empty()
    assert not exists("anonymized.anonymized_task")


def test_an_older_keyring_is_told_from_a_broken_table(landed: World) -> None:
    policy = people_policy("rotated")
    kept = load_keyring()
    rotated = kept.rotated()
    crowd = [person(n, id=f"rotated-{n}") for n in range(3)]
    try:
        save_keyring(rotated, replace=True)
        landed.land(policy, landed.put("people_rotated.jsonl", crowd))
        tokens = {row["token"] for row in table("raw.raw_rotated")}
        versions = query("SELECT DISTINCT key_version FROM vault.subjects WHERE user_token = ANY(%s)", list(tokens))
        assert versions == [(2,)]
        assert landed.anonymize(policy).rows == 3
        save_keyring(kept, replace=True)
        with pytest.raises(PrivacyPlatformError, match="lacks version 2"):
            landed.anonymize(policy)
        # A foreign one is refused before anything is computed: its tokens would double every person.
        save_keyring(new_keyring().rotated(), replace=True)
        for release in (
            lambda: landed.anonymize(policy),
            lambda: landed.land(policy, landed.put("people_rotated.jsonl", crowd)),
        ):
            with pytest.raises(PrivacyPlatformError, match="not the one this warehouse was made with"):
                release()
        assert {row["token"] for row in table("raw.raw_rotated")} == tokens
    finally:
        save_keyring(rotated, replace=True)
    assert landed.anonymize(policy).rows == 3
    assert staging_is_empty()
