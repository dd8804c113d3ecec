"""How name and values are weighed: log-odds of each type for one column, before the table is looked at.

A type's score is a prior, plus what the name says, plus what the values say for it, minus what they say against it. The
weights are log-odds set by hand, with the errors on generated tables and on the hard columns of the tests in view;
:mod:`.calibration` turns the result into a probability that holds.
"""

from collections.abc import Callable
from dataclasses import dataclass

from privacy_platform.detection.names import NameEvidence
from privacy_platform.detection.types import PiiType as T
from privacy_platform.detection.values import ValueEvidence

__all__ = ["PRIOR", "WEIGHTS", "Weights", "against", "name_score", "support", "unlisted_names"]

PRIOR = -4.0
_UNLIKE_TEXT = ("percent", "code", "number", "date", "url", "uuid", "email", "ip", "hex", "time")
_CODES = ("integer", "code", "uuid", "hex", "handle", "hash", "domain_user", "abbreviation")


@dataclass(frozen=True, slots=True)
class Weights:
    """Weights of one type.

    Attributes:
        name: What a name that says the type outright is worth.
        kinds: What it is worth if all values are of a kind.
        fits: Kinds that do not show the type but go with its name.
        misfit: What it costs if no value is of any of these.
    """

    name: float
    kinds: dict[str, float]
    fits: tuple[str, ...] = ()
    misfit: float = 2.0


_HASHED = ("hash", "hex")
WEIGHTS: dict[T, Weights] = {
    T.PERSON_NAME: Weights(
        5.5,
        {
            "full_name": 5.5,
            "titled": 3.0,
            "comma_name": 1.0,
            "initial_name": 1.5,
            "half_name": 2.5,
            "first": 4.3,
            "last": 3.0,
            "people_list": 2.0,
        },
        _HASHED,
        2.5,
    ),
    T.USERNAME: Weights(
        5.5,
        {"handle": 0.8, "domain_user": 4.5, "at_handle": 3.6, "profile_url": 4.5},
        ("url", "code", "full_name", "first", "last", "half_name", "integer", *_HASHED),
        2.5,
    ),
    T.EMAIL: Weights(6.0, {"email": 8.0}, ("email_inside", "card_masked", *_HASHED), 5.0),
    T.PHONE: Weights(
        5.5,
        {
            "phone": 5.2,
            "phone_national": 3.6,
            "phone_shape": 1.0,
            "phone_zero": 2.4,
            "phone_mobile": 3.4,
            "phone_digits": 1.2,
        },
        ("phone_long", "card_masked", *_HASHED),
        4.0,
    ),
    T.STREET_ADDRESS: Weights(5.0, {"street": 6.0}, ("text", "worded", "code", "integer", "number"), 2.0),
    T.CITY: Weights(4.6, {"city": 2.0}, ("worded",), 4.0),
    T.STATE: Weights(4.0, {"region": 2.0}, ("worded", "abbreviation"), 4.0),
    T.POSTAL_CODE: Weights(5.0, {"postal": 2.0, "postal_weak": 0.3}, ("zip_digits", "code"), 4.0),
    T.COUNTRY: Weights(4.2, {"country": 2.0, "country_code": 0.8}, ("worded", "abbreviation"), 5.0),
    T.IP_ADDRESS: Weights(4.5, {"ip": 6.5}, _HASHED, 5.0),
    T.MAC_ADDRESS: Weights(4.5, {"mac": 6.5}, _HASHED, 6.0),
    T.DATE_OF_BIRTH: Weights(6.0, {}, ("date", "year", "yymmdd", "worded_date"), 3.5),
    T.AGE: Weights(5.5, {"age_band": 1.5}, ("age", "age_word"), 4.5),
    T.GENDER: Weights(5.5, {"closed:gender": 4.4}, ("gender_too", "flag", "worded"), 3.5),
    T.MARITAL_STATUS: Weights(5.0, {"closed:marital_status": 4.0}, ("flag", "worded", "abbreviation"), 3.0),
    T.NATIONAL_ID: Weights(
        5.5,
        {"national_id": 5.5, "national_id_weak": 2.4, "national_id_one": 4.8, "id_masked": 4.8},
        ("digits", "code", "card_masked", *_HASHED),
        2.5,
    ),
    T.PASSPORT: Weights(5.5, {}, ("digits", "code", *_HASHED), 3.0),
    T.DRIVERS_LICENSE: Weights(5.0, {}, ("digits", "code", *_HASHED), 3.0),
    T.VEHICLE: Weights(5.0, {"vin": 4.5, "plate": 2.0}, ("digits", "code", *_HASHED), 3.0),
    T.CREDIT_CARD: Weights(
        5.2, {"credit_card": 7.5, "card_masked": 5.0, "card_shape": 0.5}, ("integer", "code", "number", *_HASHED), 4.0
    ),
    T.BANK_ACCOUNT: Weights(5.2, {"iban": 8.0}, ("digits", "code", *_HASHED), 2.5),
    T.CREDENTIAL: Weights(
        5.4,
        {"secret": 7.0, "hash": 1.2, "password_shape": 0.8},
        ("code", "handle", "hex", "uuid", "integer", "one_word"),
        3.0,
    ),
    T.USER_ID: Weights(5.5, {}, (*_CODES, "digits", "one_word"), 3.0),
    T.SESSION_ID: Weights(5.0, {}, _CODES, 2.5),
    T.DEVICE_ID: Weights(5.0, {"imei": 5.0}, _CODES, 2.5),
    T.COORDINATES: Weights(4.3, {"latlon": 0.7, "latlon_pair": 3.4}, ("decimal",), 4.0),
    T.HEALTH: Weights(
        4.3,
        {"closed:health": 3.5, "medical": 3.5, "icd": 4.5},
        ("date", "worded", "number", "text", "flag", "code"),
        1.5,
    ),
    T.ETHNICITY: Weights(
        4.6, {"closed:ethnicity": 2.6}, ("worded", "country", "country_code", "abbreviation", "flag"), 2.5
    ),
    T.RELIGION: Weights(5.0, {"closed:religion": 4.5}, ("worded", "flag", "abbreviation"), 2.5),
    T.POLITICAL_OPINION: Weights(5.0, {"closed:political_opinion": 4.5}, ("worded", "flag", "abbreviation"), 2.5),
    T.SEXUAL_ORIENTATION: Weights(5.5, {"closed:sexual_orientation": 4.5}, ("worded", "flag"), 2.5),
    T.FINANCE: Weights(4.2, {}, ("number", "money"), 3.0),
    T.FREE_TEXT: Weights(3.6, {"email_inside": 3.0, "personal_text": 4.0}, ("text", "worded"), 3.5),
}


