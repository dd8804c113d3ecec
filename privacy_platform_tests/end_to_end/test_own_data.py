"""A user's own data: a policy file in a folder, a file in landing, no Python."""

import csv
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from privacy_platform.warehouse.connection import Role
from privacy_platform_tests.end_to_end.homes import Home

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

POLICY = """
dataset: patients
description: Patients of a small clinic.
source: {files: ["patients*"]}
subject: patient_no
key: patient_no
privacy_model: {k: 2, quasi_identifiers: [birth_decade], suppression_limit: 0}
fields:
  patient_no: {type: string, pii: user_id, sensitivity: high, technique: tokenize, output: patient_token,
               comment: Number.}
  full_name: {type: string, pii: person_name, sensitivity: high, technique: hash, comment: Name.}
  born: {type: integer, pii: age, sensitivity: medium, output: birth_decade, comment: Year of birth.,
         technique: {bucket: {edges: [1950, 1960, 1970, 1980], labels: [fifties, sixties, seventies, later]}}}
  note: {type: string, pii: free_text, sensitivity: medium, technique: {scrub: {own: [full_name]}}, comment: Note.}
  insured: {type: boolean, sensitivity: none, technique: keep, comment: Whether insured.}
  internal: {type: string, sensitivity: high, technique: suppress, comment: Never published.}
"""
AGGREGATE = """
aggregate: patients_by_decade
description: Patients by decade of birth.
source: anonymized_patients
unit: patient_token
minimum_group_size: 2
dimensions:
  birth_decade: {column: birth_decade, comment: Decade.}
measures:
  patients: {kind: count_distinct, column: patient_token, comment: Patients.}
"""
ROWS = [
    ("p1", "Greta Olm", 1951, "Greta Olm phoned, greta@olm.example", "true", "x"),
    ("p2", "Hans Ulm", 1955, 'no, nothing; "quoted"', "false", ""),
    ("p3", "Ida Elm", 1971, "line one\nline two", "", "y"),
    ("p4", "Jo Alm", 1979, "", "yes", "z"),
]


@pytest.fixture(scope="module")
def home(homes: Callable[..., Home], spark: "SparkSession", tmp_path_factory: pytest.TempPathFactory) -> Home:
    folder = tmp_path_factory.mktemp("own")
    (folder / "patients.yaml").write_text(POLICY, encoding="utf-8")
    (folder / "patients_by_decade.yml").write_text(AGGREGATE, encoding="utf-8")
    home = homes(PRIVACY_PLATFORM_POLICIES=str(folder))
    with (home.landing / "patients-2026.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["patient_no", "full_name", "born", "note", "insured", "internal"])
        writer.writerows(ROWS)
    return home


def test_tables_with_all_checks_appear(home: Home) -> None:
    summary = home.materialize('key:"raw_patients"+')
    assert summary.succeeded, summary
    checks = {table.table: set(table.checks) for table in summary.tables}
    assert checks.keys() == {"raw_patients", "anonymized_patients", "patients_by_decade"}
    assert checks["anonymized_patients"] >= {"no_raw_pii", "k_anonymity", "row_count_reconciled", "tokens_resolve"}
    assert all(passed for table in summary.tables for passed in table.checks.values())
    rows = home.rows(
        "SELECT birth_decade, note, insured FROM anonymized.anonymized_patients ORDER BY birth_decade, insured",
        Role.ANALYST,
    )
    assert rows == [
        ("fifties", 'no, nothing; "quoted"', False),
        ("fifties", "[FULL_NAME] phoned, [EMAIL]", True),
        ("seventies", None, True),
        ("seventies", "line one\nline two", None),
    ]
    names = {
        name
        for (name,) in home.rows(
            "SELECT column_name FROM information_schema.columns WHERE table_name = 'anonymized_patients'"
        )
    }
    assert names == {"patient_token", "full_name", "birth_decade", "note", "insured", "anonymized_at"}
    assert home.rows("SELECT * FROM analytics.patients_by_decade ORDER BY 1", Role.DASHBOARD) == [
        ("fifties", 2),
        ("seventies", 2),
    ]


def test_a_new_column_in_the_file_stops_the_run_by_its_name(home: Home) -> None:
    path: Path = home.landing / "patients-2027.csv"
    path.write_text("patient_no,full_name,shoe_size\np9,A B,44\n", encoding="utf-8")
    before = home.visible()
    try:
        summary = home.materialize('key:"raw_patients"+')
    finally:
        path.unlink()
    assert not summary.succeeded
    assert "`shoe_size`" in summary.tables[0].message
    assert "technique: suppress" in summary.tables[0].message
    assert home.visible() == before
    assert home.staging() == []


def test_policies_explain_themselves(home: Home) -> None:
    explained = home.json("policy", "explain", "patients")
    assert {field["field"]: field["technique"] for field in explained["fields"]}["born"] == "bucket"
    checked = home.json("policy", "check")
    assert "patients" in checked["checked"]
    assert checked["problems"] == {}
