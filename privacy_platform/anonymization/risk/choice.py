"""What each column is to somebody who wants to re-identify: as somebody says, as the policy says, or as it looks."""

from collections.abc import Sequence
from dataclasses import dataclass

from privacy_platform.anonymization.risk.relation import Kind, Relation
from privacy_platform.errors import PrivacyPlatformError

__all__ = ["NEAR_UNIQUE", "ColumnChoice", "Declared", "UnknownColumnError", "choose"]

NEAR_UNIQUE = 0.9
"""A text or whole number that differs in more than this share of the records looks like an identifier."""


class UnknownColumnError(PrivacyPlatformError):
    """A column is named that the table does not have, or not for this role."""


@dataclass(frozen=True, slots=True)
class Declared:
    """What a policy says of a table's columns.

    Attributes:
        quasi_identifiers: columns that somebody who knows the person could know.
        sensitive: columns that nobody should learn.
        pseudonyms: tokens, hashes and keys: they say nothing by themselves, and link records.
        beyond_model: those of the quasi-identifiers that the policy's privacy model does not cover.
        k: the k of the privacy model, or None.
        one_record_a_person: whether a record stands for a person.
    """

    quasi_identifiers: tuple[str, ...]
    sensitive: tuple[str, ...]
    pseudonyms: tuple[str, ...]
    beyond_model: tuple[str, ...] = ()
    k: int | None = None
    one_record_a_person: bool = True


@dataclass(frozen=True, slots=True)
class ColumnChoice:
    """The columns of a table by what they are taken for, each in one group only, and what was assumed."""

    quasi_identifiers: tuple[str, ...]
    sensitive: tuple[str, ...]
    pseudonyms: tuple[str, ...]
    others: tuple[str, ...]
    notes: tuple[str, ...] = ()


def choose(
    relation: Relation,
    *,
    declared: Declared | None = None,
    quasi_identifiers: Sequence[str] = (),
    sensitive: Sequence[str] = (),
) -> ColumnChoice:
    """Sort a table's columns.

    Args:
        relation: the table, with the columns that the role can read.
        declared: what the table's policy says.
        quasi_identifiers: what the user says, before everything else.
        sensitive: the same for sensitive columns.

    Raises:
        UnknownColumnError: the user names a column that cannot be read, or one twice.
    """
    readable = [column.name for column in relation.columns]
    for name in (*quasi_identifiers, *sensitive):
        if name not in readable:
            raise UnknownColumnError(f"there is no column `{name}` to read; there are {', '.join(readable)}")
    if both := set(quasi_identifiers) & set(sensitive):
        raise UnknownColumnError(f"`{min(both)}` cannot be a quasi-identifier and sensitive; leave it out of one list")
    notes: list[str] = []
    if declared is not None:
        pseudonyms = [name for name in declared.pseudonyms if name in readable]
        quasi = list(quasi_identifiers) or [name for name in declared.quasi_identifiers if name in readable]
        beyond = [name for name in declared.beyond_model if name in quasi]
        if beyond and not quasi_identifiers:
            notes.append(f"The policy's privacy model does not cover {', '.join(beyond)}, which this role can read.")
        if not declared.one_record_a_person:
            notes.append("A person can have several records here: the figures are of records, not of people.")
        hidden = tuple(sensitive) or tuple(name for name in declared.sensitive if name in readable)
    else:
        pseudonyms = _looking_like_identifiers(relation)
        hidden = tuple(sensitive)
        quasi = list(quasi_identifiers) or [name for name in readable if name not in {*pseudonyms, *hidden}]
        if not quasi_identifiers:
            notes.append(
                "No policy knows this table: every column is taken for a quasi-identifier"
                + (f", but not {', '.join(pseudonyms)}, which look like identifiers" if pseudonyms else "")
                + ". Say otherwise with --quasi-identifiers and --sensitive."
            )
    taken = {*quasi, *hidden}
    return ColumnChoice(
        quasi_identifiers=tuple(name for name in readable if name in quasi and name not in hidden),
        sensitive=tuple(name for name in readable if name in hidden),
        pseudonyms=tuple(name for name in pseudonyms if name not in taken),
        others=tuple(name for name in readable if name not in {*taken, *pseudonyms}),
        notes=tuple(notes),
    )


def _looking_like_identifiers(relation: Relation) -> list[str]:
    candidates = [column.name for column in relation.columns if column.kind in (Kind.TEXT, Kind.INTEGER)]
    records = relation.records()
    return [name for name, values in relation.distinct(candidates).items() if values > NEAR_UNIQUE * records]