def _number_between(low: float, high: float, kind: str) -> Callable[[ValueEvidence], float]:
    def share(values: ValueEvidence) -> float:
        inside = values.numbers is not None and low <= values.numbers[0] and values.numbers[2] <= high
        return values.share(kind) if inside else 0.0

    return share


def _none_of(*kinds: str) -> Callable[[ValueEvidence], float]:
    return lambda values: max(0.0, 1 - sum(values.share(kind) for kind in kinds))


# Shares that are made of others, or of the column as a whole.
_DERIVED: dict[str, Callable[[ValueEvidence], float]] = {
    "age": _number_between(0, 120, "number"),
    "age_word": lambda values: _none_of("date", "number", "percent", "email", "url")(values) * (values.words <= 4),
    "year": _number_between(1880, 2030, "integer"),
    "worded_date": lambda values: 1 - values.share("number") if values.words > 1 and not values.share("date") else 0.0,
    "flag": _number_between(0, 9, "integer"),
    "digits": lambda values: max(values.share(k) for k in ("integer", "code", "phone_shape", "phone")),
    "zip_digits": _number_between(100, 9_999_999, "integer"),
    "decimal": lambda values: values.share("number"),
    "money": lambda values: _none_of("date", "email")(values) * (values.words <= 4),
    "one_word": lambda values: float(values.words < 1.5) * (1 - values.share("date")),
    "phone_long": lambda values: values.share("integer") if values.numbers and values.numbers[1] >= 1e5 else 0.0,
    "worded": lambda values: max(0.0, 1 - max(values.share(k) for k in _UNLIKE_TEXT)),
}


