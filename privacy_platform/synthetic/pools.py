"""The pools values are drawn from: names by locale (Faker), cities with their postcodes, phone numbers.

Built once in a process and independent of the seed of a run, so that a seed only decides who gets what.
"""

import csv
import random
import re
import unicodedata
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

import numpy as np
import polars as pl
from faker import Faker

from privacy_platform.synthetic.draw import F64, I64, cumulative

FIRST_BLOCK = 256
"""First names per (locale, sex); drawn with Faker's frequencies, so names repeat as they do in life."""
LAST_BLOCK = 640
"""Last names per locale."""
PHONE_FORMATS = 8
"""Ways to write a number, per city."""

LOCALES = (
    "en_US", "en_GB", "en_CA", "en_AU", "de_DE", "fr_FR", "fr_CA", "es_ES", "es_MX", "it_IT", "pt_BR",
    "pl_PL", "el_GR", "ja_JP",
)  # fmt: skip
_US_MIX = {"en_US": 78, "es_MX": 11, "de_DE": 2, "fr_FR": 2, "it_IT": 3, "pl_PL": 2, "ja_JP": 2}
_GREEK = dict(
    zip(
        "αβγδεζηθικλμνξοπρσςτυφχψω",
        (*"avgdezi", "th", *"iklmnxoprsstyf", "ch", "ps", "o"),
        strict=True,
    )
)
_LETTERS = str.maketrans({**_GREEK, "ß": "ss", "ø": "o", "ł": "l", "æ": "ae", "œ": "oe", "đ": "d", "ı": "i"})


@dataclass(frozen=True, slots=True)
class Names:
    """Names and what they look like in an e-mail address.

    ``first`` is laid out as [locale][female, male][FIRST_BLOCK] and ``last`` as [locale][LAST_BLOCK]; the
    ``*_key`` arrays number the distinct ASCII spellings.
    """

    first: pl.Series
    last: pl.Series
    first_ascii: pl.Series
    last_ascii: pl.Series
    first_key: I64
    last_key: I64


@dataclass(frozen=True, slots=True)
class Cities:
    """Every city that can be drawn; parallel columns, one entry a city."""

    city: pl.Series
    state: pl.Series
    weights: F64
    locale_mix: F64
    postcodes: pl.Series
    postcode_start: I64
    postcode_count: I64
    phone_prefix: pl.Series
    phone_tail: I64
    tails: pl.Series
    tail_start: I64
    tail_count: I64


def ascii_fold(name: str) -> str:
    """Lower-case ASCII letters of a name; empty for scripts without a transliteration here."""
    plain = unicodedata.normalize("NFKD", name.casefold())
    stripped = "".join(c for c in plain if not unicodedata.combining(c)).translate(_LETTERS)
    return re.sub(r"[^a-z]", "", stripped)


def _draw_names(locale: str) -> tuple[list[tuple[str, str]], list[tuple[str, str]]]:
    """(name, ASCII spelling) of first names, women then men, and of last names."""
    fake = Faker(locale)
    fake.seed_instance(f"privacy-platform/{locale}")
    if locale == "ja_JP":  # pairs of (kanji, kana, romaji)
        draws = [*[fake.first_name_female_pair] * FIRST_BLOCK, *[fake.first_name_male_pair] * FIRST_BLOCK]
        first = [(pair[0], ascii_fold(pair[2])) for pair in (draw() for draw in draws)]
        last = [(pair[0], ascii_fold(pair[2])) for pair in (fake.last_name_pair() for _ in range(LAST_BLOCK))]
        return first, last
    given = [fake.first_name_female() for _ in range(FIRST_BLOCK)]
    given += [fake.first_name_male() for _ in range(FIRST_BLOCK)]
    family = [fake.last_name() for _ in range(LAST_BLOCK)]
    return [(n, ascii_fold(n) or "member") for n in given], [(n, ascii_fold(n) or "member") for n in family]


