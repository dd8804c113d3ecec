"""The policy files as values: validated, frozen, with no behaviour beyond what validation needs.

A dataset policy says field by field what each column of a source is and which technique it leaves the raw zone
through. An aggregate policy says which groups and measures the analytics zone shows. `compile` turns both into
tables, kernels, checks and lineage.
"""

import re
from collections.abc import Iterator
from datetime import date
from enum import StrEnum
from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, StringConstraints, model_validator

from privacy_platform.anonymization.kanonymity.requirements import LDiversity, Requirements, TCloseness
from privacy_platform.anonymization.techniques import Keep, Noise, Scrub, Suppress, Technique, Tokenize, Truncate
from privacy_platform.policy.base import Name, PolicyModel
from privacy_platform.policy.budget import PrivacyBudget
from privacy_platform.policy.privacy import LandedKeys, Mode, PrivacyPolicy, PrivacyUnit, problems_of_keys

# Leaves room in PostgreSQL's 63 characters for the zone, a day and a release.
TableName = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_]{0,31}$")]
# A source's own name of a column: any printable text, since files are not ours.
SourceName = Annotated[str, StringConstraints(pattern=r"^[^\x00-\x1f\x7f]{1,200}$")]
# Kafka's own rule, but for names of nothing but dots.
TopicName = Annotated[str, StringConstraints(pattern=r"^[a-zA-Z0-9_-][a-zA-Z0-9._-]{0,248}$")]
Owner = Annotated[str, StringConstraints(pattern=r"^(team:[\w.-]+|[^@\s]+@[^@\s]+)$")]
# As many columns as a table of PostgreSQL; how many of them a table can show is another matter, see `widths`.
MAX_FIELDS = 1600


class SourceType(StrEnum):
    """The type a field has in the source."""

    STRING = "string"
    INTEGER = "integer"
    NUMBER = "number"
    BOOLEAN = "boolean"
    TIMESTAMP = "timestamp"
    DATE = "date"


class Sensitivity(StrEnum):
    """How much harm a value does in the wrong hands; high and medium are sealed in the raw zone."""

    HIGH = "high"
    MEDIUM = "medium"
    LOW = "low"
    NONE = "none"

    @property
    def sealed(self) -> bool:
        """Whether values of this sensitivity are sealed in raw and never published as they are."""
        return self in (Sensitivity.HIGH, Sensitivity.MEDIUM)


class FieldRole(StrEnum):
    """What a field does for re-identification."""

    IDENTIFIER = "identifier"
    QUASI_IDENTIFIER = "quasi_identifier"
    SENSITIVE = "sensitive"
    PLAIN = "plain"


class Reader(StrEnum):
    """Who may read a published column: everybody with access to the zone, or those who link records only."""

    ANALYST = "analyst"
    LINKAGE = "linkage"


def _expand_technique(value: Any) -> Any:
    """`hmac` and `{bucket: {edges: […]}}` are the short forms of `{name: …, …}`."""
    if isinstance(value, str):
        return {"name": value}
    if isinstance(value, dict) and len(value) == 1 and "name" not in value:
        (name, parameters), *_ = value.items()
        if parameters is None or isinstance(parameters, dict):
            return {"name": name, **(parameters or {})}
    return value


class Override(PolicyModel):
    """A finding of the detector that somebody looked at and took back; for that very type only."""

    type: Name
    reason: str = Field(min_length=10)


class FieldPolicy(PolicyModel):
    """One column of the source and its fate.

    `column` is the source's name of it, where that is another. `visible_to` says who may read the published column;
    by default a pseudonym or remnant of an identifier is for those who link records (`linkage`) only.
    """

    type: SourceType
    column: SourceName | None = None
    pii: Name = "none"
    sensitivity: Sensitivity
    role: FieldRole = FieldRole.PLAIN
    technique: Annotated[Technique, BeforeValidator(_expand_technique)]
    output: Name | None = None
    visible_to: Reader | None = None
    comment: str
    required: bool = False
    override: Override | None = None


