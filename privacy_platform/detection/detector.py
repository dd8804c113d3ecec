"""What each column of a table is: name path, value path and the rest of the table, weighed and explained.

Contract: :func:`detect` is a pure function of a :class:`Table`. First every column is scored by itself
(:mod:`.scoring`); from these scores follows how much the table is about people, each column left out in turn; then
types that are personal only in company (a city, a bare `name` or `id`, an income) are settled. What occurs rarely but
beyond doubt (three card numbers among a million notes) is not averaged away: it sets the sensitivity by its worst.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from operator import mul

from privacy_platform.detection.calibration import calibrated, sure_of_none
from privacy_platform.detection.explain import reasons
from privacy_platform.detection.names import NameEvidence, name_evidence
from privacy_platform.detection.scoring import PRIOR, WEIGHTS, against, name_score, support, unlisted_names
from privacy_platform.detection.types import TRAITS, Finding
from privacy_platform.detection.types import PiiType as T
from privacy_platform.detection.values import ValueEvidence, value_evidence

__all__ = ["Column", "Table", "detect"]


@dataclass(frozen=True, slots=True)
class Column:
    """A column as the detector sees it.

    Attributes:
        name: Its name, or the path of a nested field (`address.city`).
        values: A fair sample of its values as text; missing ones may be left out.
        rows: Rows that were read.
        certain: Rows that hold a pattern, by the pattern's name, of all rows read (:func:`.patterns.find`).
    """

    name: str
    values: Sequence[str]
    rows: int = 0
    certain: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Table:
    """The columns of a table; its name is context."""

    name: str
    columns: Sequence[Column]


# How sure each type makes that a table is about people.
_ANCHORS: dict[T, float] = {
    T.PERSON_NAME: 0.85,
    T.EMAIL: 0.75,
    T.DATE_OF_BIRTH: 0.95,
    T.GENDER: 0.8,
    T.MARITAL_STATUS: 0.9,
    T.NATIONAL_ID: 0.9,
    T.USERNAME: 0.6,
    T.AGE: 0.55,
    T.PHONE: 0.55,
    T.STREET_ADDRESS: 0.45,
    T.CREDENTIAL: 0.6,
    T.USER_ID: 0.55,
    T.CREDIT_CARD: 0.7,
    T.PASSPORT: 0.9,
    T.DRIVERS_LICENSE: 0.9,
    T.ETHNICITY: 0.5,
    T.RELIGION: 0.5,
    T.SEXUAL_ORIENTATION: 0.8,
    T.HEALTH: 0.35,
}
# What a table without people takes from a type, and what a table about people adds.
_CONTEXT: dict[T, tuple[float, float]] = {
    T.CITY: (-4.2, 3.2),
    T.STATE: (-3.4, 3.4),
    T.COUNTRY: (-3.8, 3.0),
    T.POSTAL_CODE: (-1.5, 2.5),
    T.COORDINATES: (-4.6, 1.4),
    T.STREET_ADDRESS: (-0.8, 1.2),
    T.PHONE: (-0.5, 0.8),
    T.PERSON_NAME: (-0.6, 1.2),
    T.AGE: (-1.0, 1.5),
    T.GENDER: (-0.5, 1.2),
    T.USER_ID: (-1.0, 1.2),
    T.DATE_OF_BIRTH: (-1.0, 1.6),
    T.HEALTH: (-1.8, 2.4),
    T.ETHNICITY: (-1.6, 1.2),
    T.POLITICAL_OPINION: (-1.5, 1.0),
    T.FINANCE: (-2.2, 2.0),
    T.FREE_TEXT: (-3.0, 2.6),
    T.VEHICLE: (-1.2, 1.0),
}
# A column without others, in a table without a telling name: it may be about people. A place needs company to be.
_LONE = 0.45
_PLACES = frozenset({T.CITY, T.STATE, T.COUNTRY, T.COORDINATES})
# Organisations and products have these as well.
_THINGS_TOO = frozenset({T.PHONE, T.STREET_ADDRESS, T.GENDER, T.AGE, T.ETHNICITY})
_THINGS_COST = {
    T.PERSON_NAME: 1.5,
    T.STREET_ADDRESS: 9.0,
    T.POSTAL_CODE: 2.0,
    T.AGE: 3.0,
    T.GENDER: 5.0,
    T.HEALTH: 2.5,
    T.ETHNICITY: 1.5,
}
# What a column without any name gains among people, where its values look like it.
_NAMELESS = {T.PERSON_NAME: 1.6, T.PHONE: 1.6, T.DATE_OF_BIRTH: 1.2, T.CITY: 1.0}
_GRAVE = {
    "credit_card": T.CREDIT_CARD,
    "iban": T.BANK_ACCOUNT,
    "us_ssn": T.NATIONAL_ID,
    "br_cpf": T.NATIONAL_ID,
    "uk_nino": T.NATIONAL_ID,
    "it_codice_fiscale": T.NATIONAL_ID,
    "es_dni": T.NATIONAL_ID,
    "fr_nir": T.NATIONAL_ID,
    "email": T.EMAIL,
    "phone": T.PHONE,
}


@dataclass(slots=True)
class _Reading:
    """One column while the table is being read."""

    column: Column
    name: NameEvidence
    values: ValueEvidence
    scores: dict[T, float]


def detect(table: Table) -> list[Finding]:
    """What each column of a table is, in the table's order."""
    readings = [_read(column) for column in table.columns]
    title = name_evidence(table.name)
    things = _things(readings, title)
    people = _people(readings, title, things)
    return [_settle(r, people[i], things, readings, i) for i, r in enumerate(readings)]


