"""Why a column is taken for what it is, in words: counts and the column's own name, never a value."""

from collections.abc import Mapping

from privacy_platform.detection.names import NameEvidence
from privacy_platform.detection.scoring import WEIGHTS
from privacy_platform.detection.types import TRAITS
from privacy_platform.detection.types import PiiType as T
from privacy_platform.detection.values import ValueEvidence

__all__ = ["reasons"]

_KIND_WORDS = {
    "email": "e-mail addresses",
    "email_inside": "text with personal data in it",
    "phone_national": "phone numbers in a national form",
    "phone": "valid phone numbers",
    "phone_mobile": "digits of a mobile number",
    "at_handle": "written like handles (@)",
    "profile_url": "addresses of profiles in social networks",
    "plate": "written like number plates",
    "medical": "illnesses or drugs",
    "personal_text": "texts in which somebody speaks of themselves or their family",
    "phone_shape": "written like phone numbers",
    "phone_digits": "digits of a phone number's length",
    "full_name": "full names of people",
    "half_name": "partly names of people",
    "initial_name": "initials and a word",
    "first": "given names",
    "last": "family names",
    "titled": "titles with a name",
    "people_list": "lists of people",
    "street": "street addresses",
    "city": "known towns",
    "region": "known regions",
    "country": "countries",
    "country_code": "country codes",
    "postal": "postal codes",
    "postal_weak": "digits of a postal code's length",
    "ip": "IP addresses",
    "mac": "MAC addresses",
    "credit_card": "card numbers (issuer and check digit)",
    "comma_name": "written family name first",
    "phone_zero": "digits of a national phone number",
    "card_shape": "digits of a card number's length",
    "card_masked": "masked card numbers",
    "iban": "IBANs with valid check digits",
    "national_id": "valid national identifiers",
    "national_id_weak": "numbers with a national identifier's check digit",
    "id_masked": "masked national identifiers",
    "national_id_one": "national identifiers of one country",
    "imei": "device numbers (IMEI)",
    "vin": "vehicle numbers (VIN)",
    "secret": "tokens of known services",
    "hash": "encoded secrets or hashes",
    "password_shape": "shaped like passwords",
    "domain_user": "accounts of a domain",
    "handle": "shaped like user names",
    "latlon": "decimal degrees",
    "latlon_pair": "pairs of coordinates",
    "age_band": "ranges of ages",
    "icd": "codes of diagnoses (ICD-10)",
    "uuid": "UUIDs",
    "date": "dates",
    "url": "URLs",
    "number": "numbers",
    "text": "sentences",
    "company": "names of companies",
    "hex": "hex digits",
}


_FORMS = (
    "email",
    "phone",
    "ip",
    "mac",
    "credit_card",
    "iban",
    "national_id",
    "uuid",
    "date",
    "url",
    "number",
    "text",
    "company",
    "hex",
    "full_name",
    "street",
)


def reasons(
    rows: int, name: NameEvidence, values: ValueEvidence, kind: T, people: float, grave: Mapping[str, int]
) -> tuple[str, ...]:
    """The evidence in words, strongest first."""
    said: list[str] = []
    for pattern, count in grave.items():
        said.append(f"{count:,} of {max(rows, count):,} rows hold a {pattern.replace('_', ' ')}")
    if name.types:
        best = max(name.types, key=lambda k: name.types[k])
        said.append(f"the name says `{name.word}` ({TRAITS[best].words})")
    if name.negated:
        said.append("the name speaks of data about such a value, not of the value")
    elif name.thing and not name.types:
        said.append("the name is of a thing")
    elif name.person and not name.types:
        said.append("the name is of somebody")
    said += _values_say(values, kind)
    if kind in (
        T.NONE,
        T.CITY,
        T.STATE,
        T.COUNTRY,
        T.POSTAL_CODE,
        T.USER_ID,
        T.PERSON_NAME,
        T.FREE_TEXT,
        T.HEALTH,
        T.FINANCE,
    ):
        if people >= 0.7:
            said.append("the rest of the table is about people")
        elif people < 0.3:
            said.append("nothing else in the table is about people")
    return tuple(said)


def _values_say(values: ValueEvidence, kind: T) -> list[str]:
    """What most values are, of the kinds that bear on the verdict; for what is not personal, of all telling kinds."""
    if not values.size:
        return ["it has no values"]
    bearing = {*_FORMS, *(WEIGHTS[kind].kinds if kind is not T.NONE else ())}
    shares = {k: s for k, s in values.shares.items() if s >= 0.2 and k in bearing}
    said = []
    for form, share in sorted(shares.items(), key=lambda item: -item[1])[:3]:
        words = _KIND_WORDS.get(form) or f"words for {TRAITS[T(form.removeprefix('closed:'))].words}"
        where = f" of {len(values.countries)} countries" if form == "phone" and len(values.countries) > 1 else ""
        said.append(f"{round(share * values.size):,} of {values.size:,} values are {words}{where}")
    if values.numbers and "number" in shares:
        said.append(f"numbers of {_magnitude(values.numbers[0])} to {_magnitude(values.numbers[2])}")
    if values.years:
        said.append(f"most years are of the {int(values.years[1] // 10)}0s")
    return said or ["its values are of no known form"]


def _magnitude(number: float) -> str:
    """A number's power of ten: extremes are values of somebody."""
    size = abs(number)
    digits = len(str(int(size)))
    return "0" if size == 0 else f"{'-' if number < 0 else ''}{digits} digit{'s' if digits > 1 else ''}"