class SourcePolicy(PolicyModel):
    """Where a dataset comes from: files in the landing folder, as glob patterns on the file's name, and a Kafka topic.

    A message of `topic` is one record, a JSON object like a line of the files. One whose header `schema_version` says
    another version than the policy's goes to quarantine. `position` names a field that the files do not have and the
    platform fills with `<file>:<record>`: the subject of a table without identifiers, where every record is a person.
    Such files are landed whole, one task each.
    """

    files: tuple[str, ...] = Field(min_length=1)
    topic: TopicName | None = None
    schema_version: str = Field(default="1", min_length=1)
    position: Name | None = None


class PartitionPolicy(PolicyModel):
    """Daily partitioning of a dataset in Dagster and in PostgreSQL alike."""

    field: Name
    start: date


class ReferencePolicy(PolicyModel):
    """The dataset whose subjects this one's records belong to."""

    dataset: TableName
    unknown: Literal["quarantine", "keep"] = "quarantine"


class SensitivePolicy(PolicyModel):
    """What every equivalence class must satisfy in one sensitive column: l-diversity, t-closeness, or both."""

    l: float | None = Field(default=None, ge=1)  # noqa: E741 - the name of the literature
    diversity: Literal["distinct", "entropy", "recursive"] = "distinct"
    c: float | None = Field(default=None, gt=0)
    t: float | None = Field(default=None, ge=0, le=1)
    distance: Literal["equal", "ordered"] = "equal"

    @model_validator(mode="after")
    def _parameters_fit(self) -> Self:
        if self.l is None and self.t is None:
            raise ValueError("give `l`, `t` or both")
        if (self.diversity == "recursive") != (self.c is not None):
            raise ValueError("`c` belongs to `diversity: recursive`, which needs it")
        if self.diversity != "entropy" and self.l is not None and self.l != int(self.l):
            raise ValueError(f"`l` of {self.diversity} diversity is a whole number")
        return self

    def requirements(self) -> tuple[LDiversity | TCloseness, ...]:
        """The same as values of the search."""
        diversity = () if self.l is None else (LDiversity(self.l, self.diversity, self.c),)
        closeness = () if self.t is None else (TCloseness(self.t, self.distance),)
        return (*diversity, *closeness)


class PrivacyModel(PolicyModel):
    """What the published table must satisfy as a whole: k-anonymity, and more for its sensitive columns.

    `recoding` says how quasi-identifiers of technique `generalize` without a level are generalized: to the same level
    in all records (`global`, which keeps the meaning of queries), or record by record (`local`, which loses less).
    """

    k: int = Field(ge=2)
    quasi_identifiers: tuple[Name, ...] = Field(min_length=1)
    sensitive: dict[Name, SensitivePolicy] = Field(default_factory=dict)
    suppression_limit: float = Field(default=0.01, ge=0, le=1)
    recoding: Literal["global", "local"] = "global"

    def requirements(self) -> Requirements:
        """The same as a value of the search."""
        return Requirements(
            k=self.k,
            sensitive={name: rule.requirements() for name, rule in self.sensitive.items()},
            suppression_limit=self.suppression_limit,
        )


