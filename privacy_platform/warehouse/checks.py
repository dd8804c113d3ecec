"""The checks a release must pass before anybody can see it: outcomes as values, and the queries behind them.

Every check looks at all rows of exactly the staged tables, either here in SQL or, for what needs the raw values, in
the tasks that copied those rows, whose counts arrive as statistics. An outcome holds counts and names, never values.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from psycopg import Connection, sql

from privacy_platform.anonymization.kanonymity.evaluate import suppressible
from privacy_platform.anonymization.kanonymity.recoding import UnreachableError
from privacy_platform.policy.drift import Contradiction
from privacy_platform.policy.model import DatasetPolicy
from privacy_platform.policy.tables import Table, Zone
from privacy_platform.warehouse.anonymity import measure
from privacy_platform.warehouse.release import STAGING, Release
from privacy_platform.warehouse.tables import count_rows, table_columns

SCHEMA_MATCHES_POLICY = "schema_matches_policy"
DATA_MATCH_POLICY = "data_match_policy"
NO_RAW_PII = "no_raw_pii"
ROW_COUNT_RECONCILED = "row_count_reconciled"
TOKENS_RESOLVE = "tokens_resolve"
K_ANONYMITY = "k_anonymity"
MINIMUM_GROUP_SIZE = "minimum_group_size"
BUDGET_RESPECTED = "budget_respected"

DESCRIPTIONS: Mapping[str, str] = {
    SCHEMA_MATCHES_POLICY: "Columns and types are the policy's, and the source has no column the policy does not know.",
    DATA_MATCH_POLICY: "No field of the source looks to the detector like something else than the policy says.",
    NO_RAW_PII: "No personal value reaches the table: by lineage, pattern scan and comparison with raw values.",
    ROW_COUNT_RECONCILED: "Every row read is published, quarantined, suppressed or a counted duplicate; none is lost.",
    TOKENS_RESOLVE: "Every token belongs to a data subject of the vault, or of the dataset referred to.",
    K_ANONYMITY: "Every combination of the quasi-identifiers is shared by at least k rows (Sweeney 2002), with the l "
    "and t demanded of sensitive columns.",
    MINIMUM_GROUP_SIZE: "No group of fewer people than the policy's minimum is shown.",
    BUDGET_RESPECTED: "All that was released about the data subjects, this release included, is within their privacy "
    "budget.",
}
# A message names so many columns; of a source whose columns are values there can be any number.
_NAMED = 10


@dataclass(frozen=True)
class CheckOutcome:
    """The result of one check on one release; `ran` is False where there was nothing to make it of."""

    name: str
    passed: bool
    message: str
    figures: Mapping[str, int | float | str] = field(default_factory=dict)
    ran: bool = True

    @property
    def failed(self) -> bool:
        """Whether it was made and did not pass."""
        return self.ran and not self.passed


def not_run(name: str, reason: str) -> CheckOutcome:
    """The outcome of a check that was not made: neither passed nor failed, and never enough to publish."""
    return CheckOutcome(name, False, f"not run: {reason}", ran=False)


def _looked_at(target: Release | Table) -> tuple[str, str]:
    """Schema and name of what a check looks at: a release as it is staged, or a table as it stands."""
    return (STAGING, target.staging) if isinstance(target, Release) else (target.zone, target.name)


def schema_check(
    connection: Connection, target: Release | Table, statistics: Mapping[str, int], policy: DatasetPolicy | None
) -> CheckOutcome:
    """The columns are the policy's; the source has no others; no field's values are of another type."""
    table = target.staged_table if isinstance(target, Release) else target
    expected = [(column.name, column.type.value) for column in table.columns]
    found = table_columns(connection, *_looked_at(target))
    problems = [] if found == expected else [f"the columns of {'.'.join(_looked_at(target))} are not the policy's"]
    unknown = _suffixes(statistics, "unknown.")
    problems += [
        f"the source has a column `{name}` that the policy does not know; add it under fields (technique: suppress "
        "keeps it out)"
        for name in unknown[:_NAMED]
    ]
    problems += [f"and {len(unknown) - _NAMED} columns more"] if len(unknown) > _NAMED else []
    read, rejected = statistics.get("read", 0), statistics.get("quarantined", 0)
    limit = policy.quarantine_limit if policy else 1.0
    worst = max(_suffixes(statistics, "rejected."), key=lambda n: statistics[f"rejected.{n}"], default=None)
    if rejected > limit * read and rejected >= 10:
        named = f", most of them for `{worst}`" if worst else ""
        problems.append(
            f"{rejected} of {read} rows do not fit the policy{named}; correct the source or the policy, or raise "
            "quarantine_limit"
        )
    return CheckOutcome(
        SCHEMA_MATCHES_POLICY,
        not problems,
        "; ".join(problems) or f"{len(expected)} columns as in the policy",
        {"columns": len(expected), "unknown_columns": len(unknown), "rejected_rows": rejected},
    )


def drift_check(policy: DatasetPolicy, statistics: Mapping[str, int]) -> CheckOutcome:
    """No task's sample of what it landed contradicts the policy (`policy.drift`)."""
    found = [Contradiction(*name.split(".")) for name in _suffixes(statistics, "contradicts.")]
    return CheckOutcome(
        DATA_MATCH_POLICY,
        not found,
        "; ".join(contradiction.message(policy) for contradiction in found[:_NAMED])
        or f"{len(policy.fields)} fields looked at",
        {"fields": len(policy.fields), "contradictions": len(found)},
    )


