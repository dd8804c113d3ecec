"""The anonymizing task: a split of a raw table becomes published rows in a staging table.

Read with the subjects' keys → unseal → kernels of the policy → look for leaks on exactly the rows that are copied.
A record whose subject has been erased is left out; one whose subject is unknown, or was suppressed from the table this
one refers to, follows the policy.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import datetime

import polars as pl
from psycopg import Connection, sql

from privacy_platform.anonymization.leaks import OutputRule, find_leaks
from privacy_platform.anonymization.techniques import Scrub, Secrets
from privacy_platform.engine.land import pseudonym_secrets
from privacy_platform.engine.opening import KEY, SALT, VERSION, alive, unsealed, with_keys
from privacy_platform.engine.sources.zone import Columns, ZoneSplit, read_frames, relation_splits, subject_splits
from privacy_platform.engine.stage import CopyOnce, Statistics
from privacy_platform.engine.subjects import KNOWN, SHOWN, subjects
from privacy_platform.policy.anonymity import searched
from privacy_platform.policy.compile import SEALED, anonymized_table, raw_table
from privacy_platform.policy.model import ANONYMIZED_AT, SUBJECT_PREFIX, DatasetPolicy
from privacy_platform.policy.tables import WHOLE, ColumnType
from privacy_platform.vault.keyring import Keyring
from privacy_platform.vault.subjects import worker_keyring
from privacy_platform.warehouse.connection import Role, connect
from privacy_platform.warehouse.release import STAGING, Release
from privacy_platform.warehouse.tables import partition_name


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
            closing(connect(Role.PIPELINE, wait_for_disk=False)) as output,
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

    def parts(self, split: ZoneSplit, connection: Connection) -> Iterator[Part]:
        """The split, anonymized batch by batch; changes nothing, and gives the same again within the release."""
        keyring = worker_keyring(connection)
        secrets = pseudonym_secrets(keyring, release_salt(connection, self.release))
        for batch in self._keyed(split, keyring):
            yield self._anonymized(batch, secrets)

    def _keyed(self, split: ZoneSplit, keyring: Keyring) -> Iterator[tuple[int, pl.DataFrame]]:
        """Batches of the split: how many records were read, and those whose subject has a key, with it."""
        token = self.policy.token_column
        columns = Columns((token, *self.policy.clear_fields(), SEALED))
        if is_own_subject(self.policy):
            # Every row of the vault has a salt. That the planner expects a third of them makes it hash the vault, whose
            # rows are narrow, instead of the sealed records, where both have about as many rows.
            vault = "SELECT user_token, salt, key_version FROM vault.subjects WHERE octet_length(salt) > 0"
            query = (
                f'SELECT r.*, v.salt AS "{SALT}", v.key_version AS "{VERSION}" FROM ({split.rows(columns)}) r '
                f'LEFT JOIN ({vault}) v ON v.user_token = r."{token}"'
            )
            yield from ((batch.height, with_keys(batch, keyring)) for batch in read_frames(query))
            return
        people = subjects(split, self.policy, self.reference, keyring)
        for batch in read_frames(split.rows(columns)):
            yield batch.height, batch.join(people, on=token, how="inner", maintain_order="left")

    def _anonymized(self, batch: tuple[int, pl.DataFrame], secrets: Secrets) -> Part:
        read, keyed = batch
        statistics: Statistics = Counter(read=read)
        living = alive(keyed, SEALED)
        statistics["erased"] += read - living.height
        kept, unknown = self._refer(living, statistics)
        quarantined = self._unknown(unknown)
        if kept.is_empty():
            return Part(pl.DataFrame(schema=anonymized_table(self.policy).schema()), quarantined, statistics)
        raw = opened(self.policy, kept)
        published = transformed(self.policy, raw, secrets).with_columns(
            pl.lit(self.anonymized_at, dtype=pl.Datetime("us", "UTC")).alias(ANONYMIZED_AT)
        )
        statistics.update(leaks(self.policy, raw, published))
        statistics["staged"] += published.height
        return Part(published, quarantined, statistics)

    def _refer(self, batch: pl.DataFrame, statistics: Statistics) -> tuple[pl.DataFrame, pl.DataFrame]:
        """The records to publish, and those of subjects nobody knows."""
        rule = self.policy.references
        if rule is None:
            return batch, batch.clear()
        shown, unknown = pl.col(SHOWN), batch.clear()
        if rule.unknown == "keep":
            shown = shown | ~pl.col(KNOWN)
        else:
            unknown = batch.filter(~pl.col(KNOWN))
            statistics["quarantined"] += unknown.height
        # Subjects that landed after the published table was made may only be waiting for it to be made again.
        reason = "waiting" if self.reference_behind else "suppressed"
        statistics[reason] += batch.filter(pl.col(KNOWN) & ~pl.col(SHOWN)).height
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


def is_own_subject(policy: DatasetPolicy) -> bool:
    """Whether a record is all that there is of its subject, and nothing else must be known of it."""
    return policy.key == policy.subject and policy.references is None


def record_splits(
    connection: Connection, policy: DatasetPolicy, schema: str, names: Sequence[str], *, parallelism: int
) -> list[ZoneSplit]:
    """Splits of raw relations of a dataset, for its `AnonymizeTask`."""
    if is_own_subject(policy):
        return relation_splits(connection, schema, names, parallelism=parallelism)
    return subject_splits(connection, schema, names, policy.token_column, parallelism=parallelism)


def release_salt(connection: Connection, release: Release) -> str:
    """The salt of the release, which is thrown away with its staging tables."""
    query = sql.SQL("SELECT salt FROM {}").format(sql.Identifier(STAGING, release.secret))
    [(salt,)] = connection.execute(query).fetchall()
    return str(salt)


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
    """The records with their sealed fields in clear, in the policy's types, and their subjects' values beside them."""
    records = batch.select(record_of(policy)).to_series()
    personal = unsealed(policy, batch[SEALED], batch[KEY], records)
    own = [name for name in batch.columns if name.startswith(SUBJECT_PREFIX)]
    return batch.select(policy.token_column, *policy.clear_fields(), *own).hstack(personal)


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
