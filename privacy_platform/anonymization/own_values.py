"""A record's own values inside its own texts: the search that scrubbing and the leak finder share.

Contract: row by row, whatever the case, as a whole word, plain or URL-encoded, a telephone number in whatever
grouping and with or without its country code. A vectorised search finds the candidate rows; boundaries and encodings
are settled in Python for those alone.

Scrubbing takes more for a find than the leak finder does: an underscore ends a word (`ada_lovelace`), and letters with
combining marks count as composed ones. It may take too much; the finder must not, since it stops the run.
"""

import re
import unicodedata
from collections.abc import Iterator, Mapping
from functools import cached_property
from urllib.parse import quote, quote_plus

import polars as pl

from privacy_platform.anonymization.distinct import distinct_if_few

__all__ = ["MIN_CHARACTERS", "Texts", "long_enough", "occurs", "scrub_own"]

MIN_CHARACTERS = 3
# A telephone number is told by its last nine digits: before them come a country code, a trunk zero, or nothing.
_NUMBER = re.compile(r"[+0-9 ()./-]+")
_EXTENSION = re.compile(r"(?i)\s*(?:x|ext|#).*$")
_DIGITS_LEAST, _DIGITS_TOLD = 7, 9
_BETWEEN = r"(?:[\s()./+-]|%20|%2[89bdf]){0,3}"
# Thai and Lao, Hangul, Kana, Han: scripts without blanks between words (the class is Python's and Rust's).
_UNSPACED = re.compile(r"[\u0e00-\u0eff\u1100-\u11ff\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]")


def _lower(text: str) -> str:
    """Lower case of the same length, so that positions stay true."""
    low = text.lower()
    return low if len(low) == len(text) else "".join(c.lower() if len(c.lower()) == 1 else c for c in text)


def _forms(value: str, text: str) -> set[str]:
    """How a value may be written in a text: as it is, and URL-encoded when the text holds encodings."""
    forms = {value}
    if "%" in text or "+" in text:
        forms |= {
            quote(value, safe=""),
            quote(unicodedata.normalize("NFD", value), safe=""),
            quote_plus(value),
            quote(value, safe="+'!*()"),
            value.replace("@", "%40"),
        }
    return {_lower(form) for form in forms}


def _bounded(text: str, start: int, end: int, joined: str) -> bool:
    """Whether a find is a whole word; the digits of a URL escape such as ``%20`` are no part of a word."""
    follows_word = start > 0 and (text[start - 1].isalnum() or text[start - 1] in joined)
    if follows_word and not re.fullmatch(r"%[0-9a-f]{2}", text[max(0, start - 3) : start]):
        return False
    return not (end < len(text) and (text[end].isalnum() or text[end] in joined))


def _number_of(value: str) -> str:
    """The digits that tell a telephone number, or nothing when the value is none."""
    bare = _EXTENSION.sub("", value)
    digits = re.sub("[^0-9]", "", bare) if _NUMBER.fullmatch(bare) else ""
    return digits[-_DIGITS_TOLD:] if len(digits) >= _DIGITS_LEAST else ""


def _number_spans(low: str, value: str) -> Iterator[tuple[int, int]]:
    digits = _number_of(value)
    if digits:
        written = _BETWEEN.join(digits)
        pattern = rf"(?:(?<![0-9])|(?<=%[0-9a-f]{{2}}))\+?(?:[0-9]{_BETWEEN}){{0,5}}{written}(?![0-9])"
        yield from (found.span() for found in re.finditer(pattern, low))


def _spans(text: str, value: str, *, joined: str = "_") -> Iterator[tuple[int, int]]:
    low = _lower(text)
    yield from _number_spans(low, value)
    for form in _forms(value, text):
        unspaced = bool(_UNSPACED.search(form))  # scripts written without blanks between words
        at = low.find(form)
        while at >= 0:
            end = at + len(form)
            if unspaced or _bounded(low, at, end, joined):
                yield at, end
            at = low.find(form, at + 1)


def occurs(text: str, value: str) -> bool:
    """Whether a value occurs in one text as a whole word."""
    return any(True for _ in _spans(text, value))


def _replace(text: str, value: str, placeholder: str) -> str:
    kept, at = [], 0
    for start, end in sorted(_spans(text, value, joined=""), key=lambda span: (span[0], -span[1])):
        if start >= at:
            kept += [text[at:start], placeholder]
            at = end
    return "".join([*kept, text[at:]]) if kept else text


