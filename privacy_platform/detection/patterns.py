"""Patterns of personal data in values: one table for the scrubbing technique and for the output leak scan.

Contract: a value is scanned in linear time. Two combined Rust regexes find the few rows that may hold
something; only those rows are looked at pattern by pattern, and only candidates of a pattern with a check
digit are checked in Python. Results depend on the single value, never on its neighbours.

Precision matters as much as recall, because a hit stops a publication: plain integers, prices, ISO
timestamps, UUIDs, hex digests, tokens and user agents are not hits. A number is a phone number only if it is
written as one.

To add evidence of another sort (names, dictionaries), add a :class:`Pattern` to :data:`PATTERNS`, or scan
beside this module: nothing here knows about columns.
"""

import ipaddress
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

import polars as pl

__all__ = [
    "PATTERNS",
    "Pattern",
    "contains_any_series",
    "contains_any_text",
    "find",
    "scrub_series",
]


@dataclass(frozen=True)
class Pattern:
    """One sort of personal data, as it looks in text.

    Attributes:
        name: What it is, e.g. ``email``; used in reports.
        core: The value itself, in the common subset of Rust's and Python's regex syntax, without captures.
        replacement: What scrubbing writes in its place.
        before: Inside of a character class: a hit never follows one of these characters.
        after: Inside of a character class: a hit is never followed by one of these, nor by a full stop and a
            letter or digit.
        also_after: More (Rust) regex alternatives of what may come before a hit; only without ``measure``.
        hint: A cheap regex that every hit matches, for patterns too costly to join with the others.
        measure: For sorts with a check digit or grammar: the number of leading characters of a candidate that
            truly are one, 0 when it is none. ``None`` when the regex decides alone.
    """

    name: str
    core: str
    replacement: str
    before: str = r"\w"
    after: str = r"\w"
    also_after: str = ""
    hint: str = ""
    measure: Callable[[str], int] | None = None

    @cached_property
    def regex(self) -> str:
        """The Rust regex with boundaries; groups ``b`` and ``a`` hold what surrounds the hit."""
        also = f"|{self.also_after}" if self.also_after else ""
        return f"(?P<b>^|[^{self.before}]{also})(?:{self.core})(?P<a>$|[^.{self.after}]|\\.(?:$|[^0-9A-Za-z]))"

    @cached_property
    def prefilter(self) -> str:
        """The same regex without named groups."""
        return self.regex.replace("?P<b>", "?:").replace("?P<a>", "?:")

    @cached_property
    def superset(self) -> str:
        """A regex that every hit matches, cheap when joined with others.

        ASCII boundaries: a set of Unicode classes overflows the automaton's cache and costs a hundredfold.
        """
        return self.hint or self.prefilter.replace(r"[^\w", "[^0-9A-Za-z_").replace(r"[^.\w", "[^.0-9A-Za-z_")

    @cached_property
    def _candidate(self) -> re.Pattern[str]:
        return re.compile(f"(?<![{self.before}])(?:{self.core})(?![{self.after}]|\\.[0-9A-Za-z])")

    def spans(self, text: str) -> list[tuple[int, int]]:
        """Where a pattern with a ``measure`` truly occurs in one text (for the few candidate rows)."""
        measure = self.measure or len
        found: list[tuple[int, int]] = []
        at = 0
        while match := self._candidate.search(text, at):
            length = measure(match.group())
            if length:
                at = match.start() + length
                found.append((match.start(), at))
            else:  # a candidate may hide a true one that starts inside it
                at = match.start() + 1
        return found

    def scrub_text(self, text: str) -> str:
        """One text with every true occurrence replaced."""
        for start, end in reversed(self.spans(text)):
            text = text[:start] + self.replacement + text[end:]
        return text

    def occurs_in(self, text: str) -> bool:
        """Whether it truly occurs in one text."""
        return bool(self.spans(text))


# ---------------------------------------------------------------- second steps: check digits and grammars
_CARD_ISSUERS = re.compile(
    r"4(?:\d{12}|\d{15}|\d{18})"  # Visa
    r"|5[1-5]\d{14}|2(?:22[1-9]|2[3-9]\d|[3-6]\d\d|7[01]\d|720)\d{12}"  # Mastercard
    r"|3[47]\d{13}|3(?:0[0-5]|[68]\d)\d{11}|35(?:2[89]|[3-8]\d)\d{12}"  # Amex, Diners, JCB
    r"|6(?:011|4[4-9]\d|5\d\d)\d{12}|62\d{14,17}"  # Discover, UnionPay
    r"|(?:50|5[6-8]|6[37])\d{11,17}"  # Maestro
)


