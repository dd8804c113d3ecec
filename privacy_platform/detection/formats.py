"""What one value is by its form: an address of the network, a number, a date, a code.

Contract: :func:`kinds_of` says for one value all kinds that fit, the year if it is a date, and the region if it is a
valid phone number. Kinds are facts about the value, not a verdict: `12` is an integer, and could be an age or a size.
"""

import ipaddress
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import lru_cache

import phonenumbers

from privacy_platform.detection import ids, patterns
from privacy_platform.detection.text import normal
from privacy_platform.detection.wording import is_personal_text, kinds_of_words
from privacy_platform.detection.words import closed_vocabularies, vocabulary

__all__ = ["Kinds", "kinds_of"]

_LONGEST = 120


@dataclass(frozen=True, slots=True)
class Kinds:
    """What one value is: its kinds, the year of a date, the region of a phone number."""

    names: frozenset[str]
    year: int | None = None
    region: str = field(default="")


# `logo@2x.png` is a picture.
_EMAIL = re.compile(
    r"(?:\"?[^@<>]*<)?[^@\s,;:<>\"']+@(?:[\w-]+\.)+(?!(?:png|jpe?g|gif|svg|webp|css|js)$)[^\W\d_]{2,24}>?"
)
_URL = re.compile(r"(?:https?|ftp|s3|file)://\S+|www\.\S+\.\S+", re.I)
_UUID = re.compile(r"\{?[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}\}?", re.I)
_HEX = re.compile(r"(?:0x)?(?=[0-9a-f]*\d)(?=[0-9a-f]*[a-f])[0-9a-f]{16,128}", re.I)
_HASH = re.compile(
    r"\$(?:2[abxy]|argon2\w*|5|6|pbkdf2\S*)\$\S{10,}|pbkdf2_\w+\$\S+"
    r"|(?=\S*[a-z])(?=\S*[A-Z])(?=\S*\d)[A-Za-z0-9+/]{20,}={0,2}"
)
_NUMBER = re.compile(r"[-+]?(?:\d+|\d{1,3}(?:,\d{3})+)(?:\.\d*)?(?:[eE][-+]?\d+)?|[-+]?\.\d+|[-+]?\d+,\d+")
_INTEGER = re.compile(r"[-+]?\d+(?:\.0+)?")
_MAC = re.compile(r"(?:[0-9a-f]{2}[:-]){5}[0-9a-f]{2}", re.I)
_PHONE_LIKE = re.compile(r"[+(]?[\d(][\d\s().\-–/]{5,20}\d(?:\s?(?:x|ext\.?)\s?\d{1,6})?", re.I)
_PHONE_US = re.compile(r"(?:\+?1[ .-]?)?\(?\d{3}\)?[ .-]+\d{3}[ .-]\d{4}(?:\s?(?:x|ext\.?)\s?\d+)?", re.I)
_PHONE_DIGITS = re.compile(r"0[1-9]\d{8,11}|1[3-9]\d{9}|[6-9]\d{9}|[1-9]\d{1,2}[1-9]\d{8,9}")
_CJK_SENTENCE = re.compile(r".*[\u3041-\u3096\u4e00-\u9fff]{3}.{6,}[。！？].*|.*[\uac00-\ud7a3].{10,}[.!?다요]")
_MOBILE_CN = re.compile(r"1[3-9]\d{9}")
_PHONE_NATIONAL = re.compile(r"\(?0\d|\(\d{2,4}\)")
_DATE = re.compile(
    r"(?P<y1>\d{4})[-/.年](?P<m1>\d{1,2})[-/.月](?P<d1>\d{1,2})日?(?:[T ].*)?"
    r"|(?P<a>\d{1,2})[-/.](?P<b>\d{1,2})[-/.](?P<y2>\d{4}|\d{2})(?: \d.*)?"
    r"|(?:[A-Za-z]{3,9},? )?(?P<d3>\d{1,2})(?:st|nd|rd|th)?[ -][^\W\d_]{3,10}\.?,?[ -](?P<y3>\d{4}|\d{2})(?: \d.*)?"
    r"|[A-Z][a-z]{2,8}\.? (?P<d4>\d{1,2})(?:st|nd|rd|th)?,? (?P<y4>\d{4})(?: .*)?"
    r"|(?P<y5>(?:18|19|20)\d{2})(?:0[1-9]|1[0-2])(?:0[1-9]|[12]\d|3[01])"
    r"|(?:0?[1-9]|1[0-2])[-/.](?P<y6>(?:18|19|20)\d{2})"
)
_YYMMDD = re.compile(r"\d{2}(?:0[1-9]|1[0-2])(?:0[1-9]|[12]\d|3[01])")
_TIME_OF_DAY = re.compile(r".*\d{1,2}:\d{2}(?::\d{2})?.*")
_POSTAL = re.compile(
    r"[A-Z]{1,2}\d[A-Z\d]? ?\d[A-Z]{2}|[A-Z]\d[A-Z] ?\d[A-Z]\d|\d{5}-\d{4}|\d{4} ?[A-Z]{2}|\d{5}-\d{3}|\d{2}-\d{3}"
    r"|\d{3}-\d{4}|\d{3} \d{2}|\d{4}-\d{3}|[A-Z]{1,2}-\d{4,5}|〒\d{3}-\d{4}"
)
_PERCENT = re.compile(r"[-+]?\d+(?:[.,]\d+)?\s?%")
_POSTAL_WEAK = re.compile(r"\d{4,6}")
_CODE = re.compile(r"(?=[^\s]*\d)[A-Z0-9][A-Z0-9._/-]*", re.I)
_HANDLE = re.compile(r"@?[a-z][a-z0-9]*[._-]?[a-z0-9._-]*", re.I)
_AT_HANDLE = re.compile(r"@[a-z_][\w.]{2,29}", re.I)
_PROFILE = re.compile(
    r"(?:https?://)?(?:[a-z]{2,3}\.)?(?:linkedin\.com/in|facebook\.com|twitter\.com|x\.com|instagram\.com|vk\.com|t\.me)"
    r"/@?[\w.%-]+/?",
    re.I,
)
_DOMAIN_USER = re.compile(r"(?!HK)[\w.-]+\\[\w.-]+")
_VIN = re.compile(r"(?=.*\d)(?=.*[A-Z])[A-HJ-NPR-Z0-9]{17}", re.I)
# Number plates: France and Italy, Germany, Britain, Turkey, Spain, India, the Netherlands, Russia, China.
_PLATE = re.compile(
    r"[A-Z]{2}[- ]?\d{3}[- ]?[A-Z]{2}|[A-ZÄÖÜ]{1,3}[- ][A-Z]{1,2} ?\d{1,4}[EH]?|[A-Z]{2}\d{2} ?[A-Z]{3}"
    r"|\d{2} [A-Z]{1,3} \d{2,4}|\d{4}[ -]?[BCDFGHJ-NPR-TV-Z]{3}|[A-Z]{2}[ -]?\d{2}[ -]?[A-Z]{1,2}[ -]?\d{4}"
    r"|(?=[\d-]*[A-Z])(?=[A-Z-]*\d)(?:\d{1,3}|[A-Z]{1,3})(?:-(?:\d{1,3}|[A-Z]{1,3})){2}"
    r"|[АВЕКМНОРСТУХ]\d{3}[АВЕКМНОРСТУХ]{2} ?\d{2,3}|[\u4e00-\u9fff][A-Z][·.]?[A-Z0-9]{5,6}"
)
_ICD = re.compile(r"[A-TV-Z]\d{2}\.\d{1,3}[A-Z]?")
_LATLON = re.compile(r"-?\d{1,3}\.\d{3,}")
_LATLON_PAIR = re.compile(r"\(?\s*-?\d{1,2}\.\d{2,}\s*[,;]\s*-?\d{1,3}\.\d{2,}\s*\)?|[^°]*\d{1,3}°[^NSEWO]*[NSEWO].*")
_AGE_BAND = re.compile(r"\d{1,2}\s?(?:-|–|to)\s?\d{1,3}|\d{2}\s?\+|[<>]=?\s?\d{2}")
_CARD_MASKED = re.compile(
    r"(?:[*xX#•·]{4}[- ]?){1,3}\d{4}|\d{1,6}[*xX#•·]{4,12}\d{3,4}|[*xX#•·]{8,15}\d{4}"
    r"|\d{4}[- ](?:\d{2})?[*xX#•·]{2,4}[- ][*xX#•·]{4}[- ]\d{4}"
)
_ID_MASKED = re.compile(r"[*xX#•]{3}-[*xX#•]{2}-\d{4}")
_SECRET = re.compile(
    r"(?:[sp]k[-_](?:live|test|proj|ant)[-_]|gh[pousr]_|tok_|glpat-|xox[bap]-|AKIA|eyJ|sk-(?=\w{20}))[-_A-Za-z0-9]{12,}"
    r"(?:\.[-_A-Za-z0-9]+)*"
)
_PASSWORD = re.compile(r"(?=\S*[a-z])(?=\S*[A-Z0-9])(?=\S*[\d!@#$%^&*?])\S{6,24}")

