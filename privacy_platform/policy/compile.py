"""What a policy means: the tables of the zones, with the origin of every column.

A published table has a column for each field the policy publishes and no other, which is what makes an unknown column
impossible to publish.
"""

from collections.abc import Iterator

from privacy_platform.anonymization.techniques import Generalize
from privacy_platform.policy.load import PolicySet
from privacy_platform.policy.model import (
    ANONYMIZED_AT,
    IS_FINAL,
    WINDOW_START,
    AggregatePolicy,
    DatasetPolicy,
    Dimension,
    Measure,
    Reader,
    SourceType,
    error_column,
)
from privacy_platform.policy.privacy import PrivacyUnit
from privacy_platform.policy.tables import Column, ColumnType, Table, Zone

COLUMN_TYPES = {
    SourceType.STRING: ColumnType.TEXT,
    SourceType.INTEGER: ColumnType.BIGINT,
    SourceType.NUMBER: ColumnType.DOUBLE,
    SourceType.BOOLEAN: ColumnType.BOOLEAN,
    SourceType.TIMESTAMP: ColumnType.TIMESTAMP,
    SourceType.DATE: ColumnType.DATE,
}
LANDING_ORDER = "landing_order"
LANDED_AT = "landed_at"
SEALED = "sealed"
UNKNOWN = "unknown"


def topic_asset(policy: DatasetPolicy) -> str:
    """What a dataset's topic is called in the asset graph and in the lineage."""
    return f"topic_{policy.dataset}"


def raw_table(policy: DatasetPolicy) -> Table:
    """The sealed table of a dataset: token, the fields that are not personal in clear, and one sealed value."""
    subject = policy.fields[policy.subject]
    landing = f"landing_{policy.dataset}"
    columns = [
        Column(
            policy.token_column,
            ColumnType.TEXT,
            "Token of the data subject; pseudonymous, so still personal data.",
            pii=subject.pii,
            sensitivity="medium",
            nullable=False,
            sources=(f"{landing}.{subject.column or policy.subject}",),
            transformation="tokenize",
        )
    ]
    columns += [
        Column(
            name,
            COLUMN_TYPES[policy.fields[name].type],
            policy.fields[name].comment,
            pii=policy.fields[name].pii,
            sensitivity=policy.fields[name].sensitivity.value,
            sources=(f"{landing}.{policy.fields[name].column or name}",),
        )
        for name in policy.clear_fields()
    ]
    columns += [
        Column(
            LANDING_ORDER,
            ColumnType.BIGINT,
            "Order of arrival within its landing; later records win over earlier ones.",
            nullable=False,
        ),
        Column(LANDED_AT, ColumnType.TIMESTAMP, "When the run that landed the record began.", nullable=False),
        Column(
            SEALED,
            ColumnType.BYTES,
            "AES-256-GCM under the subject's own key; holds " + ", ".join(policy.sealed_fields()) + ".",
            pii="sealed",
            sensitivity="high",
            nullable=False,
            sources=tuple(f"{landing}.{policy.fields[name].column or name}" for name in policy.sealed_fields()),
            transformation="seal",
        ),
    ]
    partition = policy.partition_by.field if policy.partition_by else None
    token = policy.token_column
    return Table(
        zone=Zone.RAW,
        name=f"raw_{policy.dataset}",
        columns=tuple(columns),
        key=(token,) if policy.key == policy.subject else (policy.key,),
        comment=f"{policy.description} Sealed records as landed, one a {policy.key}.",
        partition_column=partition,
        upstream=(landing, *((topic_asset(policy),) if policy.source.topic else ())),
    )


def anonymized_table(policy: DatasetPolicy) -> Table:
    """The published table of a dataset: one column for each field the policy publishes."""
    outputs = policy.outputs()
    raw = f"raw_{policy.dataset}"
    columns = [_published(policy, name, output, raw) for name, output in outputs.items()]
    columns.append(Column(ANONYMIZED_AT, ColumnType.TIMESTAMP, "When this release was computed.", nullable=False))
    key = outputs[policy.key]
    partition = outputs[policy.partition_by.field] if policy.partition_by else None
    indexes: tuple[tuple[str, ...], ...] = () if key == policy.token_column else ((policy.token_column,),)
    return Table(
        zone=Zone.ANONYMIZED,
        name=f"anonymized_{policy.dataset}",
        columns=tuple(columns),
        key=(key,),
        comment=f"{policy.description} Anonymized by the policy `{policy.dataset}`, one row a {key}.",
        partition_column=partition,
        indexes=indexes,
        upstream=(raw, *((f"anonymized_{policy.references.dataset}",) if policy.references else ())),
    )


def _published(policy: DatasetPolicy, name: str, output: str, raw: str) -> Column:
    field = policy.fields[name]
    personal = field.pii != "none" and field.sensitivity != "none"
    return Column(
        output,
        published_type(policy, name),
        field.comment,
        pii=field.pii if personal else "none",
        sensitivity="low" if personal else "none",
        sources=(f"{raw}.{SEALED if field.sensitivity.sealed else name}",),
        transformation=f"{field.technique.name} of {name}",
        restricted=policy.reader(name) is Reader.LINKAGE,
    )


def published_type(policy: DatasetPolicy, name: str) -> ColumnType:
    """The column type a field is published as; dates whose precision differs from record to record are text."""
    field = policy.fields[name]
    model = policy.privacy_model
    local = model is not None and model.recoding == "local" and isinstance(field.technique, Generalize)
    return COLUMN_TYPES[field.type] if field.technique.output_type == "same" and not local else ColumnType.TEXT


