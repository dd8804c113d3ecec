"""Every rule of the detector has a column that it rightly decides, and one that only looks like it and is not taken.

A rule that has none of either is dead, or nobody knows what it does: it gets the columns, or it goes. What a column has
is read from the detector's own evidence. A value of a strict form (an IBAN) that only looks like one has no evidence:
`~kind` in the file says what it looks like.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import pytest

from privacy_platform.detection.detector import Column, Table, detect
from privacy_platform.detection.names import NameEvidence, name_evidence
from privacy_platform.detection.scoring import WEIGHTS
from privacy_platform.detection.types import Finding
from privacy_platform.detection.types import PiiType as T
from privacy_platform.detection.values import ValueEvidence, value_evidence
from privacy_platform_tests.unit.detection.hard import read_tables

HALF = 0.5
VALUE_RULES = [(kind, form) for kind, weights in WEIGHTS.items() for form in weights.kinds]
# What else a name can say, and how it is recognized. Each guards both ways: it must not hide what is personal, either.
NAME_GUARDS: dict[str, Callable[[NameEvidence], bool]] = {
    "a person": lambda name: name.person and not name.public,
    "somebody public": lambda name: name.public,
    "a thing": lambda name: name.thing and not name.animal,
    "about a value, not the value": lambda name: name.negated,
    "a bare key": lambda name: name.key,
    "a bare name": lambda name: "name" in name.generic and not name.types,
    "nothing": lambda name: name.meaningless,
    "unknown words": lambda name: name.unknown and not name.meaningless,
}
RARE = {
    "credit_card": "high",
    "iban": "high",
    "us_ssn": "high",
    "br_cpf": "high",
    "uk_nino": "high",
    "it_codice_fiscale": "high",
    "es_dni": "high",
    "fr_nir": "high",
    "email": "high",
    "phone": "high",
}


@dataclass(frozen=True, slots=True)
class Case:
    """A labelled column, what the detector says of it, and on what evidence."""

    label: str
    alike: frozenset[str]
    name: NameEvidence
    values: ValueEvidence
    finding: Finding

    @property
    def right(self) -> bool:
        return self.finding.type == self.label


@cache
def cases() -> list[Case]:
    return [
        Case(label, alike, name_evidence(column.name), value_evidence(column.values), finding)
        for file in ("hard_columns.txt", "fresh_columns.txt")
        for read in read_tables(file)
        for column, label, alike, finding in zip(
            read.table.columns, read.labels, read.alike, detect(read.table), strict=True
        )
    ]


@pytest.mark.parametrize(("kind", "form"), VALUE_RULES, ids=lambda part: str(part))
def test_a_rule_of_values_decides_a_column_and_is_not_fooled_by_another(kind: T, form: str) -> None:
    decided = [c for c in cases() if c.label == kind and c.right and c.values.share(form) >= HALF]
    resisted = [
        c
        for c in cases()
        if c.label != kind and c.finding.type is not kind and (c.values.share(form) >= HALF or form in c.alike)
    ]

    assert decided, f"no column of type {kind} has values of kind {form}"
    assert resisted, f"no column has values like {form} and is no {kind}"


@pytest.mark.parametrize("kind", list(WEIGHTS), ids=str)
def test_the_words_for_a_type_decide_a_column_and_do_not_fool(kind: T) -> None:
    said = [c for c in cases() if c.name.types.get(kind, 0.0) >= HALF]

    assert [c for c in said if c.label == kind and c.right], f"no column of type {kind} is called so"
    assert [c for c in said if c.label != kind and c.finding.type is not kind], (
        f"no column is called so and is no {kind}"
    )


@pytest.mark.parametrize("guard", NAME_GUARDS)
def test_what_else_a_name_says_neither_hides_nor_makes_personal_data(guard: str) -> None:
    said = [c for c in cases() if NAME_GUARDS[guard](c.name) and c.right]

    assert [c for c in said if c.label == T.NONE], f"no column that says {guard!r} is impersonal"
    assert [c for c in said if c.label != T.NONE], f"no column that says {guard!r} is personal"


def test_what_only_looks_like_a_kind_is_a_known_kind_and_not_of_it() -> None:
    forms = {form: kind for kind, form in VALUE_RULES}

    for case in cases():
        for form in case.alike:
            assert case.values.share(form) == 0
            assert case.finding.type is not forms[form]


@pytest.mark.parametrize(("pattern", "sensitivity"), RARE.items())
def test_a_rare_hit_makes_a_text_personal_and_a_column_of_codes_not(pattern: str, sensitivity: str) -> None:
    notes = Column("remark", ["called back, no answer, will try again on monday"] * 20, 1_000_000, {pattern: 3})
    codes = Column("reading", [f"AX-{n}" for n in range(20)], 1_000_000, {pattern: 3})

    note, code = detect(Table("tickets", [notes, codes]))

    assert (note.type, note.sensitivity) == (T.FREE_TEXT, sensitivity)
    assert code.type is T.NONE
