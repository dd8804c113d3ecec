"""Datasets of very many columns: accepted while their rows fit PostgreSQL's, refused with the mend when they do not."""

from typing import Any

import pytest

from privacy_platform.policy.load import PolicySet, load_policies
from privacy_platform.policy.model import DatasetPolicy
from privacy_platform.policy.widths import width_problem

SUBJECT: dict[str, Any] = {
    "type": "string",
    "sensitivity": "high",
    "technique": "tokenize",
    "output": "t",
    "comment": "c",
}
COUNT: dict[str, Any] = {"type": "integer", "sensitivity": "none", "technique": "keep", "comment": "c"}
TEXT: dict[str, Any] = COUNT | {"type": "string"}
HIDDEN: dict[str, Any] = {"type": "string", "sensitivity": "high", "technique": "suppress", "comment": "c"}
HASH = HIDDEN | {"technique": "hmac"}
RANGE: dict[str, Any] = COUNT | {"sensitivity": "medium", "technique": {"bucket": {"edges": [0, 10]}}}


def wide(**counts: int) -> DatasetPolicy:
    kinds = {"count": COUNT, "text": TEXT, "hidden": HIDDEN, "hash": HASH, "range": RANGE}
    fields = {"id": SUBJECT} | {f"{kind}_{n}": kinds[kind] for kind, count in counts.items() for n in range(count)}
    return DatasetPolicy.model_validate(
        {
            "dataset": "wide",
            "description": "d",
            "source": {"files": ["*"]},
            "subject": "id",
            "key": "id",
            "fields": fields,
        }
    )


@pytest.mark.parametrize("counts", [{"count": 900, "hidden": 600}, {"text": 330}, {"hash": 335, "hidden": 1200}])
def test_many_columns_are_accepted(counts: dict[str, int]) -> None:
    assert width_problem(wide(**counts)) is None


@pytest.mark.parametrize(
    ("counts", "table", "mend"),
    [
        ({"count": 1_020}, "raw_wide", "give some a sensitivity of medium"),
        ({"text": 340}, "raw_wide", "give some a sensitivity of medium"),
        ({"hash": 340}, "anonymized_wide", "suppress some"),
        ({"range": 340}, "anonymized_wide", "suppress some"),
    ],
)
def test_rows_that_could_be_too_wide_are_refused(counts: dict[str, int], table: str, mend: str) -> None:
    problem = width_problem(wide(**counts)) or ""
    assert f"a row of {table} could take" in problem
    assert mend in problem


def test_a_policy_file_that_is_too_wide_is_invalid_and_says_so(tmp_path: Any) -> None:
    (tmp_path / "wide.yaml").write_text(wide(hash=400).model_dump_json())  # JSON is YAML
    found: PolicySet = load_policies([tmp_path])
    assert not found.datasets
    assert "suppress some, or say `type: integer`" in found.invalid[0].message