class DatasetPolicy(PolicyModel):
    """A dataset: its source, its data subject, its fields and the promise of its published table."""

    dataset: TableName
    description: str
    owners: tuple[Owner, ...] = ("team:privacy",)
    source: SourcePolicy
    subject: Name
    key: Name
    on_duplicate: Literal["first", "last"] = "last"
    partition_by: PartitionPolicy | None = None
    references: ReferencePolicy | None = None
    privacy_model: PrivacyModel | None = None
    privacy_budget: PrivacyBudget | None = None
    quarantine_limit: float = Field(default=0.2, ge=0, le=1)
    fields: dict[Name, FieldPolicy] = Field(min_length=1, max_length=MAX_FIELDS)

    @model_validator(mode="after")
    def _names_agree(self) -> Self:
        self._require_field("subject", self.subject)
        self._require_field("key", self.key)
        if not isinstance(self.fields[self.subject].technique, Tokenize):
            raise ValueError(f"fields.{self.subject}: the subject field needs `technique: tokenize`")
        if not self.fields[self.subject].sensitivity.sealed:
            raise ValueError(
                f"fields.{self.subject}: the subject must be of sensitivity high or medium, or raw records show it"
            )
        if self.key not in self.outputs():
            raise ValueError(f"fields.{self.key}: the key must be published; choose another technique than suppress")
        if self.key != self.subject and self.fields[self.key].sensitivity.sealed:
            raise ValueError(
                f"fields.{self.key}: the key must be the subject or of sensitivity low or none; records are found by it"
            )
        if self.partition_by and self.on_duplicate != "first":
            raise ValueError("on_duplicate: a partitioned dataset keeps the `first` record of a key; say so")
        self._stream_appends()
        self._outputs_unique()
        self._raw_columns_unique()
        self._techniques_fit_types()
        self._own_fields_exist()
        self._partition_readable()
        self._quasi_identifiers_published()
        self._columns_unique()
        if self.privacy_budget and self.references:
            raise ValueError(
                f"privacy_budget: the people are those of {self.references.dataset}; declare their budget there"
            )
        return self

    def _require_field(self, setting: str, name: str) -> None:
        if name not in self.fields:
            raise ValueError(f"{setting}: there is no field `{name}`; add it under fields or correct the name")
        if self.fields[name].type is not SourceType.STRING:
            raise ValueError(f"fields.{name}: the {setting} must be of type string")

    def _stream_appends(self) -> None:
        """What streams in is added to what stands, and never changes it."""
        if self.source.topic is None:
            return
        if self.on_duplicate != "first":
            raise ValueError("on_duplicate: a dataset with a topic keeps the `first` record of a key; say so")
        if self.privacy_model is not None:
            raise ValueError(
                "privacy_model: counted over the whole table, which a topic adds to all the time; remove source.topic "
                "or privacy_model"
            )
        if self.source.position is not None:
            raise ValueError("source.position: messages have no place in a file; remove it or source.topic")

    def _outputs_unique(self) -> None:
        seen: dict[str, str] = {ANONYMIZED_AT: "(added by the platform)"}
        for name, output in self.outputs().items():
            if output in seen:
                raise ValueError(f"fields.{name}: output `{output}` is taken by {seen[output]}; name another one")
            seen[output] = name

    def _raw_columns_unique(self) -> None:
        token = self.token_column
        for name in self.clear_fields():
            if name in RESERVED:
                raise ValueError(f"fields.{name}: the platform adds a column of this name; name the field otherwise")
            if name == token:
                raise ValueError(
                    f"fields.{self.subject}: output `{name}` is the name of another field, which the raw table "
                    "keeps in clear; name another one"
                )
        if LINE in self.fields:
            raise ValueError(f"fields.{LINE}: the platform adds a column of this name; name the field otherwise")

    def _techniques_fit_types(self) -> None:
        for name, field in self.fields.items():
            technique = field.technique
            if isinstance(technique, Truncate):
                shorter = technique.unit in ("second", "minute", "hour")
                if field.type is not SourceType.TIMESTAMP and (field.type is not SourceType.DATE or shorter):
                    raise ValueError(
                        f"fields.{name}: `truncate` to the {technique.unit} does not fit type {field.type}"
                    )
            if isinstance(technique, Suppress) and technique.value and field.type is not SourceType.STRING:
                raise ValueError(f"fields.{name}: a {field.type} cannot show `{technique.value}`; leave `value` out")
            if isinstance(technique, Noise):
                self._noise_fits(name, field, technique)

    def _noise_fits(self, name: str, field: FieldPolicy, technique: Noise) -> None:
        if field.type not in (SourceType.INTEGER, SourceType.NUMBER):
            raise ValueError(f"fields.{name}: `noise` needs a field of type integer or number")
        if field.type is SourceType.INTEGER and technique.digits:
            raise ValueError(f"fields.{name}: an integer has no decimals; leave `digits` out")
        model = self.privacy_model
        if model and self.outputs()[name] in (*model.quasi_identifiers, *model.sensitive):
            raise ValueError(
                f"fields.{name}: `noise` draws anew each time, so nobody can be counted by it: take it out of "
                "privacy_model, or choose `generalize`"
            )

    def _own_fields_exist(self) -> None:
        for name, field in self.fields.items():
            if not isinstance(field.technique, Scrub):
                continue
            for own in field.technique.own:
                if own.startswith(SUBJECT_PREFIX) and self.references is None:
                    raise ValueError(f"fields.{name}: `{own}` needs `references`, the dataset of the subjects")
                if not own.startswith(SUBJECT_PREFIX) and own not in self.fields:
                    raise ValueError(f"fields.{name}: `own` names `{own}`, which is not a field")

    def _partition_readable(self) -> None:
        if self.partition_by is None:
            return
        field = self.fields.get(self.partition_by.field)
        if field is None or field.type is not SourceType.TIMESTAMP:
            raise ValueError(f"partition_by.field: `{self.partition_by.field}` is not a field of type timestamp")
        if field.sensitivity.sealed or self.partition_by.field not in self.outputs():
            raise ValueError(
                f"fields.{self.partition_by.field}: the partitioning field must be of sensitivity low or none and "
                "published, since partitions show its day"
            )

        technique = field.technique
        within_day = isinstance(technique, Truncate) and technique.unit in ("second", "minute", "hour", "day")
        if not (isinstance(technique, Keep) or within_day):
            raise ValueError(
                f"fields.{self.partition_by.field}: the partitioning field must keep its day; use `keep`, or "
                "`truncate` to the day or less"
            )

    def _quasi_identifiers_published(self) -> None:
        if self.privacy_model is None:
            return
        if self.key != self.subject or self.partition_by is not None:
            raise ValueError(
                "privacy_model: k-anonymity counts rows of one release as people, so the dataset must have one "
                "record a subject (key = subject) and no partitions"
            )
        model, outputs = self.privacy_model, self.outputs()
        for setting, names in (("quasi_identifiers", model.quasi_identifiers), ("sensitive", tuple(model.sensitive))):
            missing = set(names) - set(outputs.values())
            if missing:
                raise ValueError(f"privacy_model.{setting}: `{min(missing)}` is not an output column of any field")
            if self.token_column in names:
                raise ValueError(f"privacy_model.{setting}: `{self.token_column}` is the pseudonym of the record")
        if len(set(model.quasi_identifiers)) != len(model.quasi_identifiers):
            raise ValueError("privacy_model.quasi_identifiers: a column is named twice; remove one")
        both = set(model.quasi_identifiers) & set(model.sensitive)
        if both:
            raise ValueError(f"privacy_model: `{min(both)}` is either a quasi-identifier or sensitive, not both")
        for name, output in outputs.items():
            field = self.fields[name]
            readable = self.reader(name) is Reader.ANALYST
            if field.role is FieldRole.QUASI_IDENTIFIER and readable and output not in model.quasi_identifiers:
                raise ValueError(
                    f"fields.{name}: analysts can read `{output}`, a quasi-identifier, so k must hold over it: add it "
                    "to privacy_model.quasi_identifiers, suppress it, or say `visible_to: linkage`"
                )

    def _columns_unique(self) -> None:
        columns = [field.column or name for name, field in self.fields.items()]
        repeated = {column for column in columns if columns.count(column) > 1}
        if repeated:
            raise ValueError(f"fields: two fields read the column `{min(repeated)}`; correct one of them")
        position = self.source.position
        if position is not None:
            self._require_field("source.position", position)
            if self.fields[position].column is not None:
                raise ValueError(f"fields.{position}: the platform fills it; remove `column`")

    def outputs(self) -> dict[str, str]:
        """Source field → column of the anonymized table, for every field that is published."""
        return {
            name: field.output or name
            for name, field in self.fields.items()
            if not (isinstance(field.technique, Suppress) and field.output is None)
        }

    def source_columns(self) -> dict[str, str]:
        """Column of the source → field, for every field that the source has."""
        return {field.column or name: name for name, field in self.fields.items() if name != self.source.position}

    def reader(self, name: str) -> Reader:
        """Who may read the published column of a field.

        What is left of an identifier (a hash, a subnet, the end of a phone number) serves linking records and would
        single people out beside the quasi-identifiers, so it is not for analysts unless the policy says so. The
        subject's token is: tables are joined by it.
        """
        field = self.fields[name]
        linking = field.role is FieldRole.IDENTIFIER and name != self.subject
        return field.visible_to or (Reader.LINKAGE if linking else Reader.ANALYST)

    @property
    def token_column(self) -> str:
        """The published column that holds the subject's token."""
        return self.outputs()[self.subject]

    def sealed_fields(self) -> tuple[str, ...]:
        """The fields kept only inside the sealed value of a raw record."""
        return tuple(name for name, field in self.fields.items() if field.sensitivity.sealed)

    def clear_fields(self) -> tuple[str, ...]:
        """The fields a raw record keeps in clear."""
        return tuple(name for name, field in self.fields.items() if not field.sensitivity.sealed)

    def subject_fields(self) -> tuple[str, ...]:
        """The fields of the referenced dataset that free text of this one is scrubbed of (`own: [subject.email]`)."""
        wanted = [
            name.removeprefix(SUBJECT_PREFIX)
            for field in self.fields.values()
            if isinstance(field.technique, Scrub)
            for name in field.technique.own
            if name.startswith(SUBJECT_PREFIX)
        ]
        return tuple(dict.fromkeys(wanted))

    def unprotected_fields(self) -> tuple[str, ...]:
        """High and medium fields whose technique lets the value itself through: what must never be published."""
        return tuple(
            name
            for name in self.outputs()
            if self.fields[name].sensitivity.sealed and not self._hides(self.fields[name])
        )

    @staticmethod
    def _hides(field: FieldPolicy) -> bool:
        # Scrubbing takes personal data out of a text; of a field that is nothing else it would take nothing.
        identifying = field.sensitivity is Sensitivity.HIGH or field.role is FieldRole.IDENTIFIER
        return field.technique.protects and not (identifying and isinstance(field.technique, Scrub))