class Texts:
    """Texts prepared to be searched, row by row, for values of their own records."""

    def __init__(self, texts: pl.Series) -> None:
        self._texts = texts.alias("text")

    def may_hold(self, values: pl.Series) -> pl.Series:
        """For all rows, whether a text may hold the row's value, however it is written; every find is among them.

        Args:
            values: in lower case; null where there is nothing to look for.
        """
        pairs = pl.DataFrame([self._low, values.alias("value")])
        found = pairs.select(pl.col("text").str.contains(pl.col("value"), literal=True).fill_null(False)).to_series()
        if self._encoded.any():
            found |= self._encoded & values.is_not_null()
        return found | self._holds_number(values)

    @cached_property
    def _low(self) -> pl.Series:
        return self._texts.str.to_lowercase()

    @cached_property
    def _distinct(self) -> pl.Series:
        return distinct_if_few(self._texts)

    def _matching(self, pattern: str) -> pl.Series:
        """For all rows, whether the text matches; looked for in the distinct texts first, where it is rare."""
        if not self._distinct.str.contains(pattern).any():
            return pl.repeat(False, len(self._texts), dtype=pl.Boolean, eager=True)
        return self._texts.str.contains(pattern).fill_null(False)

    @cached_property
    def _encoded(self) -> pl.Series:
        return self._matching("[%+]")

    @cached_property
    def _digits(self) -> tuple[pl.Series, pl.Series]:
        """The rows whose texts may hold a telephone number, and the digits of those texts."""
        rows = self._matching(rf"(?i)[0-9](?:{_BETWEEN}[0-9]){{{_DIGITS_LEAST - 1}}}").arg_true()
        return rows, self._texts.gather(rows).str.replace_all("(?i)(?:%20|%2[89bdf]|[^0-9])+", "")

    def _holds_number(self, values: pl.Series) -> pl.Series:
        """For all rows, whether the text may hold the value as a telephone number grouped in another way."""
        none = pl.repeat(False, len(values), dtype=pl.Boolean, eager=True)
        rows, shown = self._digits
        bare = values.gather(rows).str.replace(_EXTENSION.pattern, "").alias("value")
        numbers = bare.str.contains(f"^(?:{_NUMBER.pattern})$").arg_true()
        if numbers.is_empty():
            return none
        digits = bare.gather(numbers).str.replace_all("[^0-9]+", "")
        told = pl.col("value").str.len_bytes() >= _DIGITS_LEAST
        held = pl.col("text").str.contains(pl.col("value").str.tail(_DIGITS_TOLD), literal=True)
        found = pl.DataFrame([shown.gather(numbers).alias("text"), digits]).select(told & held).to_series()
        return none.scatter(rows.gather(numbers), found.fill_null(False))


def long_enough(values: pl.Series) -> pl.Series:
    """The values in lower case, null where one is too short to be told from chance.

    That is shorter than `MIN_CHARACTERS`, one fewer in scripts without blanks.
    """
    lengths = values.str.len_chars()
    enough = lengths >= MIN_CHARACTERS
    short = (lengths == MIN_CHARACTERS - 1).arg_true()
    if short.len():
        enough = enough.scatter(short, values.gather(short).str.contains(_UNSPACED.pattern))
    low = values.str.to_lowercase()
    return low if enough.all() else low.zip_with(enough.fill_null(False), low.clear(len(low)))


def scrub_own(text: pl.Expr, values: Mapping[str, pl.Expr]) -> pl.Expr:
    """Expression: texts with their row's own values replaced by ``[FIELD]``, longer values first."""
    names = list(values)
    fields = [value.alias(f"own{index}") for index, value in enumerate(values.values())]

    def kernel(rows: pl.Series) -> pl.Series:
        columns = rows.struct.unnest()
        there = columns["text"].is_not_null().arg_true()
        frame = columns[there].select(_composed(column) for column in columns[there])
        found = pl.repeat(False, frame.height, dtype=pl.Boolean, eager=True)
        texts = Texts(frame["text"])
        for index in range(len(names)):
            found |= texts.may_hold(long_enough(frame[f"own{index}"]))
        hits = found.arg_true()
        scrubbed = frame["text"]
        if hits.len():
            scrubbed = scrubbed.clone().scatter(hits, [_scrub_row(row, names) for row in frame[hits].rows()])
        return scrubbed if len(there) == len(rows) else columns["text"].clone().scatter(there, scrubbed)

    return pl.struct(text.alias("text"), *fields).map_batches(kernel, return_dtype=pl.String, is_elementwise=True)


def _composed(texts: pl.Series) -> pl.Series:
    """The texts with letters and their marks as one character each, which only other alphabets than ASCII have."""
    if texts.dtype != pl.String:
        return texts
    others = (texts.str.len_bytes() != texts.str.len_chars()).arg_true()
    return texts.clone().scatter(others, texts.gather(others).str.normalize("NFC")) if others.len() else texts


def _scrub_row(row: tuple[str, ...], names: list[str]) -> str:
    text = row[0]
    own = [(value, name) for value, name in zip(row[1:], names, strict=True) if value and _counts(value)]
    for value, name in sorted(own, key=lambda pair: (-len(pair[0]), pair[1])):
        text = _replace(text, value, f"[{name.upper()}]")
    return text


def _counts(value: str) -> bool:
    """The scalar twin of :func:`long_enough`."""
    return len(value) >= MIN_CHARACTERS or (len(value) == MIN_CHARACTERS - 1 and bool(_UNSPACED.search(value)))
