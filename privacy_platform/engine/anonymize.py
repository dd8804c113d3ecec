"""The anonymizing task: a split of a raw table becomes published rows in a staging table.

Read with the subjects' salts → unseal → kernels of the policy → look for leaks on exactly the rows that are copied.
A record whose subject has been erased has no key, or was sealed under an earlier one, and is left out; one whose
subject is unknown, or was suppressed from the table this one refers to, follows the policy.
"""

import io
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import polars as pl

from privacy_platform.anonymization.leaks import OutputRule, find_leaks
from privacy_platform.anonymization.techniques import Scrub, Secrets
from privacy_platform.engine.land import pseudonym_secrets, sealing_keys
from privacy_platform.engine.sources.batch import TYPES
from privacy_platform.engine.sources.zone import ZoneSplit, read_query
from privacy_platform.engine.stage import CopyOnce, Statistics
from privacy_platform.policy.anonymity import searched
from privacy_platform.policy.compile import SEALED, anonymized_table, raw_table
from privacy_platform.policy.model import ANONYMIZED_AT, SUBJECT_PREFIX, DatasetPolicy, SourceType
from privacy_platform.policy.tables import WHOLE, ColumnType
from privacy_platform.vault.keyring import Keyring
from privacy_platform.vault.sealing import SealError, data_keys, rekeyed, unseal
from privacy_platform.vault.subjects import worker_keyring
from privacy_platform.warehouse.connection import Role, adbc
from privacy_platform.warehouse.release import Release
from privacy_platform.warehouse.tables import partition_name

_SALT, _VERSION, _KEY = "__salt", "__version", "__key"
_KNOWN, _SHOWN, _SUBJECT = "__known", "__shown", "__subject"


@dataclass(frozen=True, slots=True, eq=False)
class Part:
    """A batch of a split, anonymized: rows to publish, rows to quarantine, counts."""

    published: pl.DataFrame
    quarantined: pl.DataFrame
    statistics: Statistics