def _card(candidate: str) -> int:
    """Known issuer range and Luhn check digit (ISO/IEC 7812-1)."""
    digits = re.sub(r"[^0-9]", "", candidate)
    if not _CARD_ISSUERS.fullmatch(digits):
        return 0
    total = 0
    for position, digit in enumerate(reversed(digits)):
        value = int(digit) * (1 + position % 2)
        total += value - 9 if value > 9 else value
    return len(candidate) if total % 10 == 0 else 0


_IBAN_TABLE = """
    AD24 AE23 AL28 AT20 AZ28 BA20 BE16 BG22 BH22 BR29 BY28 CH21 CR22 CY28 CZ24 DE22 DK18 DO28 EE20 EG29
    ES24 FI18 FO18 FR27 GB22 GE22 GI23 GL18 GR27 GT28 HR21 HU28 IE22 IL23 IQ23 IS26 IT27 JO30 KW30 KZ20
    LB28 LC32 LI21 LT20 LU20 LV21 LY25 MC27 MD24 ME22 MK19 MR27 MT31 MU30 NL18 NO15 PK24 PL28 PS29 PT25
    QA29 RO24 RS22 SA24 SC31 SD18 SE24 SI19 SK24 SM27 ST25 SV28 TL23 TN24 TR26 UA29 VA22 VG24 XK20
"""
_IBAN_LENGTHS = {entry[:2]: int(entry[2:]) for entry in _IBAN_TABLE.split()}


def _iban(candidate: str) -> int:
    """The country's length and check digits modulo 97 (ISO 13616); a candidate may run on into more words."""
    wanted = _IBAN_LENGTHS.get(candidate[:2], 0)
    letters = [(position, character) for position, character in enumerate(candidate) if character != " "]
    if not wanted or len(letters) < wanted:
        return 0
    kept = "".join(character for _, character in letters[:wanted])
    end = letters[wanted - 1][0] + 1
    if candidate[end : end + 1].isalnum():
        return 0
    number = "".join(str(int(character, 36)) for character in kept[4:] + kept[:4])
    return end if int(number) % 97 == 1 else 0


def _ipv6(candidate: str) -> int:
    """A full or compressed address of at least three groups (``a::b`` is code, not an address)."""
    groups = [group for group in candidate.split(":") if group]
    if len(groups) < 3 and not (groups and re.fullmatch(r"[23f][0-9a-fA-F]{3}|[fF][0-9a-fA-F]{3}", groups[0])):
        return 0
    try:
        ipaddress.IPv6Address(candidate)
    except ValueError:
        return 0
    return len(candidate)


def _es_dni(candidate: str) -> int:
    """Control letter modulo 23."""
    number = int(candidate[:8]) if candidate[0].isdigit() else int(str("XYZ".index(candidate[0])) + candidate[1:8])
    return len(candidate) if "TRWAGMYFPDXBNJZSQVHLCKE"[number % 23] == candidate[-1] else 0


def _fr_nir(candidate: str) -> int:
    """Control number modulo 97."""
    digits = candidate.replace(" ", "")
    return len(candidate) if 97 - int(digits[:13]) % 97 == int(digits[13:]) else 0


# ---------------------------------------------------------------- the table
_OCTET = r"(?:25[0-5]|2[0-4][0-9]|1[0-9]{2}|[1-9]?[0-9])"
_OCTET_NOT_0 = r"(?:25[0-5]|2[0-4][0-9]|1[0-9]{2}|[1-9][0-9]?)"
_HEX4 = r"[0-9A-Fa-f]{1,4}"
_GAP = "(?:[ .\u00a0\u2010-\u2013-]|%20|\\+)"
_OPEN, _CLOSE = r"(?:\(|%28)", r"(?:\)|%29)"

