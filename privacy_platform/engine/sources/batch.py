"""A batch of a source: typed rows, rejects with their reason, and names of fields no policy knows."""

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import polars as pl

from privacy_platform.policy.model import LINE as LINE
from privacy_platform.policy.model import SourceType

REJECT_SCHEMA = {LINE: pl.Int64(), "error": pl.String(), "field": pl.String(), "payload": pl.Binary()}
TYPES: Mapping[SourceType, pl.DataType] = {
    SourceType.STRING: pl.String(),
    SourceType.INTEGER: pl.Int64(),
    SourceType.NUMBER: pl.Float64(),
    SourceType.BOOLEAN: pl.Boolean(),
    SourceType.TIMESTAMP: pl.Datetime("us", "UTC"),
    SourceType.DATE: pl.Date(),
}
_FIXED_FORMATS = {20: "%Y-%m-%dT%H:%M:%SZ", 24: "%Y-%m-%dT%H:%M:%S.%3fZ", 27: "%Y-%m-%dT%H:%M:%S.%6fZ"}
_TIMESTAMP_FORMATS = (
    "%Y-%m-%dT%H:%M:%S%.fZ",
    "%Y-%m-%dT%H:%M:%S%.f%:z",
    "%Y-%m-%d %H:%M:%S%.fZ",
    "%Y-%m-%d %H:%M:%S%.f%:z",
    "%Y-%m-%dT%H:%M:%S%.f",
    "%Y-%m-%d %H:%M:%S%.f",
    "%Y-%m-%dT%H:%M",
    "%Y-%m-%d %H:%M",
)
_TRUE, _FALSE = ("true", "t", "yes", "1"), ("false", "f", "no", "0")


@dataclass(frozen=True)
class Batch:
    """Rows in the declared types with their line, and what could not be read.

    `rows` has the declared fields in order and `landing_line`, counted from 0 within the split; `rejects` has the
    columns of `REJECT_SCHEMA`; `lines` is the number of records met: rows, rejects and `blank` lines together.
    """

    rows: pl.DataFrame
    rejects: pl.DataFrame
    lines: int
    unknown_fields: frozenset[str] = field(default_factory=frozenset)
    blank: int = 0


class Split(Protocol):
    """A piece of a source that one task reads; small and picklable."""

    @property
    def index(self) -> int:
        """Its number among the splits of the run, in landing order."""

    @property
    def source(self) -> pl.Expr:
        """What a record is from, as reported, from its `landing_line`."""

    @property
    def position(self) -> pl.Expr:
        """Where in the source a record is, from its `landing_line`."""

    @property
    def record(self) -> pl.Expr:
        """What a record is called that has no name of its own: source and place in it, from its `landing_line`."""

    def batches(self, types: Mapping[str, SourceType], required: Sequence[str]) -> Iterator[Batch]:
        """The records, in the declared types (in order); `required` are columns a row cannot do without."""


def empty_rejects() -> pl.DataFrame:
    """No rejects."""
    return pl.DataFrame(schema=REJECT_SCHEMA)


def rejects_of(
    lines: Sequence[int], errors: Sequence[str], fields: Sequence[str | None], payloads: Sequence[bytes]
) -> pl.DataFrame:
    """Rejects from parallel lists."""
    return pl.DataFrame({LINE: lines, "error": errors, "field": fields, "payload": payloads}, schema=REJECT_SCHEMA)


