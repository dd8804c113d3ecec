"""The name path: what the words of a column's name say, in many languages.

Contract: whole words only. A name is cut at case changes, digits, punctuation and, where it is written without any
(`dateofbirth`, 出生日期), into known words; never is a part of an unknown word taken for a word (`scenario_code`,
`description` and `curriculum` say nothing). A word for personal data is taken back by what follows it
(`email_verified`, `phone_type`) or comes before it (`is_phone`, `zip_file`), and a bare `name` or `id` is left open for
the table to decide.
"""

import math
import re
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

import yaml

from privacy_platform.detection.text import normal
from privacy_platform.detection.types import PiiType

__all__ = ["NameEvidence", "name_evidence", "words_of"]

_LEXICON = Path(__file__).resolve().parent / "data" / "lexicon.yaml"
_CAMEL = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")
_SPLIT = re.compile(r"[\W_]+", re.UNICODE)
_DIGITS = re.compile(r"(?<=[^\W\d_])(?=\d)|(?<=\d)(?=[^\W\d_])")
_CJK = re.compile("[\u3040-\u30ff\u4e00-\u9fff\uac00-\ud7a3]")
_INITIALS = re.compile(r"\b(?:[^\W\d_]\.){2,}(?:[^\W\d_]\b)?")  # D.O.B., C.P.F.
_NUMERO = re.compile(r"[nN]\s?[°º]|№|#")
_LONGEST_PHRASE = 5
# What somebody is, in a few codes: `gender_desc` and `is_smoker` are the value, `email_type` and `is_email` are not.
_STATES = frozenset(
    {
        PiiType.GENDER,
        PiiType.MARITAL_STATUS,
        PiiType.HEALTH,
        PiiType.ETHNICITY,
        PiiType.RELIGION,
        PiiType.POLITICAL_OPINION,
        PiiType.SEXUAL_ORIENTATION,
    }
)
_OF_A_STATE = frozenset(
    {"is", "has", "was", "desc", "description", "type", "kind", "category", "group", "label", "flag"}
)
# `address_id` is a key into another table.
_NOT_AS_ID = frozenset({PiiType.STREET_ADDRESS, PiiType.CREDIT_CARD, PiiType.PHONE})


@dataclass(frozen=True, slots=True)
class NameEvidence:
    """What a name says.

    Attributes:
        types: Strength, 0 to 1, by type.
        person: It names somebody (``customer``, ``author``).
        public: Somebody who is named with their work (``composer``).
        thing: It names something that is nobody.
        generic: Bare words that take their meaning from the table: ``name``, ``id``, ``date``.
        negated: It is about personal data but is none (``email_verified``).
        unknown: No word of it is known, or there is none: it says nothing.
        word: The words the strongest type rests on.
        bare: It has no other words than those for somebody.
        counted: It names many of somebody (``followers``): if numbers, then how many.
        animal: It is about animals or specimens.
        own: It says where somebody lives (``billing``, ``home``).
        key: It is a bare id.
        qualified: It has an unknown word of some length (``storm_name``).
        meaningless: It says nothing at all: ``c7``, ``Unnamed: 3``.
    """

    types: dict[PiiType, float] = field(default_factory=dict)
    person: bool = False
    public: bool = False
    thing: bool = False
    generic: frozenset[str] = frozenset()
    negated: bool = False
    unknown: bool = True
    word: str = ""
    bare: bool = False
    counted: bool = False
    animal: bool = False
    own: bool = False
    key: bool = False
    meaningless: bool = False
    qualified: bool = False


@dataclass(frozen=True, slots=True)
class _Lexicon:
    types: dict[tuple[str, ...], list[tuple[PiiType, bool]]]
    generic: dict[tuple[str, ...], str]
    person: frozenset[tuple[str, ...]]
    public: frozenset[tuple[str, ...]]
    thing: frozenset[tuple[str, ...]]
    after: frozenset[tuple[str, ...]]
    before: frozenset[tuple[str, ...]]
    neutral: frozenset[tuple[str, ...]]
    animal: frozenset[tuple[str, ...]]
    own: frozenset[tuple[str, ...]]
    question: frozenset[tuple[str, ...]]
    filler: frozenset[tuple[str, ...]]
    placeholder: frozenset[tuple[str, ...]]
    vocabulary: frozenset[str]