@dataclass(frozen=True)
class AnonymizeTask:
    """What every anonymizing task of a run needs to know; picklable, and without a key in it."""

    policy: DatasetPolicy
    release: Release
    run_id: str
    anonymized_at: datetime
    reference: DatasetPolicy | None = None
    reference_behind: bool = False

    def __call__(self, split: ZoneSplit) -> Statistics:
        """Anonymize one split and copy it; returns its counts."""
        with (
            closing(adbc(Role.PIPELINE)) as output,
            CopyOnce(output, self.release.staging, split.index) as copy,
        ):
            if copy.done is not None:
                return copy.done
            statistics: Statistics = Counter()
            for part in self.parts(split, output):
                copy.copy(self.release.quarantine, part.quarantined)
                copy.copy(self.release.staging, part.published)
                statistics.update(part.statistics)
            copy.commit(statistics)
            return statistics

    def parts(self, split: ZoneSplit, connection: Any) -> Iterator[Part]:
        """The split, anonymized batch by batch; changes nothing, and gives the same again within the release."""
        keyring = worker_keyring(connection)
        secrets = pseudonym_secrets(keyring, release_salt(connection, self.release))
        for arrow in read_query(self._query(split)):
            batch = pl.from_arrow(arrow)
            assert isinstance(batch, pl.DataFrame)  # noqa: S101 - a record batch gives a frame
            yield self._anonymized(batch, split, keyring, secrets)

    def _query(self, split: ZoneSplit) -> str:
        policy = self.policy
        token = policy.token_column
        columns = [token, *policy.clear_fields(), SEALED]
        chosen = [f'r."{name}"' for name in columns] + [
            f'v.salt AS "{_SALT}"',
            f'v.key_version AS "{_VERSION}"',
        ]
        # Every row of the vault has a salt. That the planner expects a third of them makes it hash the vault, whose
        # rows are narrow, instead of the sealed records, where both have about as many rows.
        vault = "SELECT user_token, salt, key_version FROM vault.subjects WHERE octet_length(salt) > 0"
        joins = [f'LEFT JOIN ({vault}) v ON v.user_token = r."{token}"']
        if self.reference:
            other, key = self.reference.dataset, self.reference.token_column
            chosen += [f'k."{key}" IS NOT NULL AS "{_KNOWN}"', f'a."{key}" IS NOT NULL AS "{_SHOWN}"']
            chosen += [f'k."{SEALED}" AS "{_SUBJECT}"'] if policy.subject_fields() else []
            joins += [
                f'LEFT JOIN raw."raw_{other}" k ON k."{key}" = r."{token}"',
                f'LEFT JOIN anonymized."anonymized_{other}" a ON a."{key}" = r."{token}"',
            ]
        return (
            f'SELECT {", ".join(chosen)} FROM "{split.schema}"."{split.relation}" r {" ".join(joins)} '
            f"WHERE {split.where}"
        )

    def _anonymized(self, batch: pl.DataFrame, split: ZoneSplit, keyring: Keyring, secrets: Secrets) -> Part:
        statistics: Statistics = Counter(read=batch.height)
        alive = self._alive(batch, keyring)
        statistics["erased"] += batch.height - alive.height
        kept, unknown = self._refer(alive, statistics)
        quarantined = self._unknown(unknown)
        if kept.is_empty():
            return Part(pl.DataFrame(schema=anonymized_table(self.policy).schema()), quarantined, statistics)
        raw = opened(self.policy, kept)
        if self.reference and self.policy.subject_fields():
            raw = raw.hstack(subject_values(self.policy, self.reference, kept))
        published = transformed(self.policy, raw, secrets).with_columns(
            pl.lit(self.anonymized_at, dtype=pl.Datetime("us", "UTC")).alias(ANONYMIZED_AT)
        )
        statistics.update(leaks(self.policy, raw, published))
        statistics["staged"] += published.height
        return Part(published, quarantined, statistics)

    def _alive(self, batch: pl.DataFrame, keyring: Keyring) -> pl.DataFrame:
        """The records that have a key and were sealed under it; the others are of erased subjects.

        A subject who was erased and landed again has a new key, under which the old records are noise. So is the
        subject's own record until it lands again: without its values free text cannot be scrubbed of them.
        """
        alive = batch.filter(pl.col(_SALT).is_not_null())
        alive = alive.with_columns(data_keys(alive[_SALT], alive[_VERSION], sealing_keys(keyring)).alias(_KEY))
        for sealed in (SEALED, _SUBJECT):
            if sealed in alive.columns:
                alive = alive.filter(~rekeyed(alive[sealed], alive[_KEY]))
        return alive

    def _refer(self, batch: pl.DataFrame, statistics: Statistics) -> tuple[pl.DataFrame, pl.DataFrame]:
        """The records to publish, and those of subjects nobody knows."""
        rule = self.policy.references
        if rule is None:
            return batch, batch.clear()
        shown, unknown = pl.col(_SHOWN), batch.clear()
        if rule.unknown == "keep":
            shown = shown | ~pl.col(_KNOWN)
        else:
            unknown = batch.filter(~pl.col(_KNOWN))
            statistics["quarantined"] += unknown.height
        # Subjects that landed after the published table was made may only be waiting for it to be made again.
        reason = "waiting" if self.reference_behind else "suppressed"
        statistics[reason] += batch.filter(pl.col(_KNOWN) & ~pl.col(_SHOWN)).height
        return batch.filter(shown), unknown

    def _unknown(self, rows: pl.DataFrame) -> pl.DataFrame:
        reference = self.policy.references.dataset if self.policy.references else ""
        return rows.select(
            pl.lit(self.policy.dataset).alias("dataset"),
            pl.lit("anonymizing").alias("stage"),
            raw_partition_of(self.policy).alias("source"),
            record_of(self.policy).alias("position"),
            pl.lit(f"{self.policy.subject}: not a subject of {reference}").alias("error"),
            pl.lit(None, dtype=pl.Binary).alias("salt"),
            # The record itself stays in the raw table, sealed: the position finds it.
            pl.lit(None, dtype=pl.Binary).alias("sealed"),
            pl.lit(None, dtype=pl.Int32).alias("key_version"),
            pl.lit(self.run_id).alias("run_id"),
            pl.lit(self.anonymized_at, dtype=pl.Datetime("us", "UTC")).alias("quarantined_at"),
        )


def release_salt(connection: Any, release: Release) -> str:
    """The salt of the release, which is thrown away with its staging tables."""
    with connection.cursor() as cursor:
        cursor.execute(f'SELECT salt FROM staging."{release.secret}"')
        return str(cursor.fetch_arrow_table()["salt"][0].as_py())


def record_of(policy: DatasetPolicy) -> pl.Expr:
    """The id a raw record is sealed under."""
    return pl.col(policy.token_column if policy.key == policy.subject else policy.key)


def raw_partition_of(policy: DatasetPolicy) -> pl.Expr:
    """The partition of the raw zone that a raw record is kept in."""
    raw, rule = raw_table(policy), policy.partition_by
    if rule is None:
        return pl.lit(f"raw.{partition_name(raw, WHOLE)}")
    return pl.format(f"raw.{raw.name}_{{}}", pl.col(rule.field).dt.strftime("%Y%m%d"))


