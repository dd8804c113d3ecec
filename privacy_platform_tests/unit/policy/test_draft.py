"""Drafted policies: complete, valid, careful with what the detector is unsure of; and the commands around them."""

import csv
import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from privacy_platform.cli import app
from privacy_platform.detection.detector import Column, Table, detect
from privacy_platform.policy.draft import draft_policy
from privacy_platform.policy.load import PolicyError, read_policy
from privacy_platform.policy.model import DatasetPolicy

PEOPLE: dict[str, list[str]] = {
    "customer_id": [str(1000 + n) for n in range(40)],
    "first_name": ["Ann", "Bob", "Carl", "Dora", "Eve", "Fred", "Gina", "Hugo"] * 5,
    "email": [f"a{n}@example.org" for n in range(40)],
    "phone": [f"+44 20 7946 09{n:02d}" for n in range(40)],
    "zip_code": [f"92{n:03d}" for n in range(40)],
    "age": [str(20 + n) for n in range(40)],
    "ip_address": [f"203.0.113.{n}" for n in range(40)],
    "diagnosis": ["Asthma", "Diabetes"] * 20,
    "notes": ["she said that she would come back on monday"] * 40,
    "tier": ["gold", "silver"] * 20,
    "spent": [f"{n}.5" for n in range(40)],
    "seen": [f"2024-01-{1 + n % 28:02d}T10:00:00Z" for n in range(40)],
    "active": ["true", "false"] * 20,
    "empty": [],
}


def drafted(columns: dict[str, list[str]], **more: Any) -> tuple[str, DatasetPolicy]:
    table = Table("people", [Column(name, values, 40) for name, values in columns.items()])
    text = draft_policy("people", "people*", table, detect(table), **more)
    return text, DatasetPolicy.model_validate(yaml.safe_load(text))


def test_every_column_is_present_and_what_is_personal_is_protected() -> None:
    _, policy = drafted(PEOPLE)
    techniques = {name: field.technique.name for name, field in policy.fields.items()}

    assert list(policy.fields) == list(PEOPLE)
    assert (policy.subject, policy.key) == ("customer_id", "customer_id")
    assert not policy.unprotected_fields()
    assert techniques["customer_id"] == "tokenize"
    assert techniques["first_name"] == "hash"
    assert techniques["email"] == "hmac"
    assert {techniques[name] for name in ("phone", "zip_code", "ip_address")} == {"mask"}
    assert techniques["age"] == "bucket"
    assert techniques["diagnosis"] == "suppress"


def test_types_follow_the_values() -> None:
    _, policy = drafted(PEOPLE)

    assert {name: str(policy.fields[name].type) for name in ("age", "spent", "seen", "active", "tier")} == {
        "age": "integer", "spent": "number", "seen": "timestamp", "active": "boolean", "tier": "string",
    }  # fmt: skip


def test_unsure_columns_are_suppressed_with_a_comment() -> None:
    table = Table("people", [Column(name, values, 40) for name, values in PEOPLE.items()])
    unsure = [f.name for f in detect(table) if f.confidence < 0.8 and f.name != "customer_id"]
    text, policy = drafted(PEOPLE)

    assert unsure
    assert text.count("# unsure") == len(unsure)
    assert {policy.fields[name].technique.name for name in unsure} == {"suppress"}


def test_records_that_are_not_people_get_a_key_of_their_own() -> None:
    _, policy = drafted(
        {
            "order_id": [f"o{n}" for n in range(40)],
            "customer_id": [f"c{n % 5}" for n in range(40)],
            "quantity": ["1", "2"] * 20,
        }
    )

    assert (policy.subject, policy.key) == ("customer_id", "order_id")


def test_columns_keep_their_names_and_fields_get_ones_that_a_policy_can_have() -> None:
    columns = {"Customer ID": [f"c{n}" for n in range(40)], "E-Mail": PEOPLE["email"]}

    policy = drafted(columns)[1]
    assert policy.source_columns() == {"Customer ID": "customer_id", "E-Mail": "e_mail"}


def test_a_subject_is_needed_and_can_be_named() -> None:
    columns = {"gizmo": [f"x{n}" for n in range(40)], "tier": ["a", "b"] * 20}

    with pytest.raises(PolicyError, match="--subject"):
        drafted(columns)
    with pytest.raises(PolicyError, match="no column `nobody`"):
        drafted(columns, subject="nobody")
    assert drafted(columns, subject="gizmo")[1].subject == "gizmo"


@pytest.fixture
def people_csv(tmp_path: Path) -> Path:
    path = tmp_path / "people.csv"
    columns = {name: values for name, values in PEOPLE.items() if values}
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([columns, *zip(*columns.values(), strict=True)])
    return path


def run(*words: object) -> tuple[int, str]:
    result = CliRunner().invoke(app, [str(word) for word in words])
    return result.exit_code, result.output


def test_scan_prints_a_table_and_json(people_csv: Path) -> None:
    code, words = run("scan", people_csv)
    _, document = run("scan", people_csv, "--json")
    columns = {column["name"]: column for column in json.loads(document)["columns"]}

    assert code == 0
    assert "e-mail addresses" in " ".join(words.split())
    assert columns["email"]["type"] == "email"
    assert columns["email"].keys() >= {"name", "type", "sensitivity", "confidence", "evidence", "technique"}


def test_scan_of_a_folder_has_tables(people_csv: Path) -> None:
    (people_csv.parent / "more.jsonl").write_text('{"a": {"email": "x@example.org"}}\n', encoding="utf-8")

    document = json.loads(run("scan", people_csv.parent, "--json")[1])

    assert [table["name"] for table in document["tables"]] == ["more", "people"]
    assert document["columns"][0]["name"] == "a.email"


def test_scan_of_nothing_says_so(tmp_path: Path) -> None:
    code, words = run("scan", tmp_path / "nothing.csv")

    assert code == 1
    assert "no such file" in words


def test_init_writes_a_policy_that_check_agrees_with(people_csv: Path, tmp_path: Path) -> None:
    policy = tmp_path / "people.yaml"

    assert run("policy", "init", people_csv, "--out", policy)[0] == 0
    assert isinstance(read_policy(policy), DatasetPolicy)
    assert run("policy", "check", policy, people_csv)[0] == 0
    assert run("policy", "init", people_csv, "--out", policy)[0] == 1


def test_check_names_a_hidden_email_column(people_csv: Path, tmp_path: Path) -> None:
    policy = tmp_path / "people.yaml"
    run("policy", "init", people_csv, "--out", policy)
    lines = people_csv.read_text(encoding="utf-8").splitlines()
    hidden = [f"{line},{'c7' if n == 0 else f'b{n}@example.org'}" for n, line in enumerate(lines)]
    people_csv.write_text("\n".join(hidden), encoding="utf-8")

    code, words = run("policy", "check", policy, people_csv)

    assert code == 1
    assert "`c7` is not in the policy and looks like email" in " ".join(words.split())


def test_check_of_data_without_a_policy_says_so(tmp_path: Path) -> None:
    path = tmp_path / "unheard_of.csv"
    path.write_text("a\n1\n", encoding="utf-8")

    code, words = run("policy", "check", path)

    assert code == 1
    assert "no policy has a pattern" in " ".join(words.split())
