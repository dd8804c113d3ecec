"""The risk report of a table of the warehouse, as one role sees it."""

from collections.abc import Mapping, Sequence

from privacy_platform.anonymization.risk.choice import choose
from privacy_platform.anonymization.risk.report import DEFAULT_K, Options, RiskReport, assess
from privacy_platform.policy.exposure import declared_columns
from privacy_platform.policy.model import DatasetPolicy
from privacy_platform.policy.tables import Zone
from privacy_platform.warehouse.connection import Role, adbc
from privacy_platform.warehouse.relation import open_relation

__all__ = ["table_risk"]


def table_risk(
    table: str,
    role: Role,
    policies: Mapping[str, DatasetPolicy],
    *,
    quasi_identifiers: Sequence[str] = (),
    sensitive: Sequence[str] = (),
    k: int | None = None,
    options: Options | None = None,
) -> RiskReport:
    """Measure a table under the login of `role`, which decides what columns there are to see.

    Args:
        table: its name, or schema and name with a dot between.
        role: whose view.
        policies: published table → its dataset's policy, which says what the columns are.
        quasi_identifiers: other ones than the policy's.
        sensitive: other ones than the policy's.
        k: another one than the policy's.
        options: as of `assess`.

    Raises:
        RelationError: there is no such table for this role.
        UnknownColumnError: a column is named that this role cannot read.
    """
    with adbc(role) as connection:
        relation = open_relation(connection, table)
        policy = policies.get(relation.name) if relation.schema == Zone.ANONYMIZED else None
        declared = declared_columns(policy) if policy else None
        choice = choose(relation, declared=declared, quasi_identifiers=quasi_identifiers, sensitive=sensitive)
        wanted = k or (declared.k if declared else None) or DEFAULT_K
        return assess(relation, choice, table=relation.qualified, role=role.value, k=wanted, options=options)
