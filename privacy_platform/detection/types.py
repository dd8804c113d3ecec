"""What a column can be, how much harm it does, and what is usually done with it."""

from dataclasses import dataclass
from enum import StrEnum

__all__ = ["TRAITS", "Finding", "PiiType", "Traits"]


class PiiType(StrEnum):
    """The sorts of personal data that the detector tells apart; ``NONE`` is no personal data of a natural person."""

    NONE = "none"
    PERSON_NAME = "person_name"
    USERNAME = "username"
    EMAIL = "email"
    PHONE = "phone"
    STREET_ADDRESS = "street_address"
    CITY = "city"
    STATE = "state"
    POSTAL_CODE = "postal_code"
    COUNTRY = "country"
    IP_ADDRESS = "ip_address"
    MAC_ADDRESS = "mac_address"
    DATE_OF_BIRTH = "date_of_birth"
    AGE = "age"
    GENDER = "gender"
    MARITAL_STATUS = "marital_status"
    NATIONAL_ID = "national_id"
    PASSPORT = "passport"
    DRIVERS_LICENSE = "drivers_license"
    VEHICLE = "vehicle"
    CREDIT_CARD = "credit_card"
    BANK_ACCOUNT = "bank_account"
    CREDENTIAL = "credential"
    USER_ID = "user_id"
    SESSION_ID = "session_id"
    DEVICE_ID = "device_id"
    COORDINATES = "coordinates"
    HEALTH = "health"
    ETHNICITY = "ethnicity"
    RELIGION = "religion"
    POLITICAL_OPINION = "political_opinion"
    SEXUAL_ORIENTATION = "sexual_orientation"
    FINANCE = "finance"
    FREE_TEXT = "free_text"


@dataclass(frozen=True, slots=True)
class Traits:
    """What follows from a type.

    Attributes:
        words: The type in plain words.
        sensitivity: ``high``, ``medium``, ``low`` or ``none``, as in policies.
        role: The field's role in a policy.
        technique: The technique suggested, by its name in policies.
    """

    words: str
    sensitivity: str
    role: str
    technique: str


TRAITS: dict[PiiType, Traits] = {
    PiiType.NONE: Traits("not personal", "none", "plain", "keep"),
    PiiType.PERSON_NAME: Traits("names of people", "high", "identifier", "hash"),
    PiiType.USERNAME: Traits("user names", "high", "identifier", "hmac"),
    PiiType.EMAIL: Traits("e-mail addresses", "high", "identifier", "hmac"),
    PiiType.PHONE: Traits("phone numbers", "high", "identifier", "mask"),
    PiiType.STREET_ADDRESS: Traits("street addresses", "high", "identifier", "suppress"),
    PiiType.CITY: Traits("cities", "medium", "quasi_identifier", "generalize"),
    PiiType.STATE: Traits("states or regions", "low", "quasi_identifier", "keep"),
    PiiType.POSTAL_CODE: Traits("postal codes", "medium", "quasi_identifier", "mask"),
    PiiType.COUNTRY: Traits("countries", "low", "quasi_identifier", "keep"),
    PiiType.IP_ADDRESS: Traits("IP addresses", "high", "identifier", "mask"),
    PiiType.MAC_ADDRESS: Traits("MAC addresses", "high", "identifier", "hash"),
    PiiType.DATE_OF_BIRTH: Traits("dates of birth", "high", "quasi_identifier", "suppress"),
    PiiType.AGE: Traits("ages", "medium", "quasi_identifier", "bucket"),
    PiiType.GENDER: Traits("gender", "low", "quasi_identifier", "keep"),
    PiiType.MARITAL_STATUS: Traits("marital status", "low", "quasi_identifier", "keep"),
    PiiType.NATIONAL_ID: Traits("national identifiers", "high", "identifier", "suppress"),
    PiiType.PASSPORT: Traits("passport numbers", "high", "identifier", "suppress"),
    PiiType.DRIVERS_LICENSE: Traits("driver's licences", "high", "identifier", "suppress"),
    PiiType.VEHICLE: Traits("vehicle registrations", "high", "identifier", "suppress"),
    PiiType.CREDIT_CARD: Traits("payment cards", "high", "identifier", "suppress"),
    PiiType.BANK_ACCOUNT: Traits("bank accounts", "high", "identifier", "suppress"),
    PiiType.CREDENTIAL: Traits("credentials or secrets", "high", "identifier", "suppress"),
    PiiType.USER_ID: Traits("identifiers of people", "high", "identifier", "hmac"),
    PiiType.SESSION_ID: Traits("session identifiers", "medium", "identifier", "hash"),
    PiiType.DEVICE_ID: Traits("device or advertising identifiers", "high", "identifier", "hash"),
    PiiType.COORDINATES: Traits("coordinates", "medium", "quasi_identifier", "suppress"),
    PiiType.HEALTH: Traits("health data", "high", "sensitive", "suppress"),
    PiiType.ETHNICITY: Traits("ethnic origin or nationality", "high", "sensitive", "suppress"),
    PiiType.RELIGION: Traits("religion", "high", "sensitive", "suppress"),
    PiiType.POLITICAL_OPINION: Traits("political opinion or union membership", "high", "sensitive", "suppress"),
    PiiType.SEXUAL_ORIENTATION: Traits("sexual orientation", "high", "sensitive", "suppress"),
    PiiType.FINANCE: Traits("a person's income or standing", "medium", "sensitive", "suppress"),
    PiiType.FREE_TEXT: Traits("free text that may hold personal data", "medium", "sensitive", "scrub"),
}


@dataclass(frozen=True, slots=True)
class Finding:
    """What a column is.

    Attributes:
        name: The column, or the path of a nested field.
        type: What it is.
        sensitivity: ``high``, ``medium``, ``low`` or ``none``.
        confidence: Calibrated probability that the answer to "is it personal data" is right, 0.5 to 1.
        evidence: Why, in words; counts only, never values.
        technique: The technique suggested for a policy.
    """

    name: str
    type: PiiType
    sensitivity: str
    confidence: float
    evidence: tuple[str, ...]
    technique: str

    @property
    def personal(self) -> bool:
        """Whether it is personal data of a natural person."""
        return self.type is not PiiType.NONE
