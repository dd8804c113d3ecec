"""What a task must know of the data subjects whose records it reads: keys, standing, values that text is scrubbed of.

A subject has many records. Its key is derived, its standing in the dataset referred to looked up and its own record
there opened once for all of them.
"""

import polars as pl

from privacy_platform.engine.opening import HEAD, KEY, SALT, VERSION, alive, unsealed, with_keys
from privacy_platform.engine.sources.zone import Columns, ZoneSplit, read_frames
from privacy_platform.policy.compile import SEALED
from privacy_platform.policy.model import SUBJECT_PREFIX, DatasetPolicy
from privacy_platform.vault.keyring import Keyring

KNOWN, SHOWN = "__known", "__shown"
_SUBJECT = "__subject"


def subjects(
    split: ZoneSplit, policy: DatasetPolicy, reference: DatasetPolicy | None, keyring: Keyring
) -> pl.DataFrame:
    """The subjects of a split's records that have not been erased, one row each.

    Args:
        split: the records; of few enough subjects (`zone.subject_splits`).
        policy: the dataset of the records.
        reference: the dataset it refers to.
        keyring: the keys.

    Returns:
        The token, `KEY` and `HEAD`; with a reference also `KNOWN` (the subject has a record there), `SHOWN` (it was
        published) and `subject.<field>` (text) for each of the subject's own fields that the policy looks for.
    """
    found = [_known(frame, policy, reference, keyring) for frame in read_frames(_query(split, policy, reference))]
    return pl.concat(found) if found else pl.DataFrame()


def _query(split: ZoneSplit, policy: DatasetPolicy, reference: DatasetPolicy | None) -> str:
    token = policy.token_column
    chosen = [f's."{token}"', f'v.salt AS "{SALT}"', f'v.key_version AS "{VERSION}"']
    joins = [_joined(split, "vault.subjects", "user_token", ("salt", "key_version"), "v", token)]
    if reference:
        key, values = reference.token_column, (SEALED,) if policy.subject_fields() else ()
        chosen += [f'k."{key}" IS NOT NULL AS "{KNOWN}"', f'a."{key}" IS NOT NULL AS "{SHOWN}"']
        chosen += [f'k."{name}" AS "{_SUBJECT}"' for name in values]
        joins += [
            _joined(split, f'raw."raw_{reference.dataset}"', key, values, "k", token),
            _joined(split, f'anonymized."anonymized_{reference.dataset}"', key, (), "a", token),
        ]
    tokens = f'SELECT DISTINCT "{token}" FROM ({split.rows(Columns((token,)))}) e'
    return f"SELECT {', '.join(chosen)} FROM ({tokens}) s {' '.join(joins)}"


def _joined(split: ZoneSplit, table: str, key: str, columns: tuple[str, ...], alias: str, token: str) -> str:
    """A table's rows of the split's share: only those are hashed."""
    names = ", ".join(f'"{name}"' for name in (key, *columns))
    share = split.of_share(f'"{key}"')
    return f'LEFT JOIN (SELECT {names} FROM {table} WHERE {share}) {alias} ON {alias}."{key}" = s."{token}"'


def _known(
    frame: pl.DataFrame, policy: DatasetPolicy, reference: DatasetPolicy | None, keyring: Keyring
) -> pl.DataFrame:
    people = with_keys(frame, keyring)
    if _SUBJECT not in people.columns or reference is None:
        return people
    # Without the subject's own values free text cannot be scrubbed of them: a subject who was erased and is back is
    # erased here, too, until its own record lands again.
    people = alive(people, _SUBJECT)
    token, wanted = policy.token_column, policy.subject_fields()
    own = people.filter(pl.col(_SUBJECT).is_not_null())
    values = unsealed(reference, own[_SUBJECT], own[KEY], own[token]).select(
        pl.col(name).cast(pl.String).alias(f"{SUBJECT_PREFIX}{name}") for name in wanted
    )
    return people.drop(_SUBJECT).join(values.with_columns(own[token]), on=token, how="left", maintain_order="left")


__all__ = ["HEAD", "KEY", "KNOWN", "SHOWN", "subjects"]