ANONYMIZED_AT = "anonymized_at"
WINDOW_START, IS_FINAL = "window_start", "is_final"
LINE = "landing_line"
# Columns that a raw table has whatever its policy says.
RESERVED = ("landing_order", "landed_at", "sealed")
SUBJECT_PREFIX = "subject."


class Dimension(PolicyModel):
    """A group-by column of an aggregate; null values are shown as `unknown` unless the dimension is required."""

    column: Name
    truncate: Literal["day", "month"] | None = None
    required: bool = False
    comment: str

    @model_validator(mode="after")
    def _dates_are_required(self) -> Self:
        if self.truncate and not self.required:
            raise ValueError("a truncated dimension needs `required: true`, since no date can be shown as `unknown`")
        return self


class Span(PolicyModel):
    """Seconds between the first and the last value of `span` among the rows of one person that share `by`."""

    span: Name
    by: Name


class Measure(PolicyModel):
    """A figure shown for each group; a histogram is one for each range between its edges."""

    kind: Literal["count", "count_distinct", "sum", "mean", "variance", "quantile", "histogram", "ratio"]
    column: Name | None = None
    times: Name | None = None
    where: dict[Name, str] = Field(default_factory=dict)
    once_per: Name | None = None
    q: float | None = Field(default=None, gt=0, lt=1)
    edges: tuple[float, ...] = ()
    numerator: Name | None = None
    denominator: Name | None = None
    comment: str

    @model_validator(mode="after")
    def _parameters_fit(self) -> Self:
        if self.kind == "ratio":
            if not (self.numerator and self.denominator):
                raise ValueError("a ratio needs `numerator` and `denominator`, names of other measures")
        elif self.kind != "count" and self.column is None:
            raise ValueError(f"`{self.kind}` needs `column`")
        if self.once_per and self.kind != "mean":
            raise ValueError("`once_per` belongs to `mean` only")
        if (self.kind == "quantile") != (self.q is not None):
            raise ValueError("`q`, between 0 and 1, belongs to `quantile`, which needs it")
        if (self.kind == "histogram") != bool(self.edges):
            raise ValueError("`edges` belong to `histogram`, which needs them")
        if self.edges and (len(self.edges) < 2 or list(self.edges) != sorted(set(self.edges))):
            raise ValueError("`edges` are two numbers or more, each above the one before")
        return self

    def figures(self, name: str) -> tuple[str, ...]:
        """The columns of the measure called `name`: its own, or of a histogram `name_1`, `name_2`, …, one a range."""
        if self.kind != "histogram":
            return (name,)
        return tuple(f"{name}_{number + 1}" for number in range(len(self.edges) - 1))