@cache
def names() -> Names:
    """The name pools of all locales."""
    first: list[tuple[str, str]] = []
    last: list[tuple[str, str]] = []
    for locale in LOCALES:
        given, family = _draw_names(locale)
        first += given
        last += family
    return Names(
        first=pl.Series([n for n, _ in first]),
        last=pl.Series([n for n, _ in last]),
        first_ascii=pl.Series([a for _, a in first]),
        last_ascii=pl.Series([a for _, a in last]),
        first_key=_number([a for _, a in first]),
        last_key=_number([a for _, a in last]),
    )


def _number(texts: list[str]) -> I64:
    ids: dict[str, int] = {}
    return np.array([ids.setdefault(text, len(ids)) for text in texts], dtype=np.int64)


def _expand_postcodes(spec: str, rng: random.Random, most: int = 48) -> list[str]:
    """Postcodes of ``92101-92103;92110`` (ranges) or ``SW1A #@@`` (# a digit, @ a letter)."""
    codes: list[str] = []
    for part in spec.split(";"):
        if "#" in part or "@" in part:
            for _ in range(8):
                digits = re.sub("#", lambda _: rng.choice("0123456789"), part)
                codes.append(re.sub("@", lambda _: rng.choice("ABDEFGHJLNPQRSTUWXYZ"), digits))
        else:
            low, _, high = part.partition("-")
            codes += [f"{n:0{len(low)}d}" for n in range(int(low), int(high or low) + 1)]
    unique = sorted(set(codes))
    return unique if len(unique) <= most else sorted(rng.sample(unique, most))


def _phone_formats(pattern: str) -> list[tuple[str, int]]:
    """(prefix, kind of tail) of the ways to write the numbers of a city."""
    prefix = pattern[: pattern.index("#")]
    tail = {"####": 0, "## ##": 1, "###": 2}[pattern[len(prefix) :]]
    if found := re.fullmatch(r"\+1 (\d{3})-555-", prefix):
        a = found[1]
        shapes = (
            f"+1-{a}-555-", f"({a}) 555-", f"{a}.555.", f"{a}-555-",
            f"+1 {a} 555 ", f"{a}555", f"+1{a}555", f"+1 ({a}) 555-",
        )  # fmt: skip
        return [(shape, 0) for shape in shapes]
    compact = (re.sub(r"[ -]", "", prefix), 2 if tail == 2 else 0)
    return [(prefix, tail)] * (PHONE_FORMATS - 2) + [compact] * 2


def _mix(country: str, locale: str) -> F64:
    weights = np.zeros(len(LOCALES))
    shares = _US_MIX if country == "United States" else {locale: 92, "en_US": 8}
    for name, share in shares.items():
        weights[LOCALES.index(name)] += share
    return cumulative(weights)


@cache
def cities() -> Cities:
    """The packaged table of cities."""
    text = files("privacy_platform.synthetic").joinpath("cities.csv").read_text(encoding="utf-8")
    rows = list(csv.DictReader(text.splitlines()))
    rng = random.Random("privacy-platform/postcodes")  # noqa: S311 - not a secret
    codes = [_expand_postcodes(row["postcodes"], rng) for row in rows]
    counts = np.array([len(c) for c in codes], dtype=np.int64)
    phones = [shape for row in rows for shape in _phone_formats(row["phone"])]
    four = [f"{n:04d}" for n in range(10_000)]
    return Cities(
        city=pl.Series([row["city"] for row in rows]),
        state=pl.Series([row["state"] for row in rows]),
        weights=cumulative([float(row["weight"]) for row in rows]),
        locale_mix=np.vstack([_mix(row["country"], row["locale"]) for row in rows]),
        postcodes=pl.Series([code for group in codes for code in group]),
        postcode_start=np.cumsum(counts) - counts,
        postcode_count=counts,
        phone_prefix=pl.Series([prefix for prefix, _ in phones]),
        phone_tail=np.array([tail for _, tail in phones], dtype=np.int64),
        tails=pl.Series([*four, *[f"{n[:2]} {n[2:]}" for n in four], *[f"{n:03d}" for n in range(1000)]]),
        tail_start=np.array([0, 10_000, 20_000]),
        tail_count=np.array([10_000, 10_000, 1_000]),
    )
