"""The landing task: a split of the landing files, or of a topic, becomes sealed raw records in a staging table.

Read → tokenize the subject → get or make the subject's key → seal the personal fields → COPY. Rows that cannot be
read go to quarantine, sealed as well, since nobody knows what a broken line holds.
"""

import secrets
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from datetime import date, datetime
from typing import Any

import polars as pl

from privacy_platform.anonymization.techniques import Secrets
from privacy_platform.engine.repeats import digests_of
from privacy_platform.engine.sources.batch import LINE, Batch, Split
from privacy_platform.engine.stage import CopyOnce, Statistics
from privacy_platform.errors import PrivacyPlatformError
from privacy_platform.policy.compile import LANDED_AT, LANDING_ORDER, SEALED, raw_table
from privacy_platform.policy.drift import contradictions, sample
from privacy_platform.policy.model import DatasetPolicy, printable_name
from privacy_platform.policy.tables import WHOLE
from privacy_platform.vault.keyring import Keyring, Purpose
from privacy_platform.vault.sealing import data_keys, new_salts, seal
from privacy_platform.vault.subjects import subject_keys, worker_keyring
from privacy_platform.warehouse.connection import Role, adbc, connect
from privacy_platform.warehouse.release import Release

LINE_BITS = 40
# PostgreSQL's indexes hold no more than 2,704 bytes of a row: one longer key would fail its whole release.
MAX_KEY_BYTES = 2_500
# So many columns that the policy does not know are named for each batch: where keys are values there is one a line.
_UNKNOWN_NAMED = 100
QUARANTINE_DATASET = "raw.quarantine"
# A split is given up when it has so many rejects, and more than the policy allows: that is no data of this dataset.
MAX_REJECTS = 100_000


class TooManyRejectsError(PrivacyPlatformError):
    """A part of a source is mostly what the policy cannot read; the message names the source."""


@dataclass(frozen=True)
class LandTask:
    """What every landing task of a run needs to know; picklable, and without a key in it."""

    policy: DatasetPolicy
    release: Release
    run_id: str
    landed_at: datetime
    last_day: date
    vault_empty: bool = False

    def __call__(self, split: Split) -> Statistics:
        """Land one split; returns its counts."""
        with (
            closing(connect(Role.PIPELINE, wait_for_disk=False)) as output,
            closing(adbc(Role.PIPELINE)) as vault,
            CopyOnce(output, self.release.staging, split.index) as copy,
        ):
            if copy.done is not None:
                return copy.done
            keyring = worker_keyring(output)
            statistics: Statistics = Counter()
            for batch in map(self._indexable, self._read(split)):
                rows, rejects = self._within_partitions(batch, statistics)
                sealed = self._sealed(rows, split, keyring, vault)
                copy.copy(self.release.staging, sealed)
                if self.policy.on_duplicate == "first":
                    copy.copy(self.release.digests, digests_of(sealed[self.release.table.key[0]]))
                copy.copy(self.release.quarantine, self._quarantined(rejects, split, keyring))
                _count(statistics, batch, rows, rejects)
                self._give_up(statistics, rejects, split)
                if not statistics["looked_at"]:
                    _look(statistics, self.policy, rows)
            copy.commit(statistics)
            return statistics

    def _read(self, split: Split) -> Iterator[Batch]:
        """The split's batches under the fields' names, with the records' positions when the policy asks for them."""
        policy = self.policy
        columns = policy.source_columns()
        types = {column: policy.fields[name].type for column, name in columns.items()}
        required = [column for column, name in columns.items() if name in self._required()]
        position = policy.source.position
        place = [split.record.alias(position)] if position else []
        for batch in split.batches(types, required):
            rows = batch.rows.rename(columns).with_columns(place).select(*policy.fields, LINE)
            yield replace(batch, rows=rows)

    def _required(self) -> set[str]:
        policy = self.policy
        day = {policy.partition_by.field} if policy.partition_by else set()
        return {policy.subject, policy.key} | day | {name for name, field in policy.fields.items() if field.required}

    def _indexable(self, batch: Batch) -> Batch:
        """Make rejects of records whose key is longer than an index takes; a token never is."""
        key = self.policy.key
        long = batch.rows[key].str.len_bytes() > MAX_KEY_BYTES
        if key == self.policy.subject or not long.any():
            return batch
        rejects = _as_rejects(batch.rows.filter(long), key, f"{key}: longer than {MAX_KEY_BYTES} bytes")
        return replace(batch, rows=batch.rows.filter(~long), rejects=pl.concat([batch.rejects, rejects]))

    def _give_up(self, statistics: Statistics, rejects: pl.DataFrame, split: Split) -> None:
        """Stop before what is no data, as the text of an archive of a thousand times its size, fills the database."""
        read, rejected, limit = statistics["read"], statistics["quarantined"], self.policy.quarantine_limit
        if rejects.height and rejected > MAX_REJECTS and rejected > limit * read:
            raise TooManyRejectsError(
                f"{rejects.select(split.source).item(-1, 0)}: {rejected} of {read} records do not fit the policy of "
                f"{self.policy.dataset}, so the rest was not read; take it out, correct it or the policy, or raise "
                "quarantine_limit"
            )

    def _within_partitions(self, batch: Batch, statistics: Statistics) -> tuple[pl.DataFrame, pl.DataFrame]:
        """Leave out the days this run was not asked for; days that no partition can hold are rejects."""
        rule = self.policy.partition_by
        if rule is None:
            return batch.rows, batch.rejects
        day = batch.rows[rule.field].dt.date()
        impossible = (day < rule.start) | (day > self.last_day)
        rejects = batch.rejects
        if impossible.any():
            error = f"{rule.field}: outside the partitions, {rule.start} to {self.last_day}"
            rejects = pl.concat([rejects, _as_rejects(batch.rows.filter(impossible), rule.field, error)])
        wanted = ~impossible
        if self.release.partitions != (WHOLE,):
            wanted &= day.is_in([p.day for p in self.release.partitions])
        statistics["not_selected"] += int((~wanted & ~impossible).sum())
        return batch.rows.filter(wanted), rejects

    def _sealed(self, rows: pl.DataFrame, split: Split, keyring: Keyring, vault: Any) -> pl.DataFrame:
        policy, table = self.policy, raw_table(self.policy)
        token = policy.token_column
        rows = rows.with_columns(token_of(policy, keyring).alias("__token"))
        subjects = rows.select(pl.col("__token").alias("user_token"), pl.col(policy.subject).alias("subject_id"))
        keys = subject_keys(
            vault,
            subjects.unique("user_token"),
            sealing_keys=sealing_keys(keyring),
            identity_key=keyring.secret(Purpose.IDENTITY),
            current=keyring.current,
            # A subject with many records is new only in the first batch.
            all_new=self.vault_empty and policy.key == policy.subject,
        )
        rows = rows.join(keys, left_on="__token", right_on="user_token", how="left", maintain_order="left")
        record = rows["__token"] if policy.key == policy.subject else rows[policy.key]
        sealed = seal(payloads(rows, policy.sealed_fields()), rows["data_key"], record, dataset=policy.dataset)
        landed = rows.select(
            pl.col("__token").alias(token),
            *policy.clear_fields(),
            (pl.col(LINE) + (split.index << LINE_BITS)).alias(LANDING_ORDER),
            pl.lit(self.landed_at, dtype=pl.Datetime("us", "UTC")).alias(LANDED_AT),
            sealed.alias(SEALED),
        )
        return landed.select(table.schema().keys())

    def _quarantined(self, rejects: pl.DataFrame, split: Split, keyring: Keyring) -> pl.DataFrame:
        salts = new_salts(rejects.height)
        versions = pl.repeat(keyring.current, rejects.height, dtype=pl.Int32, eager=True)
        texts = pl.Series([payload.hex() for payload in rejects["payload"].to_list()], dtype=pl.String)
        keys = data_keys(salts, versions, sealing_keys(keyring))
        sealed = seal(texts, keys, salts.bin.encode("hex"), dataset=QUARANTINE_DATASET)
        return rejects.select(
            pl.lit(self.policy.dataset).alias("dataset"),
            pl.lit("landing").alias("stage"),
            split.source.alias("source"),
            split.position.alias("position"),
            pl.col("error"),
            salts.alias("salt"),
            sealed.alias("sealed"),
            versions.alias("key_version"),
            pl.lit(self.run_id).alias("run_id"),
            pl.lit(self.landed_at, dtype=pl.Datetime("us", "UTC")).alias("quarantined_at"),
        )