def convert(
    frame: pl.DataFrame, types: Mapping[str, SourceType], required: Sequence[str], *, plain: bool = False
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Bring text columns to the declared types; rows with a value that does not fit become rejects.

    Args:
        frame: `landing_line` and one column for each declared field, in its own type or as text.
        types: the declared type of every field.
        required: fields that must not be null or empty.
        plain: no text has a NUL character; where that is not known, it is looked for.

    Returns:
        The typed rows, and the rejects, whose payload is the row as JSON.
    """
    converted = [_storable(_converted(frame[name], kind), plain=plain) for name, kind in types.items()]
    bad = pl.repeat(None, frame.height, dtype=pl.String, eager=True)
    errors = [
        (name, f"{name}: not a valid {types[name]}", before.is_not_null() & after.is_null())
        for name, before, after in zip(types, (frame[n] for n in types), converted, strict=True)
        if before is not after
    ]
    errors += [(name, f"{name}: missing", _absent(converted[list(types).index(name)])) for name in required]
    faulty = [(name, error, mask) for name, error, mask in errors if mask.any()]
    typed = pl.DataFrame([*converted, frame[LINE]])
    if not faulty:
        return typed, empty_rejects()
    field_name = bad
    for name, error, mask in reversed(faulty):
        bad = pl.select(pl.when(mask).then(pl.lit(error)).otherwise(bad)).to_series()
        field_name = pl.select(pl.when(mask).then(pl.lit(name)).otherwise(field_name)).to_series()
    reject = bad.is_not_null()
    payload = (
        frame.select(*types)
        .filter(reject)
        .select(pl.struct(pl.all().cast(pl.String)).struct.json_encode().cast(pl.Binary))
    )
    rejects = pl.DataFrame(
        [
            frame[LINE].filter(reject),
            bad.filter(reject).alias("error"),
            field_name.filter(reject).alias("field"),
            payload.to_series().alias("payload"),
        ]
    )
    return typed.filter(~reject), rejects


def _absent(values: pl.Series) -> pl.Series:
    absent = values.is_null()
    return absent | (values.str.strip_chars() == "").fill_null(False) if values.dtype == pl.String else absent


def _converted(values: pl.Series, kind: SourceType) -> pl.Series:
    target = TYPES[kind]
    if values.dtype == target:
        return values
    if values.dtype != pl.String:
        return values.cast(target)
    if kind is SourceType.TIMESTAMP:
        return parse_timestamps(values)
    if kind is SourceType.BOOLEAN:
        lower = values.str.to_lowercase()
        return pl.select(
            pl.when(lower.is_in(_TRUE)).then(True).when(lower.is_in(_FALSE)).then(False).alias(values.name)
        ).to_series()
    if kind is SourceType.DATE:
        return values.str.to_date("%Y-%m-%d", strict=False)
    return values.str.strip_chars().cast(target, strict=False)


def _storable(values: pl.Series, *, plain: bool) -> pl.Series:
    """Null where a value has no place in PostgreSQL, in JSON or in a calendar; the series itself where all have."""
    if values.dtype == pl.String:
        # PostgreSQL's text has no NUL; one such value would fail its whole split, again and again.
        if plain or "\x00" not in values.str.join("").item():
            return values
        fits = ~values.str.contains("\x00", literal=True)
    elif values.dtype.is_float():
        fits = values.is_finite()
    elif values.dtype.is_temporal():
        fits = values.dt.year().is_between(1, 9999)
    else:
        return values
    return values if fits.all() else pl.select(pl.when(fits).then(values).alias(values.name)).to_series()


def parse_timestamps(values: pl.Series) -> pl.Series:
    """ISO 8601 timestamps (RFC 3339, or without an offset, then UTC) to microseconds UTC; null where they are not."""
    result = _parse_fixed(values)
    for pattern in _TIMESTAMP_FORMATS:
        left = result.is_null() & values.is_not_null()
        if not left.any():
            break
        result = result.zip_with(~left, _parse_as(values, pattern))
    left = result.is_null() & values.is_not_null()
    if left.any():
        dates = values.str.to_date("%Y-%m-%d", strict=False).cast(pl.Datetime("us")).dt.replace_time_zone("UTC")
        result = result.zip_with(~left, dates)
    return result


def _parse_fixed(values: pl.Series) -> pl.Series:
    """Timestamps of fixed length, `2024-01-31T23:59:59Z` or with milli- or microseconds: the form of the first value.

    Polars parses them five times as fast as others. That fast way also takes a year such as `--24` for one: those
    values, and those of another form, are left to the others.
    """
    first = values.drop_nulls().head(1).str.len_bytes().to_list()
    parsed = _parse_as(values, _FIXED_FORMATS.get(first[0] if first else 0, _FIXED_FORMATS[20]))
    plain = values.str.contains("^[0-9]{4}-")
    return parsed if plain.all() else pl.select(pl.when(plain).then(parsed).alias(values.name)).to_series()


def _parse_as(values: pl.Series, pattern: str) -> pl.Series:
    if pattern.endswith("%:z"):
        return values.str.to_datetime(pattern, time_unit="us", strict=False).dt.convert_time_zone("UTC")
    return values.str.to_datetime(pattern, time_unit="us", strict=False).dt.replace_time_zone("UTC")


def record_fault(record: object, types: Mapping[str, SourceType]) -> tuple[str | None, str] | None:
    """Why a parsed JSON record does not have the declared JSON types: (field, reason), or None when it has."""
    if not isinstance(record, dict):
        return None, "not a JSON object"
    for name, kind in types.items():
        value = record.get(name)
        if value is not None and not _JSON_CHECKS[kind](value):
            return name, f"{name}: not a valid {kind}"
    return None


def _is_integer(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and -(2**63) <= value < 2**63


def _is_number(value: object) -> bool:
    # Compared before it is converted: a whole number of JSON can be larger than any float.
    return isinstance(value, int | float) and not isinstance(value, bool) and -_LARGEST <= value <= _LARGEST


def _is_string(value: object) -> bool:
    if not isinstance(value, str):
        return False
    try:
        value.encode()
    except UnicodeEncodeError:  # half a surrogate pair, which is no character
        return False
    return True


def _is_text(value: object) -> bool:
    return _is_string(value) or _is_integer(value)


_LARGEST = math.nextafter(math.inf, 0)


_JSON_CHECKS = {
    SourceType.STRING: _is_text,
    SourceType.INTEGER: _is_integer,
    SourceType.NUMBER: _is_number,
    SourceType.BOOLEAN: lambda value: isinstance(value, bool),
    SourceType.TIMESTAMP: _is_string,
    SourceType.DATE: _is_string,
}


def parse_json(line: bytes) -> object:
    """The JSON value of a line; ValueError where there is none.

    `NaN` and `Infinity` are refused: they are not JSON (RFC 8259). Of a name written twice the first value counts, as
    in the vectorised parse. A byte order mark is passed over.
    """
    return json.loads(
        line.decode("utf-8-sig"),
        parse_constant=_refuse_constant,
        object_pairs_hook=lambda pairs: dict(reversed(pairs)),
    )


def _refuse_constant(name: str) -> float:
    raise ValueError(name)