class Join(PolicyModel):
    """Columns taken from another anonymized table by an equal key."""

    table: Name
    by: Name
    columns: tuple[Name, ...] = Field(min_length=1)


class WindowPolicy(PolicyModel):
    """Groups by time as well: windows of some minutes of `column`, as column `window_start`.

    A window is final, in column `is_final`, when everything sent until `lateness_minutes` after its end has been read.
    """

    column: Name
    minutes: int = Field(default=1, ge=1, le=1440)
    lateness_minutes: int = Field(default=10, ge=0)


class AggregatePolicy(PolicyModel):
    """A table of the analytics zone: groups, measures, and what protects the people in them.

    In mode `exact_with_minimum` figures are exact and groups of fewer than `minimum_group_size` people are left out; in
    mode `differentially_private` the parameters are those of `privacy`. These may stand there in both modes.
    """

    aggregate: TableName
    description: str
    owners: tuple[Owner, ...] = ("team:analytics",)
    source: Name
    unit: Name
    mode: Mode = Mode.EXACT
    minimum_group_size: int = Field(default=5, ge=2)
    privacy: PrivacyPolicy | None = None
    window: WindowPolicy | None = None
    join: Join | None = None
    derive: dict[Name, Span] = Field(default_factory=dict)
    dimensions: dict[Name, Dimension] = Field(min_length=1)
    measures: dict[Name, Measure] = Field(min_length=1)

    @model_validator(mode="after")
    def _ratios_name_measures(self) -> Self:
        for name, measure in self.measures.items():
            for operand in (measure.numerator, measure.denominator):
                if operand and (operand not in self.measures or self.measures[operand].kind == "ratio"):
                    raise ValueError(
                        f"measures.{name}: `{operand}` is not a counted or summed measure of this aggregate"
                    )
        for name, measure in self.measures.items():
            if measure.kind == "count_distinct" and measure.column != self.unit:
                raise ValueError(f"measures.{name}: `count_distinct` counts people; its column must be the unit")
        self._columns_differ()
        self._windows_count()
        return self

    def _columns_differ(self) -> None:
        taken = set(self.dimensions)
        for name, measure in self.measures.items():
            if name in self.dimensions:
                raise ValueError(f"measures.{name}: a dimension has this name already")
            columns = {column for figure in measure.figures(name) for column in (figure, error_column(figure))}
            if columns & taken:
                raise ValueError(
                    f"measures.{name}: another column is called `{min(columns & taken)}`; name it otherwise"
                )
            taken |= columns

    def _windows_count(self) -> None:
        """What can be counted anew, window by window, each time something arrives."""
        if self.window is None:
            return
        if self.is_private:
            raise ValueError("window: windows are counted anew again and again, and exact; remove `mode` or `window`")
        if self.join or self.derive:
            raise ValueError("window: windows are made of one table alone; remove `join` and `derive`")
        if any(dimension.truncate or dimension.required for dimension in self.dimensions.values()):
            raise ValueError("window: dimensions have neither `truncate` nor `required`; every row is in a window")
        for name, measure in self.measures.items():
            if measure.kind not in ("count", "count_distinct") or measure.where:
                raise ValueError(f"measures.{name}: windows have `count` and `count_distinct` only, without `where`")
        taken = {WINDOW_START, IS_FINAL} & {*self.dimensions, *self.measures}
        if taken:
            raise ValueError(f"window: the platform adds a column `{min(taken)}`; name yours otherwise")

    @model_validator(mode="after")
    def _privacy_fits(self) -> Self:
        if self.privacy is None:
            if self.mode is Mode.PRIVATE:
                raise ValueError("privacy: is missing; `mode: differentially_private` needs its parameters")
            return self
        for problem in (*self._unit_problems(self.privacy), *self._measure_problems(self.privacy)):
            raise ValueError(f"privacy.{problem}")
        dimensions = {name: bool(dimension.truncate) for name, dimension in self.dimensions.items()}
        for problem in problems_of_keys(self.privacy, dimensions):
            raise ValueError(f"privacy.{problem}")
        return self

    def _unit_problems(self, privacy: PrivacyPolicy) -> Iterator[str]:
        if privacy.unit is PrivacyUnit.USER_DAY and self.day_dimension is None:
            yield "unit: `user_day` needs a dimension with `truncate: day`, or what a user does on two days would meet"
        if self.join and self.join.by != self.unit:
            yield (
                f"unit: a private table joins by `{self.unit}` only; a row joined by `{self.join.by}` may be another "
                "person's, who would count in many units"
            )
        landed = [name for name, keys in privacy.known.items() if isinstance(keys, LandedKeys)]
        if landed and (privacy.unit is not PrivacyUnit.USER_DAY or landed != [self.day_dimension]):
            yield f"keys.{landed[0]}: `landed` is for the day of unit `user_day`"

    def _measure_problems(self, privacy: PrivacyPolicy) -> Iterator[str]:
        for name in (*privacy.measures, *privacy.consistent, *(p for ps in privacy.consistent.values() for p in ps)):
            if name not in self.measures:
                yield f"measures: `{name}` is not a measure of this aggregate; correct its name"
                return
        for name, measure in self.measures.items():
            clamped = measure.kind in ("sum", "mean", "variance", "quantile")
            given = privacy.of(name)
            if clamped != (given.clamp is not None):
                what = "needs `clamp: [low, high]`, the range its values are cut to" if clamped else "has no `clamp`"
                yield f"measures.{name}: `{measure.kind}` {what}"
            if measure.kind == "ratio" and given.share != 1:
                yield f"measures.{name}: a ratio costs nothing, so it has no `share`"
            for operand in (measure.numerator, measure.denominator):
                if operand and self.measures[operand].kind not in ("count", "count_distinct", "sum"):
                    yield f"measures.{name}: a private ratio is one of counts or sums; `{operand}` is neither"
        for whole, parts in privacy.consistent.items():
            kinds = {self.measures[part].kind for part in (whole, *parts)}
            if kinds not in ({"count"}, {"sum"}):
                yield f"consistent.{whole}: a total and its parts are all counts, or all sums"

    @property
    def day_dimension(self) -> str | None:
        """The name of the first dimension that is a day."""
        return next((name for name, dimension in self.dimensions.items() if dimension.truncate == "day"), None)

    @property
    def is_private(self) -> bool:
        """Whether the table is released with differential privacy."""
        return self.mode is Mode.PRIVATE


def error_column(figure: str) -> str:
    """The column with the promised error of a figure, in private tables."""
    return f"{figure}_error_95"


_SAFE_NAME = re.compile(r"^[a-z][a-z0-9]*([A-Z_][A-Za-z0-9_]*)?$")


def printable_name(name: str) -> str:
    """A column name from outside as it may be shown: names can hold personal data when they are really values."""
    return (
        name
        if _SAFE_NAME.match(name) and len(name) <= 63 and sum(map(str.isdigit, name)) <= 4
        else "(a name that is not an identifier)"
    )


__all__ = ["ANONYMIZED_AT", "AggregatePolicy", "DatasetPolicy", "Dimension", "FieldPolicy", "Measure"]
