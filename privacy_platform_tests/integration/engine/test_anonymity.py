"""Anonymity of whole tables as released: levels found, l and t kept, linkage columns hidden, the register."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import psycopg
import pytest

from privacy_platform import settings
from privacy_platform.engine.gate import GateError, ReleaseReport
from privacy_platform.engine.session import spark_config
from privacy_platform.policy.anonymity import Anonymization, anonymize
from privacy_platform.policy.model import DatasetPolicy
from privacy_platform.warehouse.connection import Role, connect
from privacy_platform_tests.integration.engine.support import World, exists, frame, query, staging_is_empty

JOBS = {"nurse": "care", "doctor": "care", "baker": "trade", "grocer": "trade"}
ILLNESSES = ("ague", "cold", "flu", "gout")


@pytest.fixture(scope="module", autouse=True)
def hierarchies(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A policy folder with hierarchies as ARX writes them: no header, semicolons, from the value to `*`."""
    folder = tmp_path_factory.mktemp("policies")
    (folder / "hierarchies").mkdir()
    (folder / "hierarchies" / "job.csv").write_text("".join(f"{job};{sector};*\n" for job, sector in JOBS.items()))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(settings.POLICIES_VARIABLE, str(folder))
        yield folder


def census_policy(name: str, fields: dict[str, Any] | None = None, **model: Any) -> DatasetPolicy:
    """Records without identifiers, under column names that are no identifiers either."""

    def qi(technique: object, kind: str = "string", **more: object) -> dict[str, Any]:
        role = "quasi_identifier"
        return {"type": kind, "sensitivity": "low", "role": role, "technique": technique, "comment": "c", **more}

    return DatasetPolicy.model_validate(
        {
            "dataset": name,
            "description": "Census.",
            "source": {"files": [f"{name}*"], "position": "record"},
            "subject": "record",
            "key": "record",
            "privacy_model": {
                "k": 4,
                "quasi_identifiers": ["age", "job", "joined"],
                "suppression_limit": 0.0,
                **model,
            },
            "fields": {
                "record": {
                    "type": "string",
                    "sensitivity": "high",
                    "role": "identifier",
                    "technique": "tokenize",
                    "output": "token",
                    "comment": "c",
                },
                "age": qi(
                    {"generalize": {"hierarchy": {"intervals": {"domain": [0, 99], "every": [10, 50]}}}},
                    "integer",
                    column="Age (years)",
                ),
                "job": qi({"generalize": {"hierarchy": "job"}}, column="job-title"),
                "joined": qi({"generalize": {"hierarchy": {"date": ["month", "year"]}, "up_to": "year"}}, "date"),
                "illness": {"type": "string", "sensitivity": "low", "technique": "keep", "comment": "c"},
                "address": {
                    "type": "string",
                    "sensitivity": "high",
                    "role": "identifier",
                    "technique": {"mask": {"kind": "ip"}},
                    "output": "network",
                    "comment": "c",
                },
                **(fields or {}),
            },
        }
    )


def census(seed: int = 0, rows: int = 200) -> pl.DataFrame:
    random = np.random.default_rng(seed)
    return pl.DataFrame(
        {
            "Age (years)": random.integers(20, 60, rows),
            "job-title": random.choice(np.array(list(JOBS)), rows, p=[0.4, 0.3, 0.2, 0.1]),
            "joined": [f"202{year}-0{month}-15" for year, month in random.integers(1, 4, (rows, 2))],
            "illness": random.choice(np.array(ILLNESSES), rows, p=[0.5, 0.2, 0.2, 0.1]),
            "address": [f"10.0.{n % 250}.{n % 200 + 1}" for n in range(rows)],
        }
    )


def released(world: World, policy: DatasetPolicy, people: pl.DataFrame) -> ReleaseReport:
    path = world.landing / f"{policy.dataset}.csv"
    people.write_csv(path, separator=";")
    world.land(policy, path)
    return world.anonymize(policy)


def k_of(table: pl.DataFrame, columns: list[str]) -> int:
    return int(table.group_by(columns).len()["len"].min())  # type: ignore[arg-type]


def spills() -> list[Path]:
    """What tasks have left for later ones, in the session's scratch folder."""
    return list(Path(spark_config()["spark.local.dir"]).glob("*/spill-*"))


QIS = ["age", "job", "joined"]