def raw_pii_check(policy: DatasetPolicy, statistics: Mapping[str, int], scanned: Sequence[str]) -> CheckOutcome:
    """No identity path in the lineage, and no leak found in any copied row."""
    problems = [
        f"field `{name}` is of sensitivity {policy.fields[name].sensitivity} and technique "
        f"`{policy.fields[name].technique.name}` lets its value through; choose hash, hmac, generalize, mask, bucket "
        "or suppress (scrub for free text of sensitivity medium)"
        for name in policy.unprotected_fields()
    ]
    leaking = _suffixes(statistics, "leak.")
    for leak in leaking[:_NAMED]:
        column, kind, *what = leak.split(".")
        reason = {
            "shape": "values that are not what its technique makes",
            "pattern": f"text that looks like {' '.join(what)}",
            "raw_value": f"raw values of field {' '.join(what)}",
        }.get(kind, kind)
        problems.append(
            f"column `{column}` holds {reason} in {statistics[f'leak.{leak}']} rows; give its field a "
            "stronger technique"
        )
    return CheckOutcome(
        NO_RAW_PII,
        not problems,
        "; ".join(problems)
        or f"no personal value in {len(scanned)} text columns of {statistics.get('staged', 0)} rows",
        {
            "identity_paths": len(policy.unprotected_fields()),
            "leaking_columns": len({leak.split(".")[0] for leak in leaking}),
            "text_columns_scanned": len(scanned),
        },
    )


def reconciliation_check(figures: Mapping[str, int], *, read: str = "read", remark: str = "") -> CheckOutcome:
    """`read` equals the sum of everything else: where each row went; `remark` ends the message."""
    rest = {name: count for name, count in figures.items() if name != read}
    difference = figures[read] - sum(rest.values())
    parts = " + ".join(f"{count} {name.replace('_', ' ')}" for name, count in rest.items() if count) or "0"
    message = f"{figures[read]} {read} = {parts}"
    if difference:
        message = f"{figures[read]} {read}, but {parts}: {difference} rows are unaccounted for; report this as a bug"
    return CheckOutcome(ROW_COUNT_RECONCILED, difference == 0, message + remark, dict(figures))


def tokens_check(
    connection: Connection, target: Release | Table, token: str, *, referred: Table | None = None
) -> CheckOutcome:
    """Every token is in the vault, or in the published table of the dataset referred to.

    Its figure `rows` is the exact number of rows, for the checks that need it: one scan of a large table for both.
    """
    known = sql.SQL("vault.subjects") if referred is None else sql.Identifier(referred.zone, referred.name)
    key = sql.Identifier("user_token" if referred is None else referred.key[0])
    row = connection.execute(
        # What is joined is a key: no row is counted twice.
        sql.SQL(
            "SELECT count(*), count(*) FILTER (WHERE t.{k} IS NULL) FROM {} s LEFT JOIN {} t ON t.{k} = s.{}"
        ).format(sql.Identifier(*_looked_at(target)), known, sql.Identifier(token), k=key)
    ).fetchone()
    rows, dangling = map(int, row) if row else (0, 0)
    where = "the vault" if referred is None else referred.qualified
    return CheckOutcome(
        TOKENS_RESOLVE,
        dangling == 0,
        f"every token is in {where}"
        if dangling == 0
        else f"{dangling} rows have a token that is not in {where}; {_tokens_mend(target, referred)}",
        {"rows": rows, "dangling_rows": dangling},
    )