@lru_cache(maxsize=1)
def _lexicon() -> _Lexicon:
    document: dict[str, Any] = yaml.safe_load(_LEXICON.read_text(encoding="utf-8"))

    def phrases(text: str) -> frozenset[tuple[str, ...]]:
        return frozenset(tuple(p for p in _SPLIT.split(normal(entry)) if p) for entry in text.split())

    types: dict[tuple[str, ...], list[tuple[PiiType, bool]]] = {}
    for name, parts in document["types"].items():
        for origin, english in (("en", True), ("more", False)):
            for phrase in phrases(parts.get(origin, "")):
                types.setdefault(phrase, []).append((PiiType(name), english))
    generic = {
        phrase: kind
        for kind, parts in document["generic"].items()
        for origin in ("en", "more")
        for phrase in phrases(parts[origin])
    }
    person, public, thing = (phrases(document[key]) for key in ("person", "public_person", "thing"))
    after, before = phrases(document["not_data"]["after"]), phrases(document["not_data"]["before"])
    neutral, animal, own = (phrases(document[key]) for key in ("neutral", "animal", "own"))
    question, filler, placeholder = (phrases(document[key]) for key in ("question", "filler", "placeholder"))
    known = [*types, *generic, *person, *public, *thing, *after, *before, *neutral, *animal, *own]
    vocabulary = frozenset(word for phrase in known for word in phrase if len(word) > 1 or not word.isascii())
    return _Lexicon(
        types,
        generic,
        person,
        public,
        thing,
        after,
        before,
        neutral,
        animal,
        own,
        question,
        filler,
        placeholder,
        vocabulary,
    )


def _segmented(word: str, vocabulary: frozenset[str]) -> list[str]:
    """A word written together as its known words, if it is nothing but those; the fewest words win."""
    if word in vocabulary or len(word) > 40:
        return [word]
    shortest = 3 if word.isascii() else 1
    best: list[list[str] | None] = [[]] + [None] * len(word)
    for end in range(1, len(word) + 1):
        for begin in range(max(0, end - 20), end):
            head, part = best[begin], word[begin:end]
            if (
                head is None
                or part not in vocabulary
                or part == "age"
                or (len(part) < shortest and part not in ("id", "no", "ip", "is"))
            ):
                continue
            candidate = [*head, part]
            current = best[end]
            if current is None or len(candidate) < len(current):
                best[end] = candidate
    found = best[len(word)]
    if found and len(found) <= 4:
        return found
    return _head_last(word, vocabulary) if _CJK.search(word) else [word]


def _head_last(word: str, vocabulary: frozenset[str]) -> list[str]:
    """A Chinese, Japanese or Korean word, which has no blanks: its longest known end, and what comes before."""
    cut = next((at for at in range(1, len(word) - 1) if word[at:] in vocabulary), 0)
    return [word[:cut], word[cut:]] if cut else [word]


@lru_cache(maxsize=65536)
def words_of(name: str) -> tuple[str, ...]:
    """The words of a name, in normal form."""
    vocabulary = _lexicon().vocabulary
    words: list[str] = []
    name = _INITIALS.sub(lambda match: match[0].replace(".", ""), _NUMERO.sub(" no ", name))
    for rough in _SPLIT.split(name.strip()):
        for part in _CAMEL.split(rough):
            whole = normal(part)
            if whole in vocabulary:
                words.append(whole)
                continue
            for piece in _DIGITS.split(whole):
                singular = piece[:-1] if len(piece) > 3 and piece.endswith("s") else piece
                words.extend([singular] if singular in vocabulary else _segmented(piece, vocabulary))
    return tuple(word for word in words if word)


# First word, the word after the last, and the types it says (each with whether in English).
_Hit = tuple[int, int, list[tuple[PiiType, bool]]]


@dataclass(slots=True)
class _Reading:
    """The state of reading a name from left to right."""

    hits: list[_Hit] = field(default_factory=list)
    roles: list[str] = field(default_factory=list)  # one a word: type, person, thing, generic, unknown …


def _read(words: tuple[str, ...]) -> _Reading:
    lexicon, reading, at = _lexicon(), _Reading(), 0
    while at < len(words):
        for length in range(min(_LONGEST_PHRASE, len(words) - at), 0, -1):
            phrase = words[at : at + length]
            if phrase in lexicon.types:
                reading.hits.append((at, at + length, lexicon.types[phrase]))
                reading.roles += ["type"] * length
                break
            role = _role(phrase, lexicon)
            if role:
                reading.roles += [role] * length
                break
        else:
            length = 1
            reading.roles.append("unknown")
        at += length
    return reading