_CHECKS: tuple[tuple[str, Callable[[str], object]], ...] = (
    ("email", _EMAIL.fullmatch),
    ("url", _URL.fullmatch),
    ("uuid", _UUID.fullmatch),
    ("mac", _MAC.fullmatch),
    ("hash", _HASH.fullmatch),
    ("hex", _HEX.fullmatch),
    ("secret", _SECRET.match),
    ("postal", _POSTAL.fullmatch),
    ("vin", _VIN.fullmatch),
    ("yymmdd", _YYMMDD.fullmatch),
    ("plate", _PLATE.fullmatch),
    ("icd", _ICD.fullmatch),
    ("latlon_pair", _LATLON_PAIR.fullmatch),
    ("age_band", _AGE_BAND.fullmatch),
    ("card_masked", _CARD_MASKED.fullmatch),
    ("id_masked", _ID_MASKED.fullmatch),
    ("domain_user", _DOMAIN_USER.fullmatch),
    ("at_handle", _AT_HANDLE.fullmatch),
    ("profile_url", _PROFILE.fullmatch),
    ("percent", _PERCENT.fullmatch),
    ("time", _TIME_OF_DAY.fullmatch),
)


@lru_cache(maxsize=65536)
def kinds_of(value: str) -> Kinds:
    """What one value is; a long text is ``text``, and ``email_inside`` if it holds a personal pattern."""
    if len(value) > _LONGEST:
        inside = {"email_inside"} if patterns.contains_any_text(value) else set()
        inside |= {"personal_text"} if is_personal_text(value) else set()
        return Kinds(frozenset({"text"} | inside))
    names = {kind for kind, check in _CHECKS if check(value)} | ids.kinds_of(value) | _ip(value) | _known(value)
    date = _DATE.fullmatch(value)
    year = _year(date) if date else None
    if year is not None:
        names.add("date")
    if _NUMBER.fullmatch(value):
        names |= _number(value)
    region = ""
    if _PHONE_LIKE.fullmatch(value) and not names & {"date", "ip"} and not ("." in value and "number" in names):
        phone, region = _phone(value)
        names |= phone
    if any(map(str.isalpha, value)):
        names |= _letters(value, names)
    return Kinds(frozenset(names), year, region)