def _read(column: Column) -> _Reading:
    name, values = name_evidence(column.name), value_evidence(column.values)
    scores: dict[T, float] = {
        kind: PRIOR + name_score(kind, name) + support(kind, values) - against(kind, values) for kind in WEIGHTS
    }
    _name_takes_back(scores, name, values)
    _open_names(scores, name, values)
    return _Reading(column, name, values, scores)


# What a name of a thing takes from types that values only look like: part numbers like phones.
_OF_A_THING = dict.fromkeys(
    (
        T.PERSON_NAME,
        T.USERNAME,
        T.RELIGION,
        T.NATIONAL_ID,
        T.PHONE,
    ),
    2.2,
)


def _name_takes_back(scores: dict[T, float], name: NameEvidence, values: ValueEvidence) -> None:
    """A name that says "a product's" or "verified" outweighs values that only look alike."""
    costs: list[Mapping[T, float]] = []
    if name.thing and not name.types and not name.person:
        costs.append(_OF_A_THING)
    if not (name.meaningless or name.types):  # it says something, and that is something else
        costs.append(dict.fromkeys((T.CITY, T.STATE, T.COUNTRY), 0.6 if name.unknown else 1.5))
    if not (name.meaningless or T.DATE_OF_BIRTH in name.types):
        costs.append({T.DATE_OF_BIRTH: support(T.DATE_OF_BIRTH, values)})
    if "name" in name.generic and name.qualified and not name.types:
        costs.append({T.PERSON_NAME: 1.5})
    if not values.size:
        costs.append({kind: 1.5 for kind, strength in name.types.items() if strength < 0.85})
    for cost in costs:
        for kind, taken in cost.items():
            scores[kind] -= taken


def _open_names(scores: dict[T, float], name: NameEvidence, values: ValueEvidence) -> None:
    """A bare `name`, or a word for somebody, says something only together with its values."""
    namelike = support(T.PERSON_NAME, values)
    if name.types.get(T.PERSON_NAME, 0.0) >= 0.8 and values.size and not name.thing:
        scores[T.PERSON_NAME] += max(0.0, unlisted_names(values))
    if name.generic == {"name"} and not name.thing and not name.person:
        scores[T.PERSON_NAME] += 1.8 if namelike > 0.8 else 0.6
    if name.person and not name.types and not name.thing and not name.generic and not name.negated:
        if namelike > 0.6:
            scores[T.PERSON_NAME] += 1.2 if name.public or not name.bare else 3.0
        elif not name.bare or name.counted:
            pass
        elif values.size and max(values.share(k) for k in ("integer", "uuid", "hex", "code")) > 0.8:
            many = values.distinct == values.size or (values.numbers is not None and values.numbers[1] >= 100)
            scores[T.USER_ID] += 4.2 if many else 0.0
        elif values.size and values.share("handle") > 0.7:
            scores[T.USERNAME] += 4.0


def _logistic(x: float) -> float:
    return 1 / (1 + math.exp(-max(-30.0, min(30.0, x))))


def _people(readings: Sequence[_Reading], title: NameEvidence, things: float) -> list[float]:
    """For each column, the probability that the rows are about people, judged by the other columns and the title."""
    if len(readings) == 1 and not (title.person or title.thing):
        return [_LONE]
    doubts = [1 - _anchor(reading, things) for reading in readings]
    before = [1.0, *accumulate(doubts, mul)]
    after = [1.0, *accumulate(reversed(doubts), mul)][::-1]
    animals = title.animal or any(r.name.animal for r in readings)
    prior = 0.5 if title.person and not title.thing else 1.0
    result = []
    for i in range(len(readings)):
        nobody = prior * before[i] * after[i + 1]
        if title.thing and not title.person:
            nobody = nobody**0.7
        result.append((1 - nobody) * (0.3 if animals else 1.0))
    return result