def _role(phrase: tuple[str, ...], lexicon: _Lexicon) -> str:
    if phrase in lexicon.generic:
        return lexicon.generic[phrase]
    for role in ("animal", "public", "person", "thing"):
        if phrase in getattr(lexicon, role):
            return role
    if phrase in lexicon.neutral or phrase in lexicon.own or phrase in lexicon.after or phrase in lexicon.before:
        return "other"
    return ""


@lru_cache(maxsize=65536)
def name_evidence(name: str) -> NameEvidence:
    """What the name of a column or table says."""
    words = words_of(name)
    if not words:
        return NameEvidence()
    lexicon = _lexicon()
    asked = any((word,) in lexicon.question for word in words)
    if asked:
        words = tuple(word for word in words if (word,) not in lexicon.question | lexicon.filler) or words
    reading = _read(words)
    roles = reading.roles
    types: dict[PiiType, float] = {}
    negated, word = False, ""
    for hit in reading.hits:
        if _taken_back(words, hit):
            negated = True
            continue
        strength = _strength(words, roles, hit)
        for kind, _ in hit[2]:
            if strength > types.get(kind, 0.0):
                types[kind] = strength
                word = " ".join(words[hit[0] : hit[1]]) if strength >= max(types.values()) else word
    if negated:
        types = {kind: strength * 0.3 for kind, strength in types.items()}
    elif not types:
        types, word = _of_somebody(words, roles)
    return NameEvidence(
        types=types,
        person=asked or "person" in roles or "public" in roles,
        public="public" in roles,
        thing="thing" in roles or "animal" in roles,
        animal="animal" in roles,
        own=asked or any((word,) in lexicon.own for word in words),
        key="id" in roles and all(role in ("id", "number", "person") for role in roles),
        qualified=any(role == "unknown" and len(word) > 2 for word, role in zip(words, roles, strict=True)),
        meaningless=all(word.isdigit() or (word,) in lexicon.placeholder for word in words),
        bare=all(r in ("person", "public") or (w,) in lexicon.neutral for w, r in zip(words, roles, strict=True)),
        counted=any(r == "person" and (w[:-1],) in lexicon.person for w, r in zip(words, roles, strict=True)),
        generic=frozenset(role for role in roles if role in ("name", "id", "number", "date")),
        negated=negated,
        unknown=all(role == "unknown" or len(word) == 1 for word, role in zip(words, roles, strict=True)),
        word=word,
    )


def _taken_back(words: tuple[str, ...], hit: _Hit) -> bool:
    """Whether other words make it something about personal data: `email_verified`, `is_phone`."""
    lexicon, (begin, end, found) = _lexicon(), hit
    allowed = _OF_A_STATE if all(kind in _STATES for kind, _ in found) else frozenset()
    if any((word,) in lexicon.before and word not in allowed for word in words[:begin]):
        return True
    after = any((w,) in lexicon.after and (w,) not in lexicon.types and w not in allowed for w in words[end:])
    return after and any(english for _, english in found)


def _strength(words: tuple[str, ...], roles: list[str], hit: _Hit) -> float:
    """How outright a name says a type, by the words before and after those that say it."""
    begin, end, found = hit
    kinds = [kind for kind, _ in found]
    english = any(en for _, en in found)
    unknown = [role == "unknown" and len(word) > 1 for role, word in zip(roles, words, strict=True)]
    strength = 1 / math.sqrt(len(found))
    if english and any(unknown[end:]):
        strength *= 0.5
    if "thing" in roles[end:]:
        strength *= 0.3 if english else 0.6
    if any(unknown[:begin]):
        strength *= 0.9
    if "id" in roles and all(kind in _NOT_AS_ID for kind in kinds):
        strength *= 0.4
    if end - begin == 1 and words[begin].isascii() and len(words[begin]) <= 3:
        strength *= 0.6 if len(words[begin]) <= 2 else 0.9 if english else 0.75
        strength *= 0.5 if any(unknown) and not english else 1.0
    return strength


def _of_somebody(words: tuple[str, ...], roles: list[str]) -> tuple[dict[PiiType, float], str]:
    """A word for somebody with `name` or `id`: `customer_name`, `student no`."""
    said, counted = set(roles), (words[0],) in _lexicon().before and len(words) > 1
    if counted or "thing" in said or not said & {"person", "public"}:
        return {}, ""
    if "name" in said:
        return {PiiType.PERSON_NAME: 0.55 if "public" in said else 1.0}, " ".join(words)
    if said & {"id", "number"} and "public" not in said:
        more = sum(role not in ("person", "id", "number") for role in roles)
        return {PiiType.USER_ID: 1.0 if more <= 1 else 0.7}, " ".join(words)
    return {}, ""