def opened(policy: DatasetPolicy, batch: pl.DataFrame) -> pl.DataFrame:
    """The records with their sealed fields in clear, in the policy's types."""
    records = batch.select(record_of(policy)).to_series()
    personal = _unsealed(policy, batch[SEALED], batch[_KEY], records)
    return pl.concat([batch.select(policy.token_column, *policy.clear_fields()), personal], how="horizontal")


def subject_values(policy: DatasetPolicy, reference: DatasetPolicy, batch: pl.DataFrame) -> pl.DataFrame:
    """The subjects' own values that free text must be scrubbed of, one row a record, columns `subject.<field>`.

    A subject's record in the referenced dataset is sealed under the same key as the records of this one.
    """
    token = policy.token_column
    people = batch.filter(pl.col(_SUBJECT).is_not_null()).unique(token)
    wanted = policy.subject_fields()
    values = _unsealed(reference, people[_SUBJECT], people[_KEY], people[token]).select(
        pl.col(name).cast(pl.String).alias(f"{SUBJECT_PREFIX}{name}") for name in wanted
    )
    return (
        batch.select(token)
        .join(values.with_columns(people[token]), on=token, how="left", maintain_order="left")
        .drop(token)
    )


def _unsealed(policy: DatasetPolicy, sealed: pl.Series, keys: pl.Series, records: pl.Series) -> pl.DataFrame:
    temporal = (SourceType.TIMESTAMP, SourceType.DATE)
    types = {name: policy.fields[name].type for name in policy.sealed_fields()}
    schema = {name: pl.String() if kind in temporal else TYPES[kind] for name, kind in types.items()}
    values = unseal(sealed, keys, records, dataset=policy.dataset)
    if not values or not schema:
        return pl.DataFrame(schema={name: TYPES[kind] for name, kind in types.items()})
    frame = pl.read_ndjson(io.BytesIO(b"\n".join(values)), schema=schema)
    if frame.height != len(values):  # or people's values would be put beside each other's
        raise SealError(f"A sealed record of {policy.dataset} is not one JSON object: restore the table from backup.")
    return frame.with_columns(_temporal(name, kind) for name, kind in types.items() if kind in temporal)


def _temporal(name: str, kind: SourceType) -> pl.Expr:
    if kind is SourceType.DATE:
        return pl.col(name).str.to_date("%Y-%m-%d")
    return pl.col(name).str.to_datetime(time_unit="us", time_zone="UTC")


def transformed(policy: DatasetPolicy, raw: pl.DataFrame, secrets: Secrets) -> pl.DataFrame:
    """The kernels of the policy on a batch of opened records: the published columns but the release's time.

    Columns whose level a search picks hold the labels of their finest level, as text. A token that the records carry
    is not made again.
    """
    context = {name: pl.col(name) for name in raw.columns}
    types = {column.name: column.type for column in anonymized_table(policy).columns}
    undecided = searched(policy)

    def published(name: str, output: str) -> pl.Expr:
        if name == policy.subject and output in raw.columns:
            return pl.col(output)
        if output in undecided:
            hierarchy, levels = undecided[output]
            return hierarchy.generalize(pl.col(name), levels[0]).cast(pl.String)
        technique = policy.fields[name].technique
        return technique.expr(pl.col(name), secrets=secrets, context=context).cast(types[output].polars)

    return raw.select(published(name, output).alias(output) for name, output in policy.outputs().items())


def output_rules(policy: DatasetPolicy) -> dict[str, OutputRule]:
    """What every published text column must look like."""
    types = {column.name: column.type for column in anonymized_table(policy).columns}
    undecided = searched(policy)
    rules = {
        output: policy.fields[name].technique.output_rule()
        for name, output in policy.outputs().items()
        if types[output] is ColumnType.TEXT
    }
    return rules | {output: rule.output_rule(levels) for output, (rule, levels) in undecided.items()}


def leaks(policy: DatasetPolicy, raw: pl.DataFrame, published: pl.DataFrame) -> dict[str, int]:
    """The leaks of a batch as `leak.<column>.<kind>…` → rows; never a value."""
    # Free text may come out as it went in when nothing personal was in it: it is scanned for patterns and for the
    # values of all other fields instead.
    sensitive = [n for n in policy.sealed_fields() if not isinstance(policy.fields[n].technique, Scrub)]
    sensitive += [column for column in raw.columns if column.startswith(SUBJECT_PREFIX)]
    found = find_leaks(raw, published, sensitive=sensitive, outputs=output_rules(policy))
    return {
        ".".join(part for part in ("leak", leak.column, leak.kind, leak.pattern or leak.field) if part): leak.rows
        for leak in found
    }
