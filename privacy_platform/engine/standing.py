"""Looking again at a table that stands: the checks of a run that has nothing new to release.

Whatever SQL can tell of the published rows is found out anew, so that a table that was altered or half erased turns
the run red. What needs the raw values was checked on the release and is reported as not run, never as passed.
"""

from psycopg import Connection

from privacy_platform.governance import audit
from privacy_platform.policy.compile import anonymized_table, raw_table
from privacy_platform.policy.model import DatasetPolicy
from privacy_platform.policy.tables import Table
from privacy_platform.warehouse.checks import (
    DATA_MATCH_POLICY,
    K_ANONYMITY,
    NO_RAW_PII,
    ROW_COUNT_RECONCILED,
    TOKENS_RESOLVE,
    CheckOutcome,
    k_anonymity_check,
    not_run,
    schema_check,
    tokens_check,
)
from privacy_platform.warehouse.tables import count_rows

_OTHER_COLUMNS = "it looks at columns that are not the policy's"


def raw_again(connection: Connection, policy: DatasetPolicy) -> list[CheckOutcome]:
    """The checks of a standing raw table."""
    table = raw_table(policy)
    schema = schema_check(connection, table, {}, None)
    tokens = (
        tokens_check(connection, table, policy.token_column)
        if schema.passed
        else not_run(TOKENS_RESOLVE, _OTHER_COLUMNS)
    )
    data = not_run(DATA_MATCH_POLICY, "nothing was read; it passed when the rows were landed")
    return [schema, data, _rows_again(connection, table), tokens]


def anonymized_again(connection: Connection, policy: DatasetPolicy, referred: Table | None) -> list[CheckOutcome]:
    """The checks of a standing anonymized table; `referred` as in `tokens_check`."""
    table = anonymized_table(policy)
    schema = schema_check(connection, table, {}, None)
    checks = [
        schema,
        not_run(NO_RAW_PII, "nothing was read to compare with; it passed when the rows were released"),
        _rows_again(connection, table),
    ]
    if not schema.passed:  # columns that the others look at may be gone
        checks.append(not_run(TOKENS_RESOLVE, _OTHER_COLUMNS))
        return [*checks, not_run(K_ANONYMITY, _OTHER_COLUMNS)] if policy.privacy_model else checks
    checks.append(tokens_check(connection, table, policy.token_column, referred=referred))
    return [*checks, k_anonymity_check(connection, table, policy, None)] if policy.privacy_model else checks


def _rows_again(connection: Connection, table: Table) -> CheckOutcome:
    """The table has the rows that its last release left, but for those whose erasure is on record."""
    recorded = audit.rows_on_record(connection, table.qualified)
    if recorded is None:
        return not_run(ROW_COUNT_RECONCILED, "the last release did not put the table's rows on record")
    released, erased = recorded
    standing = count_rows(connection, table.zone, table.name)
    figures = {"released": released, "standing": standing, "erased": erased}
    passed = released == standing + erased
    message = f"{standing} rows stand, {released} were released and {erased} erasures are on record"
    mend = "the table was altered by hand: restore it, or put the erasure on record (docs/operations.md, Erasure)"
    return CheckOutcome(ROW_COUNT_RECONCILED, passed, message if passed else f"{message}; {mend}", figures)