def aggregate_table(policy: AggregatePolicy, policies: PolicySet) -> Table:
    """The table of an aggregate: its dimensions, then its measures, each with its promised error if private."""
    types = aggregate_inputs(policy, policies)
    # Keys that a policy lists are text, whatever the column is.
    private = policy.privacy if policy.is_private else None
    listed = {n for n in (private.known if private else ()) if not policy.dimensions[n].truncate}
    columns = [
        Column(
            name,
            ColumnType.TEXT if name in listed else dimension_type(dimension, types),
            dimension.comment,
            nullable=False,
            sources=(_origin(policy, dimension.column),),
            transformation="group by" + (f" {dimension.truncate}" if dimension.truncate else ""),
        )
        for name, dimension in policy.dimensions.items()
    ]
    columns += [
        column for name, measure in policy.measures.items() for column in _measure_columns(policy, name, measure)
    ]
    joined = (policy.join.table,) if policy.join else ()
    windowed = _window_columns(policy)
    return Table(
        zone=Zone.ANALYTICS,
        name=policy.aggregate,
        columns=(*windowed[:1], *columns, *windowed[1:]),
        key=(*(column.name for column in windowed[:1]), *policy.dimensions),
        comment=f"{policy.description} {_protection(policy)}",
        upstream=(policy.source, *joined),
    )


def _measure_columns(policy: AggregatePolicy, name: str, measure: Measure) -> Iterator[Column]:
    sources = _measure_sources(policy, measure)
    counted = measure.kind in ("count", "count_distinct", "histogram")
    for number, figure in enumerate(measure.figures(name)):
        comment = measure.comment
        if measure.kind == "histogram":
            comment += f" From {measure.edges[number]:g} to under {measure.edges[number + 1]:g}."
        if policy.is_private and policy.privacy is not None:
            clamp = policy.privacy.of(name).clamp
            cut = f" Values are cut to {clamp[0]:g} to {clamp[1]:g}." if clamp else ""
            yield Column(
                figure,
                ColumnType.BIGINT if counted else ColumnType.DOUBLE,
                f"{comment} With noise.{cut}",
                sources=sources,
                transformation=f"{measure.kind}, differentially private",
            )
            yield Column(
                error_column(figure),
                ColumnType.DOUBLE,
                f"What the noise in {figure} stays within in 95 of 100 groups.",
                sources=sources,
                transformation=f"promised error of {figure}",
            )
        else:
            yield Column(
                figure,
                ColumnType.BIGINT if counted else ColumnType.DOUBLE,
                comment,
                sources=sources,
                transformation=measure.kind,
            )


def _protection(policy: AggregatePolicy) -> str:
    """What protects the people of an aggregate, as a sentence."""
    if not policy.is_private or policy.privacy is None:
        return f"No group of fewer than {policy.minimum_group_size} people."
    privacy = policy.privacy
    whose = "all that a user did" if privacy.unit is PrivacyUnit.USER else "all that a user did on one day"
    delta = f", delta {privacy.delta:g}" if privacy.delta else ""
    return f"Differentially private: epsilon {privacy.epsilon:g}{delta} for {whose}."


def _window_columns(policy: AggregatePolicy) -> tuple[Column, ...]:
    """What windows add: their first instant, and whether they can still change."""
    if policy.window is None:
        return ()
    window, source = policy.window, (_origin(policy, policy.window.column),)
    start = Column(
        WINDOW_START,
        ColumnType.TIMESTAMP,
        f"First instant of the window of {window.minutes} min (UTC).",
        nullable=False,
        sources=source,
        transformation=f"group by {window.minutes} min",
    )
    final = Column(
        IS_FINAL,
        ColumnType.BOOLEAN,
        f"Whether everything sent until {window.lateness_minutes} min after its end was read.",
        nullable=False,
        sources=source,
        transformation="whether the window is over",
    )
    return start, final


def aggregate_inputs(policy: AggregatePolicy, policies: PolicySet) -> dict[str, ColumnType]:
    """Type of every column an aggregate can use: its source's, the joined and the derived ones."""
    source = anonymized_table(policies.anonymized_tables[policy.source])
    types = {column.name: column.type for column in source.columns}
    if policy.join:
        other = anonymized_table(policies.anonymized_tables[policy.join.table])
        types |= {name: other.column(name).type for name in policy.join.columns}
    return types | dict.fromkeys(policy.derive, ColumnType.DOUBLE)


def dimension_type(dimension: Dimension, types: dict[str, ColumnType]) -> ColumnType:
    """A dimension's column type: dates where truncated; text where a missing value is shown as `unknown`."""
    if dimension.truncate:
        return ColumnType.DATE
    return types[dimension.column] if dimension.required else ColumnType.TEXT


def _origin(policy: AggregatePolicy, column: str) -> str:
    if column in policy.derive:
        return f"{policy.source}.{policy.derive[column].span}"
    if policy.join and column in policy.join.columns:
        return f"{policy.join.table}.{column}"
    return f"{policy.source}.{column}"


def _measure_sources(policy: AggregatePolicy, measure: Measure) -> tuple[str, ...]:
    if measure.kind == "ratio":
        operands = [policy.measures[n] for n in (measure.numerator, measure.denominator) if n]
        return tuple(dict.fromkeys(s for o in operands for s in _measure_sources(policy, o)))
    names = [n for n in (measure.column, measure.times, *measure.where) if n] or [policy.unit]
    return tuple(dict.fromkeys(_origin(policy, name) for name in names))