_PHONE = "|".join(
    (
        r"(?:\+|%2B)[1-9](?:[ .()/\u00a0\u2010-\u2013-]{0,3}[0-9]){7,14}",  # +44 20 7946 0123, +16195550123
        r"00[1-9][0-9]{0,2}(?:[ .()/-]{1,2}[0-9]{2,5}){3,6}",  # 0044 20 7946 0123
        f"(?:1{_GAP})?{_OPEN}[2-9][0-9]{{2}}{_CLOSE}{_GAP}?[0-9]{{3}}{_GAP}[0-9]{{4}}",  # (619) 555-0123
        f"(?:1{_GAP})?[2-9][0-9]{{2}}(?:{_GAP}|/)[0-9]{{3}}{_GAP}[0-9]{{4}}",  # 619-555-0123, 1.619.555.0123
        r"0[1-9](?:[ .-][0-9]{2}){4}",  # 01 23 45 67 89
        r"\(?0[0-9]{2,4}\)?[ -][0-9]{3,4}[ -][0-9]{3,4}",  # 020 7946 0123
    )
)

PATTERNS: tuple[Pattern, ...] = (
    Pattern("iban", r"[A-Z]{2}[0-9]{2}(?: ?[A-Z0-9]){11,30}", "[IBAN]", before=r"\w-", after=r"\w-", measure=_iban),
    Pattern(
        "credit_card",
        r"[2-6][0-9]{12,18}"
        r"|[2-6][0-9]{3}(?:[ .-][0-9]{4}){3}"
        r"|3[47][0-9]{2}[ .-][0-9]{6}[ .-][0-9]{5}"
        r"|3[0689][0-9]{2}[ .-][0-9]{6}[ .-][0-9]{4}",
        "[CREDIT_CARD]",
        before=r"\w.-",
        after=r"\w-",
        measure=_card,
    ),
    # The second label form keeps image names such as logo@2x.png out.
    Pattern(
        "email",
        r"[\w.+'%-]*[\w+-](?:@|%(?:25)?40)"
        r"(?:(?:[^\W\d_][\w-]*|[0-9][\w-]{2,}|[0-9][0-9A-WYZa-wyz_-]|[0-9])\.)+[^\W\d_]{2,24}",
        "[EMAIL]",
        hint=r"@|%(?:25)?40",
    ),
    Pattern(
        "mac_address",
        r"(?:[0-9A-Fa-f]{2}:){5}[0-9A-Fa-f]{2}|(?:[0-9A-Fa-f]{2}-){5}[0-9A-Fa-f]{2}",
        "[MAC]",
        before=r"\w:-",
        after=r"\w:-",
    ),
    Pattern(
        "ipv6",
        f"(?:{_HEX4}:){{7}}{_HEX4}|(?:{_HEX4}:){{1,7}}(?::{_HEX4}){{1,6}}|(?:{_HEX4}:){{2,7}}:|::(?:{_HEX4}:){{1,6}}{_HEX4}",
        "[IP]",
        before=r"\w:",
        after=r"\w:",
        measure=_ipv6,
    ),
    # x.0.0.0 names a network or a frozen browser version (Chrome/120.0.0.0), never a person's machine.
    Pattern(
        "ipv4",
        rf"{_OCTET}\.(?:{_OCTET}\.{_OCTET}\.{_OCTET_NOT_0}|{_OCTET}\.{_OCTET_NOT_0}\.0|{_OCTET_NOT_0}\.0\.0)",
        "[IP]",
        before=r"\w.",
        after=r"\w",
    ),
    Pattern(
        "us_ssn",
        r"(?:00[1-9]|0[1-9][0-9]|[1-9][0-9]{2})-(?:0[1-9]|[1-9][0-9])-(?:000[1-9]|00[1-9][0-9]|0[1-9][0-9]{2}|[1-9][0-9]{3})",
        "[SSN]",
        before=r"\w.-",
        after=r"\w-",
    ),
    Pattern("br_cpf", r"[0-9]{3}\.[0-9]{3}\.[0-9]{3}-[0-9]{2}", "[NATIONAL_ID]", before=r"\w.-", after=r"\w-"),
    Pattern(
        "uk_nino",
        r"[A-CEGHJ-PR-TW-Z][A-CEGHJ-NPR-TW-Z] ?[0-9]{2} ?[0-9]{2} ?[0-9]{2} ?[A-D]",
        "[NATIONAL_ID]",
        before=r"\w-",
        after=r"\w-",
    ),
    Pattern(
        "it_codice_fiscale",
        r"[A-Z]{6}[0-9]{2}[A-EHLMPRST][0-9]{2}[A-Z][0-9]{3}[A-Z]",
        "[NATIONAL_ID]",
        before=r"\w-",
        after=r"\w-",
    ),
    Pattern(
        "es_dni",
        r"(?:[0-9]{8}|[XYZ][0-9]{7})-?[A-Z]",
        "[NATIONAL_ID]",
        before=r"\w-",
        after=r"\w-",
        measure=_es_dni,
    ),
    Pattern(
        "fr_nir",
        r"[12] ?[0-9]{2} ?(?:0[1-9]|1[0-2]) ?[0-9]{2} ?[0-9]{3} ?[0-9]{3} ?[0-9]{2}",
        "[NATIONAL_ID]",
        before=r"\w.-",
        after=r"\w-",
        measure=_fr_nir,
    ),
    Pattern(
        "phone",
        f"(?:{_PHONE})(?: ?(?:x|ext\\.?) ?[0-9]{{1,6}})?",
        "[PHONE]",
        before=r"\w+-",
        after=r"\w-",
        also_after="[A-Za-z]-|=-",
    ),
)

