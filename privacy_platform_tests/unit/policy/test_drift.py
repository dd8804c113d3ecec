"""Data against the policy: a hidden, changed or new column is named; an override is for one finding, with a reason."""

import copy
from typing import Any

import polars as pl
import pytest
from pydantic import ValidationError

from privacy_platform.detection.detector import Column, Table
from privacy_platform.policy.drift import Contradiction, contradictions, sample
from privacy_platform.policy.load import load_policies
from privacy_platform.policy.model import DatasetPolicy
from privacy_platform.synthetic import generate

DOCUMENT: dict[str, Any] = {
    "dataset": "people",
    "description": "People.",
    "source": {"files": ["people*"]},
    "subject": "id",
    "key": "id",
    "fields": {
        "id": {"type": "string", "sensitivity": "high", "technique": "tokenize", "output": "token", "comment": "c"},
        "email": {"type": "string", "pii": "email", "sensitivity": "high", "technique": "hmac", "comment": "c"},
        "tier": {"type": "string", "sensitivity": "none", "technique": "keep", "comment": "c"},
        "c7": {"type": "string", "sensitivity": "none", "technique": "keep", "comment": "c"},
    },
}
MAILS = [f"person{n}@example.org" for n in range(30)]
GOOD = {"id": [f"p{n}" for n in range(30)], "email": MAILS, "tier": ["free", "basic"] * 15, "c7": ["A", "B"] * 15}


def policy(**changes: Any) -> DatasetPolicy:
    """The policy with settings of single fields changed."""
    document = copy.deepcopy(DOCUMENT)
    for name, settings in changes.items():
        document["fields"][name] |= settings
    return DatasetPolicy.model_validate(document)


def look(people: DatasetPolicy, **changes: list[str]) -> list[Contradiction]:
    columns = GOOD | changes
    return contradictions(people, Table("people", [Column(name, values, 30) for name, values in columns.items()]))


def test_data_as_the_policy_says() -> None:
    assert look(policy()) == []


def test_a_hidden_email_column_is_named_with_the_mend() -> None:
    (found,) = look(policy(), c7=MAILS)

    assert (found.field, found.kind, found.type) == ("c7", "personal", "email")
    assert "`c7` is published by `keep` and looks like email" in found.message(policy())
    assert "override" in found.message(policy())


def test_a_protected_field_may_look_personal() -> None:
    assert look(policy(c7={"sensitivity": "high", "technique": "hmac"}), c7=MAILS) == []
    assert look(policy(c7={"technique": "suppress"}), c7=MAILS) == []


def test_a_new_column_is_named() -> None:
    (found,) = look(policy(), shoe_size=["42"] * 30)

    assert (found.field, found.kind, found.type) == ("shoe_size", "new", "none")
    assert "`shoe_size` is not in the policy" in found.message(policy())


def test_a_field_that_is_no_longer_what_the_policy_says() -> None:
    (found,) = look(policy(), email=[f"{n}.50" for n in range(30)])

    assert (found.field, found.kind) == ("email", "changed")
    assert "is email in the policy" in found.message(policy())


def test_a_field_changed_whatever_its_name() -> None:
    people = policy(email={"column": "kntk_zx"})
    columns = {name: values for name, values in GOOD.items() if name != "email"} | {
        "kntk_zx": [f"{n}.50" for n in range(30)]
    }

    (found,) = contradictions(people, Table("people", [Column(name, values, 30) for name, values in columns.items()]))

    assert (found.field, found.kind) == ("email", "changed")


def test_few_values_are_no_ground_to_say_that_a_field_changed() -> None:
    assert look(policy(), email=["12.50"]) == []


def test_an_override_takes_back_one_finding_only() -> None:
    people = policy(c7={"override": {"type": "email", "reason": "Role addresses of our shops; looked at by the DPO."}})

    assert look(people, c7=MAILS) == []
    (found,) = look(people, c7=["4111111111111111", "5500005555555559", "4012888888881881"] * 10)
    assert found.type == "credit_card"


def test_an_override_needs_a_reason() -> None:
    with pytest.raises(ValidationError, match="reason"):
        policy(c7={"override": {"type": "email", "reason": "ok"}})


def test_a_message_holds_no_value_even_if_the_name_is_one() -> None:
    (found,) = look(policy(), **{"ana@example.org": ["1"] * 30})

    assert "ana@" not in found.message(policy())


def test_the_sample_is_small_and_of_values_that_are_there() -> None:
    rows = pl.DataFrame({name: (values + [None] * 30) * 20 for name, values in GOOD.items()})

    table = sample(policy(), rows)

    assert [column.name for column in table.columns] == list(DOCUMENT["fields"])
    assert all(0 < len(column.values) <= 60 for column in table.columns)
    assert all(isinstance(value, str) for column in table.columns for value in column.values)


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_the_packaged_policies_agree_with_generated_data(tmp_path: Any, seed: int) -> None:
    generate(users=600, events=3000, out=tmp_path, seed=seed)

    for name, packaged in load_policies().datasets.items():
        rows = pl.read_ndjson(tmp_path / f"{name}.jsonl", infer_schema_length=None)
        assert contradictions(packaged, sample(packaged, rows)) == []
