"""The leak finder: the dynamic part of the check `no_raw_pii`, on one batch of raw and output rows.

Contract: every text value of every output column is tested, none is sampled. Three tests:

* *shape*: every value of a column with a shape (or closed vocabulary) fully matches it;
* *pattern*: no value of any other text column holds a pattern of personal data;
* *raw value*: no text equals, whatever its case, any value that a sensitive raw field has in the batch, and
  no free text holds its own record's value as a whole word. Values of fewer than four characters are passed
  over (three in scripts without blanks): equal by chance too often.

A :class:`Leak` holds names and counts, never a value. Work is skipped only where a test cannot fail: texts of
different lengths are not equal, and a raw value outside of a column's proven shape does not occur in it.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import polars as pl

from privacy_platform.anonymization import own_values
from privacy_platform.anonymization.distinct import distinct_if_few
from privacy_platform.anonymization.rules import OutputRule
from privacy_platform.detection import patterns
from privacy_platform.errors import PrivacyPlatformError

__all__ = ["MIN_CHARACTERS", "Leak", "LeakFinderError", "OutputRule", "find_leaks"]

MIN_CHARACTERS = 4
_SCAN = OutputRule()
_FEW = 64
_FEW_CHARACTERS = 32
_TEXT = (pl.String, pl.Categorical, pl.Enum)


class LeakFinderError(PrivacyPlatformError):
    """The finder was given batches that do not belong together."""


@dataclass(frozen=True)
class Leak:
    """One finding in one output column.

    Attributes:
        column: The output column.
        kind: Which test failed.
        field: The raw field whose values occur (kind ``raw_value``).
        pattern: What the value looks like (kind ``pattern``).
        rows: Number of rows of the batch.
    """

    column: str
    kind: Literal["shape", "pattern", "raw_value"]
    field: str | None
    pattern: str | None
    rows: int


class _RawField:
    """A sensitive raw field, prepared once for all output columns.

    `parts` are those of all columns: a field of which none is there is not looked for in each of them.
    """

    def __init__(self, name: str, values: pl.Series, parts: frozenset[str]) -> None:
        self.name = name
        self._raw = values
        self._parts = parts

    @cached_property
    def values(self) -> pl.Series:
        """Lower-case text by row; null where too short to tell."""
        text = self._raw.cast(pl.String).alias("raw")
        low = text.str.to_lowercase()
        # Letters of the scripts without blanks are three bytes each in UTF-8.
        characters, size = pl.col("raw").str.len_chars(), pl.col("raw").str.len_bytes()
        enough = (characters >= MIN_CHARACTERS) | ((characters == MIN_CHARACTERS - 1) & (size >= 9))
        return low.to_frame().select(pl.when(enough).then(pl.col("raw"))).to_series()

    @cached_property
    def _sizes(self) -> pl.Series:
        return self.values.str.len_bytes()

    @cached_property
    def lengths(self) -> frozenset[int]:
        """The lengths in bytes that occur."""
        return frozenset(self._sizes.drop_nulls().unique().to_list())

    def occurring(self, parts: frozenset[str]) -> pl.Series:
        """By row, whether the value is one of some of all parts."""
        if parts and self._occurs:
            return self._is_in(parts)
        return pl.repeat(False, len(self._raw), dtype=pl.Boolean, eager=True)

    @cached_property
    def _occurs(self) -> bool:
        return self._is_in(self._parts).any()

    def _is_in(self, parts: frozenset[str]) -> pl.Series:
        return self.values.is_in(pl.Series(sorted(parts), dtype=pl.String).implode()).fill_null(False)

    def among(self, lengths: frozenset[int]) -> pl.Series:
        """The values of some lengths."""
        if self.lengths <= lengths:
            return self.values.drop_nulls()
        wanted = pl.Series(sorted(lengths), dtype=pl.UInt32)
        return self.values.filter(self._sizes.is_in(wanted.implode()))


def _lengths(texts: pl.Series) -> frozenset[int]:
    return frozenset(texts.str.len_bytes().drop_nulls().unique().to_list())


class _Column:
    """One text column of the output and what its rule leaves to be tested."""

    def __init__(self, name: str, values: pl.Series, rule: OutputRule) -> None:
        self.name = name
        self.rule = rule
        self.texts = values.cast(pl.String).alias("out")
        self.allowed = pl.Series(sorted(rule.allowed), dtype=pl.String)

    @cached_property
    def distinct(self) -> pl.Series:
        """The distinct texts where they are few, else all: tests on it hold for all rows."""
        return distinct_if_few(self.texts)

    @cached_property
    def open(self) -> pl.Series:
        """Of `distinct`, the texts that are no constants of the rule."""
        return self._not_allowed(self.distinct)

    @cached_property
    def open_low(self) -> pl.Series:
        """`open` in lower case, as raw values are compared."""
        return self.open.str.to_lowercase()

    @cached_property
    def open_lengths(self) -> frozenset[int]:
        """The lengths in bytes of `open_low`, which lower case changes outside of ASCII only."""
        ascii_only = (self.open.str.len_bytes() == self.open.str.len_chars()).all()
        return _lengths(self.open if ascii_only else self.open_low)

    @cached_property
    def parts(self) -> frozenset[str] | None:
        """Every text of at least three characters inside of `open_low`, where those are few, short and plain.

        Plain are texts in which a value can only stand as it is: no URL encoding, no telephone number.
        """
        if self.open.len() > _FEW:
            return None
        texts = self.open_low.to_list()
        if any(len(text) > _FEW_CHARACTERS or re.search("(?s)[%+]|[0-9].*[0-9]", text) for text in texts):
            return None
        return frozenset(
            text[start:end]
            for text in texts
            for start in range(len(text))
            for end in range(start + MIN_CHARACTERS - 1, len(text) + 1)
        )

    @cached_property
    def is_open(self) -> pl.Series:
        """For all rows, whether the text is no constant of the rule."""
        present = self.texts.is_not_null()
        return present if self.allowed.is_empty() else present & ~self.texts.is_in(self.allowed.implode())

    def _not_allowed(self, texts: pl.Series) -> pl.Series:
        texts = texts.drop_nulls()
        return texts if self.allowed.is_empty() else texts.filter(~texts.is_in(self.allowed.implode()))

    def _misshapen(self, texts: pl.Series) -> pl.Series:
        """Which of some open texts break the rule."""
        if self.rule.shape is None:
            return pl.repeat(True, len(texts), dtype=pl.Boolean, eager=True)
        return ~texts.str.contains(f"^(?:{self.rule.shape})$")

    @cached_property
    def well_shaped(self) -> bool:
        """Whether every open text matches the shape; never for free text."""
        return not self.rule.scanned and not self._misshapen(self.open).any()

    def shape_leaks(self) -> Iterator[Leak]:
        """The first test."""
        if not self.rule.scanned and not self.well_shaped:
            rows = int(self._misshapen(self._not_allowed(self.texts)).sum())
            yield Leak(self.name, "shape", None, None, rows)

    def pattern_leaks(self) -> Iterator[Leak]:
        """The second test; texts that break their shape are free text too."""
        if not self.well_shaped and patterns.contains_any_series(self.open).any():
            for pattern, rows in patterns.find(self._suspects()).items():
                yield Leak(self.name, "pattern", None, pattern, rows)

    def _suspects(self) -> pl.Series:
        texts = self._not_allowed(self.texts)
        return texts if self.rule.scanned else texts.filter(self._misshapen(texts))

    def raw_leak(self, field: _RawField, suspects: pl.Series) -> Iterator[Leak]:
        """The third test, for one raw field; `suspects` are the rows whose texts may hold their own value of it."""
        if self.parts is not None and not field.occurring(self.parts).any():
            return  # neither equal to a text nor inside of one
        found = self._equal_rows(field)
        # A text cannot hold a value longer than itself; no URL encoding shortens a value.
        fits = min(field.lengths, default=0) <= max(self.open_lengths, default=-1)
        if fits and not self.well_shaped and suspects.len():
            held = self._own_rows(field, suspects)
            found = held if found is None else found | held
        rows = 0 if found is None else int(found.sum())
        if rows:
            yield Leak(self.name, "raw_value", field.name, None, rows)

    def _equal_rows(self, field: _RawField) -> pl.Series | None:
        """For all rows, whether the text equals any raw value of the batch; None when no row does."""
        lengths = self.open_lengths & field.lengths
        if not lengths or (self.well_shaped and self.rule.may_coincide):
            return None
        values = field.among(lengths)
        if self.well_shaped:
            values = values.filter(values.str.contains(f"(?i)^(?:{self.rule.shape})$"))
        # Whichever are fewer are looked for among the others.
        few, many = sorted((values, self.open_low), key=len)
        if few.is_empty() or not many.is_in(few.implode()).any():
            return None
        equal = self.is_open & self.texts.str.to_lowercase().is_in(values.unique().implode())
        if self.rule.may_coincide:
            equal &= self._misshapen(self.texts)
        return equal.fill_null(False)

    def _own_rows(self, field: _RawField, suspects: pl.Series) -> pl.Series:
        """For all rows, whether the text holds its own record's value as a whole word; `suspects` are looked at."""
        texts, own = self.texts.gather(suspects), field.values.gather(suspects)
        told = own_values.Texts(texts).may_hold(own) & self.is_open.gather(suspects)
        candidates = told.arg_true()
        none = pl.repeat(False, len(self.texts), dtype=pl.Boolean, eager=True)
        if candidates.is_empty():
            return none
        pairs = zip(texts.gather(candidates).to_list(), own.gather(candidates).to_list(), strict=True)
        return none.scatter(suspects.gather(candidates), [own_values.occurs(text, value) for text, value in pairs])