_HINTS = "|".join(pattern.superset for pattern in PATTERNS if pattern.hint)
_SUPERSETS = "|".join(pattern.superset for pattern in PATTERNS if not pattern.hint)
_DECIDED = tuple(pattern for pattern in PATTERNS if pattern.measure is None)
_MEASURED = tuple(pattern for pattern in PATTERNS if pattern.measure is not None)


def _hits(texts: pl.Series) -> pl.Series:
    """Positions of the rows that may hold something."""
    return (texts.str.contains(_HINTS) | texts.str.contains(_SUPERSETS)).fill_null(False).arg_true()


def contains_any_series(texts: pl.Series) -> pl.Series:
    """Whether each text holds any pattern: a boolean series, false for null."""
    rows = _hits(texts)
    found = pl.repeat(False, len(texts), dtype=pl.Boolean, eager=True).alias(texts.name)
    if rows.is_empty():
        return found
    candidates = texts.gather(rows)
    sure = pl.repeat(False, len(candidates), dtype=pl.Boolean, eager=True)
    for pattern in _DECIDED:
        sure |= candidates.str.contains(pattern.prefilter)
    open_texts = candidates.filter(~sure).to_list()
    checked = [any(pattern.occurs_in(text) for pattern in _MEASURED) for text in open_texts]
    sure = sure.scatter((~sure).arg_true(), checked) if checked else sure
    return found.scatter(rows, sure)


def contains_any_text(text: str) -> bool:
    """Whether one text holds any pattern."""
    return any(pattern.occurs_in(text) for pattern in PATTERNS)


def find(texts: pl.Series, patterns: Sequence[Pattern] = PATTERNS) -> dict[str, int]:
    """Count the rows that hold each pattern.

    Args:
        texts: A string series.
        patterns: What to look for; all by default.

    Returns:
        Number of rows by pattern name, patterns without a hit left out. Counts only, never values.
    """
    candidates = texts.gather(_hits(texts))
    counts: dict[str, int] = {}
    if candidates.is_empty():
        return counts
    for pattern in patterns:
        hit = candidates.filter(candidates.str.contains(pattern.prefilter))
        rows = len(hit) if pattern.measure is None else sum(map(pattern.occurs_in, hit.to_list()))
        if rows:
            counts[pattern.name] = rows
    return counts


def scrub_series(texts: pl.Series) -> pl.Series:
    """Replace every pattern in every text by its placeholder; null stays null."""
    rows = _hits(texts)
    if rows.is_empty():
        return texts
    candidates = texts.gather(rows)
    for pattern in PATTERNS:
        found = candidates.str.contains(pattern.prefilter)
        if not found.any():
            continue
        if pattern.measure is not None:
            at = found.arg_true()
            candidates = candidates.scatter(at, [pattern.scrub_text(text) for text in candidates.gather(at)])
        else:
            # Twice: two hits with one character between them share a boundary that a match consumes.
            for _ in range(2):
                candidates = candidates.str.replace_all(pattern.regex, f"${{b}}{pattern.replacement}${{a}}")
    return texts.clone().scatter(rows, candidates)