def _ip(value: str) -> set[str]:
    if ":" not in value and value.count(".") != 3:
        return set()
    try:
        address = ipaddress.ip_address(value.strip("[]").split("/")[0])
    except ValueError:
        return set()
    return {"ip", "version"} if address.version == 4 and max(address.packed) < 32 else {"ip"}


def _known(value: str) -> set[str]:
    """Values of closed vocabularies."""
    plain = normal(value)
    kinds = {f"closed:{kind}" for kind, words in closed_vocabularies().items() if plain in words}
    if plain in vocabulary("gender_too"):
        kinds.add("gender_too")
    if len(value) <= 3 and plain in vocabulary("country_codes"):
        kinds.add("country_code")
    return kinds


def _year(match: re.Match[str]) -> int | None:
    text = next((match[g] for g in ("y1", "y2", "y3", "y4", "y5", "y6") if match[g]), "")
    day = next((match[g] for g in ("d1", "d3", "d4") if match[g]), "1")
    if not text or int(day) > 31 or (match["a"] and min(int(match["a"]), int(match["b"])) > 12):
        return None
    year = int(text)
    return year if len(text) == 4 else (2000 + year if year < 30 else 1900 + year)


def _number(value: str) -> set[str]:
    kinds = {"number"}
    if _INTEGER.fullmatch(value):
        kinds.add("integer")
        if _POSTAL_WEAK.fullmatch(value):
            kinds.add("postal_weak")
    if _LATLON.fullmatch(value) and abs(float(value)) <= 180:
        kinds.add("latlon")
    return kinds


