"""The command line: JSON that parses, one-line errors, an environment for other tools, an audit that tells."""

import json
import os
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import psycopg
import pytest
from typer.testing import CliRunner

from privacy_platform.cli import app
from privacy_platform_tests.end_to_end.homes import ROOT, Home
from privacy_platform_tests.end_to_end.people import events, people, write

if TYPE_CHECKING:
    from pyspark.sql import SparkSession


@pytest.fixture(scope="module")
def home(homes: Callable[..., Home], spark: "SparkSession") -> Home:
    home = homes()
    someone = people(60)
    write(home.landing / "users.jsonl", someone)
    write(home.landing / "events.jsonl", events(someone, 600))
    assert home.materialize("*").succeeded
    return home


def test_generate(home: Home, tmp_path: Path) -> None:
    words = ("generate", "--users", "50", "--events", "500", "--seed", "4", "--dirty", "0.05")
    document = home.json(*words, "--out", str(tmp_path / "a"))
    assert [Path(file["path"]).name for file in document["files"]] == ["users.jsonl", "events.jsonl"]
    assert sum(document["planted"].values()) > 5
    assert document["files"][0]["rows"] >= 50
    again = home.json(*words, "--out", str(tmp_path / "b"))
    assert again["planted"] == document["planted"]
    for name in ("users.jsonl", "events.jsonl"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


def test_materialize_without_new_data_needs_no_spark(home: Home) -> None:
    for path in home.landing.iterdir():
        path.unlink()
    document = home.json("materialize", "raw_users")
    assert document["succeeded"] is True
    [table] = document["tables"]
    assert (table["table"], table["zone"], table["status"], table["rows"]) == ("raw_users", "raw", "published", 60)
    assert all(table["checks"].values())


def test_policies(home: Home) -> None:
    assert home.json("policy", "check")["problems"] == {}
    fields = home.json("policy", "explain", "users")["fields"]
    assert len(fields) == 17
    assert all(field["protects_against"] and field["does_not"] and field["result"] for field in fields)


@pytest.mark.parametrize("role", ["admin", "pipeline", "compliance", "analyst", "dashboard"])
def test_db_url(home: Home, role: str) -> None:
    document = home.json("db", "url", "--role", role)
    with psycopg.connect(document["url"]) as connection:
        [login] = connection.execute("SELECT session_user::text").fetchone() or ("",)
    assert document["role"] == role
    assert login.endswith(role) or role == "admin"


def test_audit_and_lineage_and_their_own_traces(home: Home) -> None:
    shown = home.json("audit", "show", "--limit", "5")
    assert len(shown) == 5
    assert shown[0]["seq"] > shown[-1]["seq"]
    found = home.json("lineage", "anonymized.anonymized_users")
    assert {entry["target"] for entry in found} == {"anonymized.anonymized_users"}
    assert found[0]["records_in"] == found[0]["records_out"] == 60
    assert found[0]["column_lineage"]["email_hash"]["sources"]
    reads = [entry for entry in home.json("audit", "show") if entry["action"] == "restricted_read"]
    assert len(reads) >= 2


def test_detokenize(home: Home) -> None:
    [(token,)] = home.rows("SELECT user_token FROM anonymized.anonymized_users ORDER BY 1 LIMIT 1")
    unknown = "tok_" + "0" * 32
    reason = ("--reason", "Case 4711")
    [found, missing] = home.json("detokenize", token, unknown, *reason, code=1)
    assert missing == {"token": unknown, "id": None}
    assert found["id"] in {str(person["user_id"]) for person in people(60)}
    shown = home.run("detokenize", token, *reason)
    assert shown.stdout == f"{token}\t{found['id']}\n"
    [entry, *_] = home.json("audit", "show", "--limit", "1")
    assert (entry["action"], entry["details"]["tokens"]) == ("detokenize", [token])
    assert found["id"] not in json.dumps(home.json("audit", "show"))
    assert "Missing option" in home.run("detokenize", token, code=2).stderr
    refused = home.run("detokenize", token, "--reason", " ", code=1)
    assert "Give a reason" in refused.stderr
    assert not refused.stdout


def test_the_privacy_budget_and_what_it_buys(home: Home) -> None:
    document = home.json("budget", "show")
    budgets = {(each["dataset"], each["unit"]): each for each in document["budgets"]}
    assert set(budgets) == {("users", "user"), ("users", "user_day")}
    assert all(0 < each["spent"] < each["epsilon"] and each["left"] > 0 for each in budgets.values())
    assert {release["target"].split(".")[1] for release in document["releases"]} == {
        "user_cohorts", "daily_event_metrics", "product_metrics",
    }  # fmt: skip
    explained = home.json("budget", "explain", "analytics.daily_event_metrics")
    assert explained["unit"] == "user_day"
    assert explained["releases_left"] > 0
    assert explained["promised_error_95"]["unique_users"]["1000"] > 0
    assert {query["measure"] for query in explained["queries"]} >= {"total_events", "unique_users"}
    words = home.run("budget", "explain", "daily_event_metrics").stdout
    assert "everything of one user on one day (UTC)" in words
    latest, *_ = home.json("audit", "show", "--limit", "1")
    assert (latest["action"], latest["actor"]) == ("restricted_read", "privacy_platform_compliance")
    assert (latest["subject_table"], latest["details"]) == ("analytics.daily_event_metrics", {"read": "privacy budget"})


def test_looks_at_exact_figures_are_called_not_private_and_recorded(home: Home) -> None:
    def run(*words: str) -> str:
        # In this process, whose Spark session is running already.
        with home.entered():
            done = CliRunner().invoke(app, ["budget", *words])
        assert done.exit_code == 0, done.output
        return done.stdout

    before = home.rows("SELECT count(*) FROM governance.privacy_budget")
    tried = json.loads(run("simulate", "user_cohorts", "--epsilon", "0.5,2", "--json"))
    assert tried["private"] is False
    assert [trial["epsilon"] for trial in tried["trials"]] == [0.5, 2]
    assert "not private" in run("simulate", "user_cohorts")
    [entry, *_] = home.json("audit", "show", "--limit", "1")
    assert (entry["subject_table"], entry["details"]) == ("analytics.user_cohorts", {"read": "budget simulation"})
    reported = json.loads(run("report", "user_cohorts", "--json"))
    assert reported["private"] is False
    assert reported["released_since"] == []
    again = home.json("budget", "report", "user_cohorts", "--last")
    assert again["measures"] == reported["measures"]
    assert {row["measure"] for row in again["measures"]} >= {"total_users", "total_revenue"}
    assert home.rows("SELECT count(*) FROM governance.privacy_budget") == before


def test_risk_of_a_table_is_that_of_what_the_role_sees(home: Home) -> None:
    document = home.json("risk", "anonymized_users")
    assert (document["table"], document["role"]) == ("anonymized.anonymized_users", "analyst")
    assert sum(one["size"] * one["classes"] for one in document["class_sizes"]) == document["records"]
    assert 0 < document["prosecutor"]["average"] <= document["prosecutor"]["highest"] == 1 / document["k"]
    assert "user_token" in document["pseudonyms"]
    assert next(one["name"] for one in document["sensitive"]) == "subscription_tier"
    assert "k: records of the smallest class" in home.run("risk", "anonymized_users").stdout
    # What only compliance reads is looked at on the record.
    raw = home.json("risk", "raw.raw_users", "--role", "compliance")
    latest, *_ = home.json("audit", "show", "--limit", "1")
    assert (latest["action"], latest["subject_table"]) == ("restricted_read", "raw.raw_users")
    assert latest["details"] == {"read": "risk", "rows": raw["records"]}


def test_risk_of_a_file(home: Home, tmp_path: Path) -> None:
    path = tmp_path / "people.csv"
    path.write_text(
        "age;sex;illness\n" + "20-29;f;flu\n20-29;f;none\n" * 3 + "30-39;m;flu\n*;*;flu\n", encoding="utf-8"
    )
    words = ("risk", str(path), "--quasi-identifiers", "age,sex", "--sensitive", "illness", "--suppressed", "*")
    document = home.json(*words, "--original", str(path), "--population", str(path))
    assert (document["records"], document["suppressed"], document["k"], document["unique"]) == (7, 1, 1, 1)
    assert [one["columns"] for one in document["combinations"]] == [["age"], ["sex"]]
    assert document["population"] == 8


def test_doctor(home: Home) -> None:
    found = {finding["name"]: finding for finding in home.json("doctor")}
    assert {"Java", "keyring", "policies", "warehouse", "landing folder", "Kafka"} <= found.keys()
    assert all(finding["ok"] for finding in found.values()), found
    assert "privacy-platform kafka up" in found["Kafka"]["detail"]  # Not needed, so not missed.


def test_env_is_json_and_works_in_a_shell(home: Home) -> None:
    document = home.json("env")
    assert document["PRIVACY_PLATFORM_HOME"] == str(home.path)
    script = 'eval "$(privacy-platform env)" && test -f "$DAGSTER_HOME/dagster.yaml" && dagster run list --limit 1'
    done = subprocess.run(
        ["sh", "-c", script], env=home.environment(), cwd=ROOT, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "Run:" in done.stdout


def test_paths_with_blanks_and_quotes_survive_env(homes: Callable[..., Home], tmp_path: Path) -> None:
    home = homes(PRIVACY_PLATFORM_LANDING=str(tmp_path / "it's a $HOME folder"))
    script = 'eval "$(privacy-platform env)" && printf %s "$PRIVACY_PLATFORM_LANDING"'
    done = subprocess.run(
        ["sh", "-c", script], env=home.environment(), cwd=ROOT, capture_output=True, text=True, timeout=90, check=False
    )
    assert done.stdout == str(tmp_path / "it's a $HOME folder"), done.stderr


ERRORS = {
    "no such selection": (("materialize", "no_such_table"), "no_such_table"),
    "no selection at all": (("materialize", "((("), "((("),
    "days that are none": (("materialize", "*", "--days", "soon"), "--days soon"),
    "days the wrong way round": (("materialize", "raw_events", "--days", "2026-06-12..2026-06-10"), "--days"),
    "days before the first": (("materialize", "raw_events", "--days", "2020-01-01..2020-01-02"), "2026-01-01.."),
    "days to come": (("materialize", "raw_events", "--days", "2026-06-01..9999-12-31"), "--days"),
    "brackets, which colour": (("materialize", "[/red]"), "[/red]"),
    "no such dataset": (("policy", "explain", "nobody"), "nobody"),
    "no such policy file": (("policy", "check", "/no/such/file.yaml"), "file.yaml"),
    "events without users": (("generate", "--users", "0", "--events", "5"), "users"),
    "a negative seed": (("generate", "--users", "1", "--events", "0", "--seed", "-1"), "seed"),
    "a head that is none": (("audit", "verify", "--head", "beef@1"), "HASH@ROW"),
    "a file of heads that is not there": (("audit", "verify", "--head", "/no/such/heads"), "/no/such/heads"),
    "a table that is none": (("risk", "no_such_table"), "no_such_table"),
    "a table of another role": (("risk", "anonymized_users", "--role", "dashboard"), "anonymized_users"),
    "a column that is none": (("risk", "anonymized_users", "--sensitive", "shoe_size"), "shoe_size"),
    "a file that is none": (("risk", "/no/such/people.csv"), "people.csv"),
    "a table that is not private": (("budget", "explain", "anonymized_users"), "anonymized_users"),
    "an epsilon that is none": (("budget", "simulate", "user_cohorts", "--epsilon", "1,x"), "--epsilon"),
    "keys twice": (("keys", "init"), "keyring"),
    "a policy folder that is none": (("policy", "check", "--json"), "PRIVACY_PLATFORM_POLICIES"),
    "a database that is none": (("audit", "verify"), "PRIVACY_PLATFORM_DATABASE_URL"),
}
SETTINGS = {
    "a policy folder that is none": {"PRIVACY_PLATFORM_POLICIES": "/no/such/folder"},
    "a database that is none": {"PRIVACY_PLATFORM_DATABASE_URL": "mysql://me:secret-word@nowhere/x"},
}


@pytest.mark.parametrize("case", ERRORS)
def test_errors_are_one_line_and_exit_1(home: Home, tmp_path: Path, case: str) -> None:
    words, named = ERRORS[case]
    if words[0] == "generate":
        words = (*words, "--out", str(tmp_path))
    done = Home(home.path, dict(SETTINGS.get(case, {}))).run(*words, code=1)
    lines = [line for line in done.stderr.splitlines() if line.strip()]
    assert len(lines) == 1, done.stderr
    assert named in lines[0]
    assert "Traceback" not in done.stderr + done.stdout
    assert "secret-word" not in done.stderr


def test_a_folder_that_cannot_be_written_is_one_line(home: Home, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("", encoding="utf-8")
    done = home.run("generate", "--users", "1", "--events", "0", "--out", str(tmp_path / "file" / "x"), code=1)
    assert "Traceback" not in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1, done.stderr


def test_a_damaged_keyring_is_one_line_without_keys(home: Home, homes: Callable[..., Home]) -> None:
    other = homes()
    other.run("env")
    path = other.path / "secrets" / "keyring.json"
    text = path.read_text(encoding="utf-8")
    path.write_text(text[: len(text) // 2], encoding="utf-8")
    done = other.run("materialize", "*", code=1)
    assert len(done.stderr.strip().splitlines()) == 1, done.stderr
    assert not any(word in done.stderr for word in text.split('"') if len(word) > 20)
    os.chmod(path, 0o644)
    path.write_text(text, encoding="utf-8")
    done = other.run("materialize", "*", code=1)
    assert "keyring.json" in done.stderr


@contextmanager
def _tampering(home: Home, statement: str, back: str) -> Iterator[None]:
    """What a superuser can do: switch the triggers off, rewrite history, switch them on again."""
    log = "governance.privacy_audit_log"
    with home.connect() as connection:
        for each in (f"ALTER TABLE {log} DISABLE TRIGGER ALL", f"CREATE TABLE kept AS SELECT * FROM {log}", statement):
            connection.execute(each.encode())
        connection.execute(f"ALTER TABLE {log} ENABLE ALWAYS TRIGGER audit_append".encode())
        connection.execute(f"ALTER TABLE {log} ENABLE ALWAYS TRIGGER audit_refuse".encode())
        try:
            yield
        finally:
            for each in (f"ALTER TABLE {log} DISABLE TRIGGER ALL", f"DELETE FROM {log}"):
                connection.execute(each.encode())
            for each in (f"INSERT INTO {log} SELECT * FROM kept", "DROP TABLE kept", *([back] if back else [])):
                connection.execute(each.encode())
            connection.execute(f"ALTER TABLE {log} ENABLE ALWAYS TRIGGER audit_append".encode())
            connection.execute(f"ALTER TABLE {log} ENABLE ALWAYS TRIGGER audit_refuse".encode())


TAMPERED = {
    "changed": ("UPDATE governance.privacy_audit_log SET outcome = 'failed' WHERE seq = 3", 3, "changed"),
    "removed": ("DELETE FROM governance.privacy_audit_log WHERE seq = 4", 4, "missing"),
    "cut off": ("DELETE FROM governance.privacy_audit_log WHERE seq > 5", 6, "missing"),
    "reordered": (
        "UPDATE governance.privacy_audit_log SET seq = CASE seq WHEN 4 THEN 105 ELSE 104 END WHERE seq IN (4, 5); "
        "UPDATE governance.privacy_audit_log SET seq = seq - 100 WHERE seq IN (104, 105)",
        4,
        "unlinked",
    ),
}


@pytest.mark.parametrize("kind", TAMPERED)
def test_audit_verify_finds_what_a_superuser_did(home: Home, kind: str) -> None:
    statement, seq, problem = TAMPERED[kind]
    assert home.json("audit", "verify")["ok"] is True
    with _tampering(home, statement, ""):
        document = home.json("audit", "verify", code=1)
        assert (document["ok"], document["seq"], document["problem"]) == (False, seq, problem)
        done = home.run("audit", "verify", code=1)
        assert f"Entry {seq}" in done.stderr
    assert home.json("audit", "verify")["ok"] is True


def test_a_kept_head_finds_what_was_cut_off_with_its_head(home: Home, tmp_path: Path) -> None:
    heads = tmp_path / "heads"
    heads.touch()
    assert home.json("audit", "verify", "--head", str(heads))["since"] is None
    (kept,) = heads.read_text(encoding="utf-8").split()
    assert home.run("audit", "verify", "--head", kept).stdout.split("Its head:")[1].split() == [kept]
    log, head = "governance.privacy_audit_log", "governance.audit_head"
    cut = (
        f"DELETE FROM {log} WHERE seq > 5; UPDATE {head} h SET seq = l.seq, hash = l.hash FROM {log} l WHERE l.seq = 5"
    )
    back = f"UPDATE {head} h SET seq = l.seq, hash = l.hash FROM {log} l WHERE l.seq = (SELECT max(seq) FROM {log})"
    with _tampering(home, cut, back):
        assert home.json("audit", "verify")["ok"] is True  # nothing in the database can tell
        for given in (kept, str(heads)):
            document = home.json("audit", "verify", "--head", given, code=1)
            assert (document["ok"], document["seq"], document["problem"]) == (False, 6, "missing")
    assert home.json("audit", "verify", "--head", str(heads))["since"] == kept
    assert len(heads.read_text(encoding="utf-8").split()) == 2


def test_help_names_every_command(home: Home) -> None:
    text = home.run("--help").stdout
    for name in (
        "demo",
        "generate",
        "materialize",
        "up",
        "down",
        "env",
        "policy",
        "keys",
        "db",
        "audit",
        "lineage",
        "doctor",
    ):
        assert name in text
    assert json.dumps(text)