def _anchor(reading: _Reading, things: float) -> float:
    """How sure a column makes it that the table is about people."""
    guessed = frozenset({T.PERSON_NAME}) - reading.name.types.keys()
    strongest = max(
        _logistic(reading.scores[kind]) * weight * (1 - things * (kind in _THINGS_TOO | guessed))
        for kind, weight in _ANCHORS.items()
    )
    # What is unlikely of each of many columns must not add up to a likelihood.
    return strongest if strongest > 0.15 else 0.0


def _things(readings: Sequence[_Reading], title: NameEvidence) -> float:
    """How much the table is about something that is nobody: the share of such columns; most of it if one names it."""
    named = [r.name for r in readings if r.name.thing and not r.name.types and not r.name.person]
    share = (len(named) + 2 * (title.thing and not title.person)) / max(3, len(readings))
    entitled = any("name" in name.generic for name in named)
    return min(1.0, max(share, 0.75 * entitled))


def _settle(reading: _Reading, people: float, things: float, readings: Sequence[_Reading], at: int) -> Finding:
    scores, name = dict(reading.scores), reading.name
    people = max(people, 0.75 * name.own)
    for kind, (alone, among) in _CONTEXT.items():
        scores[kind] += alone + (among - alone) * (0.0 if len(readings) == 1 and kind in _PLACES else people)
    if not name.person:
        for kind, cost in _THINGS_COST.items():
            scores[kind] -= cost * things * min(1.0, 1.6 * (1 - people))
    if any(r.name.animal for r in readings) and people < 0.5:
        scores[T.GENDER] -= 3.0 * (not name.person)
    if name.meaningless and reading.values.distinct >= 4:  # it does not say that it is something else
        for kind, gain in _NAMELESS.items():
            scores[kind] += gain * max(0.0, 2 * people - 1) * (support(kind, reading.values) > 1)
    if _is_own_id(reading, people, readings, at):
        scores[T.USER_ID] += 4.0
    kind = max(scores, key=lambda k: scores[k])
    probability = calibrated(_logistic(scores[kind]))
    if probability < 0.5:
        kind = T.NONE
    return _finding(reading, kind, probability, people)


def _is_own_id(reading: _Reading, people: float, readings: Sequence[_Reading], at: int) -> bool:
    """Whether an id is the key of a table about people: the first one, distinct; bare, or the first of all columns."""
    name, values = reading.name, reading.values
    if name.types or name.thing or name.negated or people < 0.5:
        return False
    numbered = at == 0 and people > 0.8 and not name.generic.isdisjoint({"id", "number"}) and _is_code(values)
    if not name.key and not numbered:  # `case_id`, the first of all columns
        return False
    first = not any("id" in r.name.generic or T.USER_ID in r.name.types for r in readings[:at])
    keys = max(values.share(k) for k in ("integer", "code", "uuid", "hex", "handle"))
    return first and values.size > 0 and values.distinct == values.size and keys > 0.8


def _is_code(values: ValueEvidence) -> bool:
    """Whether values are codes or long numbers, and no count of rows."""
    if values.share("date") or values.share("phone") or values.share("percent"):
        return False
    return values.share("integer") < 0.5 or (values.numbers is not None and values.numbers[0] >= 1000)


def _finding(reading: _Reading, kind: T, probability: float, people: float) -> Finding:
    column = reading.column
    grave = _grave(reading, kind)
    sensitivity = TRAITS[kind].sensitivity
    if kind is T.CREDIT_CARD and reading.values.share("card_masked") > 0.9:  # PCI DSS 3.4: the last four may be shown
        sensitivity = "medium"
    if grave and kind in (T.NONE, T.FREE_TEXT):
        kind, probability = T.FREE_TEXT, max(probability, 0.95)
        worst = [TRAITS[_GRAVE[name]].sensitivity for name in grave]
        sensitivity = "high" if "high" in worst else "medium"
    name = reading.name
    understood = not (name.unknown or name.qualified)
    confidence = probability if kind is not T.NONE else sure_of_none(probability, understood=understood)
    return Finding(
        name=column.name,
        type=kind,
        sensitivity=sensitivity,
        confidence=round(confidence, 3),
        evidence=reasons(column.rows, reading.name, reading.values, kind, people, grave),
        technique=TRAITS[kind].technique,
    )


def _grave(reading: _Reading, kind: T) -> dict[str, int]:
    """Rare hits that are beyond doubt; a column of bare numbers or codes has them by chance."""
    if kind not in (T.NONE, T.FREE_TEXT):
        return {}
    values = reading.values
    machine = max(values.share(k) for k in ("number", "uuid", "hex", "hash", "code", "date", "url", "ip"))
    if machine > 0.9 and not (values.share("url") > 0.9):
        return {}
    return {name: count for name, count in reading.column.certain.items() if name in _GRAVE and count}
