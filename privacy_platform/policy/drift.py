"""What the data look like against what the policy says they are: nothing is published that the detector contradicts.

Contract: :func:`contradictions` is pure. A contradiction is a column that the policy does not list, a field that would
be published as it is although it looks personal, or one that no longer looks like what the policy says it holds. The
detector must be surer than :data:`SURE`. A field's `override` takes a finding back, with a reason, for that very type
only.
"""

from dataclasses import dataclass

import polars as pl

from privacy_platform.detection.calibration import SUREST_OF_NONE
from privacy_platform.detection.detector import Column, Table, detect
from privacy_platform.detection.types import Finding, PiiType
from privacy_platform.policy.model import DatasetPolicy, FieldPolicy, printable_name

__all__ = ["SURE", "Contradiction", "contradictions", "sample"]

SURE = 0.9
_SAMPLE = 60
_ENOUGH = 20
# What the values alone make certain: if a field that is said to hold one holds none, it holds something else.
_BY_FORM = frozenset({PiiType.EMAIL, PiiType.IP_ADDRESS, PiiType.MAC_ADDRESS, PiiType.CREDIT_CARD})


@dataclass(frozen=True, slots=True)
class Contradiction:
    """A field of the data that the policy says something else about.

    Attributes:
        field: The field's name, or the column's where the policy has no such field.
        kind: ``new`` (not in the policy), ``personal`` (published as it is, and looks personal) or ``changed`` (no
            longer what the policy says).
        type: What it looks like.
    """

    field: str
    kind: str
    type: str

    def message(self, policy: DatasetPolicy) -> str:
        """What is wrong and the mend; no value."""
        name = printable_name(self.field)
        looks = "does not look personal" if self.type == PiiType.NONE else f"looks like {self.type}"
        if self.kind == "new":
            return f"`{name}` is not in the policy and {looks}; add it under fields (technique: suppress keeps it out)"
        override = f"`override: {{type: {self.type}, reason: …}}`"
        if self.kind == "personal":
            technique = policy.fields[self.field].technique.name
            return (
                f"`{name}` is published by `{technique}` and {looks}; give it a technique that protects, or, if "
                f"somebody looked and it is not, record {override}"
            )
        said = policy.fields[self.field].pii
        return f"`{name}` is {said} in the policy and {looks}; correct the source or `pii`, or record {override}"


def sample(policy: DatasetPolicy, rows: pl.DataFrame) -> Table:
    """A sample of typed rows for the detector: some values of each field, as text, under the source's names."""
    columns = []
    for column, name in policy.source_columns().items():
        values = rows[name].drop_nulls()
        chosen = values.sample(min(_SAMPLE, len(values)), seed=0).cast(pl.String).to_list()
        columns.append(Column(column, chosen, rows.height))
    return Table(policy.dataset, columns)


def contradictions(policy: DatasetPolicy, table: Table) -> list[Contradiction]:
    """Where the data contradict the policy.

    Args:
        policy: The dataset.
        table: A sample of the data, its columns named as in the source.
    """
    outputs, fields = policy.outputs(), policy.source_columns()
    found: list[Contradiction] = []
    for column, finding in zip(table.columns, detect(table), strict=True):
        name = fields.get(column.name)
        if name is None:
            found.append(Contradiction(column.name, "new", finding.type))
            continue
        field = policy.fields[name]
        if field.override and field.override.type == finding.type:
            continue
        elif name in outputs and not field.technique.protects and _is_laid_open(field, finding):
            found.append(Contradiction(name, "personal", finding.type))
        elif _is_something_else(field, column, finding):
            found.append(Contradiction(name, "changed", finding.type))
    return found


def _is_laid_open(field: FieldPolicy, finding: Finding) -> bool:
    """Whether a finding is sure and grave enough to stop a field that is published as it is."""
    if finding.confidence < SURE or finding.sensitivity not in ("high", "medium"):
        return False
    # Who wrote down that it is a date of birth, and keeps it, has decided; but not of what names a person.
    return field.pii != finding.type or finding.sensitivity == "high"


def _is_something_else(field: FieldPolicy, column: Column, finding: Finding) -> bool:
    if field.pii not in _BY_FORM or len(column.values) < _ENOUGH:
        return False
    enough = SURE if finding.personal else SUREST_OF_NONE  # no name makes surer that there is no e-mail in it
    return finding.type != field.pii and finding.confidence >= enough and not column.certain