def _tokens_mend(target: Release | Table, referred: Table | None) -> str:
    if isinstance(target, Table) and target.zone is Zone.RAW:
        return "if they are of erased subjects, delete them too (docs/operations.md, Erasure); else restore the vault"
    if isinstance(target, Table):
        return "materialize all of this table again, so that what belongs to no known subject leaves it"
    return "report this as a bug" if referred is None else "materialize it first, then this table"


def k_anonymity_check(
    connection: Connection, target: Release | Table, policy: DatasetPolicy, suppressed: int | None
) -> CheckOutcome:
    """Every class has the size, diversity and closeness demanded; no more rows (None: unknown) were left out than may.

    Measured on the rows themselves, whatever the search believes.
    """
    model = policy.privacy_model
    assert model is not None  # noqa: S101 - only called with a model
    found = measure(connection, sql.Identifier(*_looked_at(target)), model.quasi_identifiers, model.requirements())
    problems = list(found.problems)
    if suppressed and suppressed > suppressible(found.records + suppressed, model.requirements()):
        share = suppressed / (found.records + suppressed)
        problems.append(f"{share:.1%} of the rows were suppressed, more than {model.suppression_limit:.1%}")
    figures = "".join(f", {name} = {value:.4g}" for name, value in found.sensitive.items())
    return CheckOutcome(
        K_ANONYMITY,
        not problems,
        "; ".join(problems)
        or f"k = {found.k}{figures} over {found.classes} classes"
        + ("" if suppressed is None else f", {suppressed} rows suppressed"),
        {"k": found.k, "required_k": model.k, "classes": found.classes}
        | ({} if suppressed is None else {"suppressed_rows": suppressed})
        | dict(found.sensitive),
    )


def unreachable_check(error: UnreachableError) -> CheckOutcome:
    """What the policy demands cannot be had: nothing was staged."""
    figures = {f"suppressed_share_without_{name}": share for name, share in error.without.items()}
    return CheckOutcome(K_ANONYMITY, False, str(error), {"suppressed_share": error.share, **figures})


def group_size_check(
    connection: Connection, release: Release, *, column: str, minimum: int, measures: Mapping[str, str] | None = None
) -> CheckOutcome:
    """No staged group has fewer than `minimum` people, and no figure is shown of fewer, by the counts staged with them.

    Args:
        connection: as the pipeline role.
        release: the staged release.
        column: the hidden column with the people of a group.
        minimum: the smallest number of people.
        measures: measure → hidden column with the people behind it; of nobody a figure may be shown.
    """
    few = [
        sql.SQL("({p} BETWEEN 1 AND {m} - 1 AND {c} IS NOT NULL)").format(
            p=sql.Identifier(people), c=sql.Identifier(name), m=sql.Literal(minimum)
        )
        for name, people in (measures or {}).items()
    ]
    row = connection.execute(
        sql.SQL("SELECT count(*), coalesce(min({c}), 0), count(*) FILTER (WHERE {few}) FROM {t}").format(
            c=sql.Identifier(column),
            few=sql.SQL(" OR ").join([sql.SQL("{} < {}").format(sql.Identifier(column), sql.Literal(minimum)), *few]),
            t=sql.Identifier(STAGING, release.staging),
        )
    ).fetchone()
    groups, smallest, small = map(int, row) if row else (0, 0, 0)
    return CheckOutcome(
        MINIMUM_GROUP_SIZE,
        small == 0,
        f"{groups} groups, the smallest of {smallest} people"
        if small == 0
        else f"{small} groups show figures of fewer than {minimum} people; report this as a bug",
        {"groups": groups, "smallest_group": smallest, "minimum": minimum},
    )


def staged_rows(connection: Connection, release: Release) -> int:
    """The exact number of staged rows."""
    return count_rows(connection, STAGING, release.staging)


def _suffixes(statistics: Mapping[str, int], prefix: str) -> list[str]:
    return sorted(key.removeprefix(prefix) for key, count in statistics.items() if key.startswith(prefix) and count)