def test_a_table_without_identifiers_is_recoded_globally(world: World) -> None:
    policy = census_policy("census_global")
    report = released(world, policy, census())
    table = frame("anonymized.anonymized_census_global")
    assert table.height == 200
    assert k_of(table, QIS) >= 4
    assert table["joined"].dtype == pl.Date  # a column at one level keeps its type
    assert report.anonymity is not None
    assert report.anonymity.levels["joined"] == "year"
    assert set(table["joined"].dt.strftime("%m-%d")) == {"01-01"}
    assert (report.anonymity.suppressed, report.anonymity.records) == (0, 200)
    assert report.anonymity.measured["k"] == k_of(table, QIS)
    assert query("SELECT recoding, classes, levels FROM governance.anonymity_releases WHERE target = %s", TARGET) == [
        ("global", table.select(QIS).n_unique(), report.anonymity.levels)
    ]
    assert not spills()


TARGET = "anonymized.anonymized_census_global"


def test_landing_the_same_file_again_changes_nothing(world: World) -> None:
    policy = census_policy("census_again")
    people = census(1)
    released(world, policy, people)
    before = frame("anonymized.anonymized_census_again").drop("anonymized_at")
    report = released(world, policy, people)
    assert report.warnings == ()
    assert frame("anonymized.anonymized_census_again").drop("anonymized_at").equals(before)


def test_local_recoding_loses_less_and_keeps_k(world: World) -> None:
    globally = released(world, census_policy("census_g"), census(2))
    locally = released(world, census_policy("census_l", recoding="local"), census(2))
    table = frame("anonymized.anonymized_census_l")
    assert table.height == 200
    assert k_of(table, QIS) >= 4
    assert globally.anonymity is not None
    assert locally.anonymity is not None
    assert locally.anonymity.loss < globally.anonymity.loss
    # Hierarchy values only; a column of mixed precision is text that tells which.
    assert set(table["job"]) <= {*JOBS, *JOBS.values(), "*"}
    assert all(len(text) in (4, 7) for text in table["joined"])


@pytest.mark.parametrize("recoding", ["global", "local"])
@pytest.mark.parametrize(
    "rule",
    [{"l": 3}, {"l": 2, "diversity": "entropy"}, {"l": 2, "c": 3, "diversity": "recursive"}, {"t": 0.2}],
    ids=["distinct", "entropy", "recursive", "t"],
)
def test_sensitive_values_are_diverse_in_every_class(world: World, recoding: str, rule: dict[str, Any]) -> None:
    name = f"census_{recoding}_{'_'.join(map(str, rule))}_{rule.get('diversity', '')}"[:30].rstrip("_")
    policy = census_policy(name, recoding=recoding, sensitive={"illness": rule}, suppression_limit=0.1)
    report = released(world, policy, census(3))
    table = frame(f"anonymized.anonymized_{name}")
    assert table.height >= 180
    shares = table.group_by(*QIS, "illness").len().with_columns(pl.col("len") / pl.col("len").sum().over(QIS))
    for _, cells in shares.group_by(QIS):
        counts = cells["len"].sort(descending=True).to_numpy()
        if rule.get("diversity") == "entropy":
            assert np.exp(-(counts * np.log(counts)).sum()) >= 2 - 1e-9
        elif rule.get("diversity") == "recursive":
            assert counts[0] < 3 * counts[1:].sum()
        elif "l" in rule:
            assert len(counts) >= 3
        else:
            whole = dict(table["illness"].value_counts(normalize=True).rows())
            here = dict(cells.select("illness", "len").rows())
            assert sum(abs(here.get(v, 0) - whole[v]) for v in whole) / 2 <= 0.2 + 1e-9
    assert any(name.startswith("illness") for name in report.anonymity.measured)  # type: ignore[union-attr]


def test_what_cannot_be_reached_names_the_columns_and_publishes_nothing(world: World) -> None:
    pinned = {
        "job": {
            "type": "string",
            "column": "job-title",
            "sensitivity": "low",
            "role": "quasi_identifier",
            "technique": "keep",
            "comment": "c",
        }
    }
    policy = census_policy("census_no", pinned, k=50)
    with pytest.raises(GateError, match=r"k = 50 cannot be reached.*`job`") as caught:
        released(world, policy, census(4))
    assert [check.name for check in caught.value.checks if not check.passed] == ["k_anonymity"]
    assert not exists("anonymized.anonymized_census_no")
    assert staging_is_empty()
    assert query("SELECT 1 FROM governance.anonymity_releases WHERE target LIKE '%%census_no'") == []
    assert not spills()