def _share(kind: str, values: ValueEvidence) -> float:
    rule = _DERIVED.get(kind)
    return rule(values) if rule else values.share(kind)


def name_score(kind: T, name: NameEvidence) -> float:
    """What the name says for a type."""
    return WEIGHTS[kind].name * name.types.get(kind, 0.0)


def support(kind: T, values: ValueEvidence) -> float:
    """What the values say for a type, by themselves."""
    if kind is T.GENDER and (values.distinct > 6 or (values.size >= 4 and values.distinct == values.size)):
        return 0.0
    if kind is T.GENDER and values.share("closed:gender") >= 0.2:
        return WEIGHTS[kind].kinds["closed:gender"] * min(
            1.0, values.share("closed:gender") + values.share("gender_too")
        )
    if kind is T.DATE_OF_BIRTH:
        return _birth_support(values)
    if kind is T.IP_ADDRESS and values.share("version") == values.share("ip") > 0:
        return 2.0 * values.share("ip")
    if kind is T.FREE_TEXT:  # not every text that somebody writes says `I`
        return max(4.0 * min(1.0, 1.6 * values.share("personal_text")), 3.0 * values.share("email_inside"))
    scores = [weight * values.share(k) for k, weight in WEIGHTS[kind].kinds.items() if values.share(k) > 0]
    if not scores:
        return 0.0
    if kind is T.PERSON_NAME:
        return _name_support(values)
    return max(scores) if kind is T.STREET_ADDRESS else min(sum(scores), max(WEIGHTS[kind].kinds.values()))


def _birth_support(values: ValueEvidence) -> float:
    """Years that lie as far apart as people's lives and end before today's children were born."""
    if not values.years or values.size < 4:
        return 0.0
    first, middle, last = values.years
    return 2.8 if first >= 1900 and last <= 2014 and middle <= 2003 and last - first >= 12 else 0.0


def _name_support(values: ValueEvidence) -> float:
    """Names are told by the column: one word that is a name also names a town or a colour."""
    kinds, share = WEIGHTS[T.PERSON_NAME].kinds, values.share
    whole = (
        min(1.0, 1.4 * share("full_name")) * kinds["full_name"]
        + share("half_name") * kinds["half_name"]
        + share("initial_name") * kinds["initial_name"]
    )
    words = max(
        share("first") * kinds["first"], share("last") * kinds["last"], (share("first") + share("last")) / 2 * 3.5
    )
    places = max(share("city"), share("region"), share("country"))
    score = (
        max(whole + words * 0.8, words) + share("titled") * kinds["titled"] + share("comma_name") * kinds["comma_name"]
    )
    score += share("people_list") * kinds["people_list"]
    return max(0.0, score - 3.0 * share("company") - 2.0 * max(0.0, places - 0.2) * (share("full_name") < 0.6)) * min(
        1.0, 0.4 + values.distinct / 5
    )


def against(kind: T, values: ValueEvidence) -> float:
    """What the values say against a type: the cost of values that cannot be one."""
    if not values.size:
        return 0.0
    weights = WEIGHTS[kind]
    fitting = max([values.share(k) for k in weights.kinds] + [_share(k, values) for k in weights.fits] + [0.0])
    cost = weights.misfit * max(0.0, 1 - fitting * 1.25)
    cost += 6.0 * values.share("percent")  # how complete it is, or how frequent; never itself
    if kind is T.PERSON_NAME:
        cost += 3.0 * values.share("company")
    if kind is T.DATE_OF_BIRTH and values.years and (values.years[0] < 1850 or values.years[1] > 2019):
        cost += 1.5
    if kind is T.CITY and values.share("street") > 0.5:
        cost += 2.0
    if (
        kind is T.STATE
        and values.size >= 3
        and not any(values.share(k) for k in ("region", "abbreviation", "country_code", "city"))
    ):
        cost += 1.5
    return cost


def unlisted_names(values: ValueEvidence) -> float:
    """What to give back to a column that is called a name: a few words that are in no list may be names still."""
    if values.words > 5 or values.share("text"):
        return 0.0
    return (
        0.8
        * min(against(T.PERSON_NAME, values), WEIGHTS[T.PERSON_NAME].misfit)
        * (_share("worded", values) - values.share("company"))
    )