def _phone(value: str) -> tuple[set[str], str]:
    """Kinds and region of what is written like a phone number (phonenumbers: ITU-T E.164 and national plans)."""
    digits = sum(map(str.isdigit, value))
    if not 6 <= digits <= 16:
        return set(), ""
    if value.isdigit():
        kinds = {"phone_zero" if value.startswith("0") else "phone_digits"} if _PHONE_DIGITS.fullmatch(value) else set()
        return (kinds | {"phone_mobile"} if _is_mobile(value) else kinds), ""
    if value.startswith("+"):
        try:
            number = phonenumbers.parse(value, None)
        except phonenumbers.NumberParseException:
            return {"phone_shape"}, ""
        if phonenumbers.is_possible_number(number):
            return {"phone_shape", "phone"}, phonenumbers.region_code_for_number(number) or ""
        return {"phone_shape"}, ""
    if _PHONE_US.fullmatch(value):
        return {"phone_shape", "phone"}, "US"
    national = {"phone_national"} if digits >= 9 and _PHONE_NATIONAL.match(value) else set()
    return {"phone_shape"} | national, ""


def _is_mobile(digits: str) -> bool:
    """Whether bare digits are a mobile number of China, or of any country with its code and no plus before it."""
    if _MOBILE_CN.fullmatch(digits):
        return True
    if digits.startswith("0") or not 11 <= len(digits) <= 13:
        return False
    try:
        number = phonenumbers.parse(f"+{digits}", None)
    except phonenumbers.NumberParseException:
        return False
    mobile = phonenumbers.number_type(number)
    return mobile in (phonenumbers.PhoneNumberType.MOBILE, phonenumbers.PhoneNumberType.FIXED_LINE_OR_MOBILE)


def _letters(value: str, seen: set[str]) -> set[str]:
    """Kinds of a value that has letters."""
    kinds: set[str] = set()
    if not seen & {"email", "url", "uuid", "mac", "date", "ip"}:
        kinds |= kinds_of_words(value)
    if len(value.split()) >= 6 or _CJK_SENTENCE.fullmatch(value):
        kinds.add("text")
        if patterns.contains_any_text(value):
            kinds.add("email_inside")
    if " " not in value:
        if _HANDLE.fullmatch(value) and 3 <= len(value) <= 30 and not (value[0].isupper() and value[1:].isalpha()):
            kinds.add("handle")
        if _CODE.fullmatch(value):
            kinds.add("code")
        if _PASSWORD.fullmatch(value) and not seen & {"email", "url", "uuid", "date", "hex"}:
            kinds.add("password_shape")
    if value.isupper() and len(value) <= 5 and value.isalpha():
        kinds.add("abbreviation")
    return kinds