def test_records_that_are_gone_before_they_are_recoded_are_read_again(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    people = census(6)
    released(world, census_policy("census_kept"), people)
    seen: list[int] = []

    def losing(*words: Any) -> Anonymization:
        seen.append(sum(path.stat().st_mode & 0o777 == 0o600 for path in spills()))
        for path in spills():
            path.unlink()
        return anonymize(*words)

    monkeypatch.setattr("privacy_platform.engine.anonymity.anonymize", losing)
    released(world, census_policy("census_gone"), people)
    assert seen == [1]
    columns = [*QIS, "illness", "network"]
    kept, gone = (frame(f"anonymized.anonymized_census_{name}").select(columns) for name in ("kept", "gone"))
    assert gone.sort(columns).equals(kept.sort(columns))


def test_a_record_that_recoding_loses_is_not_taken_for_suppressed(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The search suppresses nobody; a recoder that drops a tuple all the same is found out."""

    def losing(*words: Any) -> Anonymization:
        found = anonymize(*words)
        names = list(found.recoder.quasi_identifiers)
        lost = words[1].select(names).head(1)
        return replace(found, recoder=replace(found.recoder, suppressed=lost))

    monkeypatch.setattr("privacy_platform.engine.anonymity.anonymize", losing)
    with pytest.raises(GateError, match=r"row_count_reconciled: 200 read, but .* unaccounted for"):
        released(world, census_policy("census_lost"), census(9))
    assert not exists("anonymized.anonymized_census_lost")
    assert staging_is_empty()


def test_a_change_of_level_is_announced(world: World) -> None:
    policy = census_policy("census_change")
    assert released(world, policy, census(5, 20)).warnings == ()
    report = released(world, policy, census(5, 2000))  # more people can be told apart further
    first, last = query(
        "SELECT levels FROM governance.anonymity_releases WHERE target LIKE '%%census_change' ORDER BY id"
    )
    changed = {name for name in first[0] if first[0][name] != last[0][name]}
    assert changed
    assert {warning.split("`")[1] for warning in report.warnings if "is published by" in warning} == changed


def test_analysts_do_not_see_what_is_left_of_identifiers(world: World) -> None:
    released(world, census_policy("census_roles"), census(6))
    table = "anonymized.anonymized_census_roles"
    with connect(Role.ANALYST) as analyst:
        analyst.execute(f"SELECT token, age, job, joined, illness FROM {table}").fetchall()
        analyst.commit()
        for columns in ("network", "*", "count(network)"):
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                analyst.execute(f"SELECT {columns} FROM {table}")
            analyst.rollback()
    with connect(Role.LINKAGE) as linkage:
        assert len(linkage.execute(f"SELECT * FROM {table}").fetchall()) == 200
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            linkage.execute("SELECT * FROM raw.raw_census_roles")
    with connect(Role.DASHBOARD) as dashboard, pytest.raises(psycopg.errors.InsufficientPrivilege):
        dashboard.execute(f"SELECT age FROM {table}")


def test_a_policy_may_show_a_linkage_column_and_hide_another(world: World) -> None:
    shown = {
        "address": {
            "type": "string",
            "sensitivity": "high",
            "role": "identifier",
            "technique": {"mask": {"kind": "ip"}},
            "output": "network",
            "visible_to": "analyst",
            "comment": "c",
        },
        "illness": {
            "type": "string",
            "sensitivity": "low",
            "technique": "keep",
            "visible_to": "linkage",
            "comment": "c",
        },
    }
    released(world, census_policy("census_shown", shown), census(7))
    with connect(Role.ANALYST) as analyst:
        analyst.execute("SELECT network FROM anonymized.anonymized_census_shown").fetchall()
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            analyst.execute("SELECT illness FROM anonymized.anonymized_census_shown")


def test_an_update_of_some_people_keeps_k(world: World) -> None:
    policy = census_policy("census_update")
    people = census(8, 400)
    released(world, policy, people)
    updated = people.with_columns(
        pl.when(pl.int_range(400) < 4).then(pl.lit(59)).otherwise(pl.col("Age (years)")).alias("Age (years)")
    )
    old = frame("anonymized.anonymized_census_update")
    report = released(world, policy, updated)
    table = frame("anonymized.anonymized_census_update")
    assert (table.height, k_of(table, QIS) >= 4) == (400, True)
    # Whoever kept the old release knows more: counted, recorded, and said.
    both = old.join(table, on="token", suffix="_new").group_by(*QIS, *(f"{name}_new" for name in QIS)).len()
    exposed = int(both.filter(pl.col("len") < 4)["len"].sum())
    assert exposed > 0
    assert report.anonymity is not None
    assert report.anonymity.exposed_by_intersection == exposed
    assert any(warning.startswith(f"{exposed} people") for warning in report.warnings)


def test_an_empty_raw_table_gives_an_empty_release(world: World) -> None:
    policy = census_policy("census_empty")
    path = world.landing / "census_empty.csv"
    census().clear().write_csv(path, separator=";")
    world.land(policy, path)
    assert world.anonymize(policy).rows == 0