def token_of(policy: DatasetPolicy, keyring: Keyring) -> pl.Expr:
    """The token of the subject field, by the subject's own technique."""
    technique = policy.fields[policy.subject].technique
    return technique.expr(pl.col(policy.subject), secrets=pseudonym_secrets(keyring, secrets.token_hex(32)), context={})


def pseudonym_secrets(keyring: Keyring, release_salt: str) -> Secrets:
    """The keys techniques work with."""
    return Secrets(
        token_key=keyring.secret(Purpose.TOKEN),
        hmac_key=keyring.secret(Purpose.HMAC),
        release_salt=release_salt,
    )


def sealing_keys(keyring: Keyring) -> Mapping[int, str]:
    """The sealing key of every version."""
    return {version: keyring.secret(Purpose.SEALING, version) for version in keyring.masters}


def payloads(rows: pl.DataFrame, fields: Sequence[str]) -> pl.Series:
    """The sealed fields of each row as a JSON object."""
    if not fields:
        return pl.repeat("{}", rows.height, dtype=pl.String, eager=True)
    values = [
        pl.col(name).dt.to_string("iso:strict") if rows.schema[name].is_temporal() else pl.col(name) for name in fields
    ]
    return rows.select(pl.struct(values).struct.json_encode()).to_series()


def _as_rejects(rows: pl.DataFrame, field: str, error: str) -> pl.DataFrame:
    texts = pl.struct(pl.exclude(LINE).cast(pl.String)).struct.json_encode().cast(pl.Binary)
    return rows.select(LINE, pl.lit(error).alias("error"), pl.lit(field).alias("field"), texts.alias("payload"))


def _look(statistics: Statistics, policy: DatasetPolicy, rows: pl.DataFrame) -> None:
    """Let the detector look at a sample of the first rows of a split; counts and names alone leave the task."""
    statistics["looked_at"] += rows.height
    for found in contradictions(policy, sample(policy, rows)):
        statistics[f"contradicts.{found.field}.{found.kind}.{found.type}"] += 1


def _count(statistics: Statistics, batch: Batch, rows: pl.DataFrame, rejects: pl.DataFrame) -> None:
    statistics["read"] += batch.lines
    statistics["blank"] += batch.blank
    statistics["staged"] += rows.height
    statistics["quarantined"] += rejects.height
    for name, count in rejects["field"].drop_nulls().value_counts().iter_rows():
        statistics[f"rejected.{name}"] += count
    for name in sorted(batch.unknown_fields)[:_UNKNOWN_NAMED]:
        statistics[f"unknown.{printable_name(name)}"] += 1