class _Screen:
    """Finds the rows that have to be looked at for their own values, by one look at all their free texts together.

    A text that holds a value holds it still when the row's other texts are put beside it; between them stands a
    character that no text has.
    """

    def __init__(self, columns: Sequence[_Column]) -> None:
        few = [column for column in columns if column.parts is not None]
        self._parts = frozenset().union(*(column.parts or frozenset() for column in few))
        texts = [column.texts.alias(column.name) for column in columns if column.parts is None]
        self._texts: own_values.Texts | None = None
        if texts:
            joined = pl.select(pl.concat_str(texts, separator="\x00", ignore_nulls=True)).to_series()
            self._texts = own_values.Texts(joined)

    def suspects(self, field: _RawField) -> pl.Series:
        """The numbers of the rows one of whose free texts may hold the row's value of a field."""
        rows = field.occurring(self._parts)
        if self._texts is not None:
            rows |= self._texts.may_hold(field.values)
        return rows.arg_true()


def find_leaks(
    raw: pl.DataFrame,
    out: pl.DataFrame,
    *,
    sensitive: Sequence[str],
    outputs: Mapping[str, OutputRule],
) -> list[Leak]:
    """Find personal data in a batch about to be published.

    Args:
        raw: The raw rows of the batch, row by row those that `out` was made of.
        out: The output rows.
        sensitive: Raw fields whose values must not occur in the output.
        outputs: The rule of each output column; a text column without one is scanned.

    Returns:
        Findings in the order of the output columns, empty when there are none. Counts only, never values.

    Raises:
        LeakFinderError: The batches differ in height, a sensitive field is not in `raw`, or an output column
            is nested or binary and cannot be searched.
    """
    if raw.height != out.height:
        raise LeakFinderError("find_leaks needs the raw rows that the output rows were made of, one for one")
    missing = [name for name in sensitive if name not in raw.columns]
    if missing:
        raise LeakFinderError(f"sensitive field {missing[0]!r} is not in the raw batch: read it for the check")
    columns = [_Column(name, out[name], outputs.get(name, _SCAN)) for name in out.columns if _is_text(name, out[name])]
    parts = frozenset[str]().union(*(column.parts or () for column in columns))
    fields = [_RawField(name, raw[name], parts) for name in sensitive if raw[name].dtype != pl.Boolean]
    screen = _Screen([column for column in columns if not column.well_shaped])
    suspects = [screen.suspects(field) for field in fields]
    leaks: list[Leak] = []
    for column in columns:
        leaks.extend(column.shape_leaks())
        leaks.extend(column.pattern_leaks())
        for field, rows in zip(fields, suspects, strict=True):
            leaks.extend(column.raw_leak(field, rows))
    return leaks


def _is_text(name: str, values: pl.Series) -> bool:
    """Whether a column is text; LeakFinderError where nothing can be said of its values."""
    if values.dtype.is_numeric() or values.dtype.is_temporal() or values.dtype in (pl.Boolean, pl.Null):
        return False
    if values.dtype not in _TEXT:
        raise LeakFinderError(f"output column {name!r} has a type that cannot be searched: publish text instead")
    return True
