"""Labelled tables for the detector: people in many locales under good, foreign, short and meaningless names; and tables
of things that look alike.

Everything is drawn from Faker and from small vocabularies here, by a seed; nothing comes from the tables that the
detector was developed on. The locales and domains in ``HELD_OUT`` are kept apart: their errors were looked at twice,
the others' at will.
"""

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache

from faker import Faker

__all__ = ["HELD_OUT", "LOCALES", "Labelled", "labelled_tables"]

LOCALES = (
    "en_US",
    "en_GB",
    "de_DE",
    "fr_FR",
    "es_ES",
    "es_MX",
    "it_IT",
    "pt_BR",
    "nl_NL",
    "pl_PL",
    "cs_CZ",
    "sv_SE",
    "da_DK",
    "no_NO",
    "fi_FI",
    "tr_TR",
    "ro_RO",
    "hu_HU",
    "ru_RU",
    "uk_UA",
    "el_GR",
    "ja_JP",
    "zh_CN",
    "zh_TW",
    "ko_KR",
    "ar_SA",
    "he_IL",
    "hi_IN",
    "id_ID",
    "vi_VN",
    "th_TH",
    "fa_IR",
    "bg_BG",
    "hr_HR",
    "sk_SK",
    "en_IN",
    "es_CO",
    "pt_PT",
    "de_AT",
    "fr_CA",
)
HELD_OUT = frozenset(
    {"it_IT", "sv_SE", "uk_UA", "zh_TW", "he_IL", "es_MX", "hr_HR", "restaurants", "movies", "chemistry"}
)


@dataclass(frozen=True, slots=True)
class Labelled:
    """A table with the truth about each column.

    Attributes:
        name: The table's name.
        group: The locale or domain it comes from.
        columns: Name, values and label (a type's name, ``none`` for no personal data).
    """

    name: str
    group: str
    columns: tuple[tuple[str, tuple[str, ...], str], ...]


@lru_cache(maxsize=64)
def _faker(locale: str) -> Faker:
    return Faker(locale)


Draw = Callable[[random.Random, Faker], str]


def _pick(*words: str) -> Draw:
    return lambda r, f: r.choice(words)


def _number(low: float, high: float, digits: int = 0) -> Draw:
    return lambda r, f: str(r.randint(int(low), int(high))) if not digits else f"{r.uniform(low, high):.{digits}f}"


def _date(first: int, last: int, form: str = "") -> Draw:
    def draw(r: random.Random, f: Faker) -> str:
        y, m, d = r.randint(first, last), r.randint(1, 12), r.randint(1, 28)
        return (form or "{y}-{m:02d}-{d:02d}").format(y=y, m=m, d=d)

    return draw


def _code(pattern: str) -> Draw:
    return lambda r, f: "".join(
        r.choice("0123456789") if c == "#" else r.choice("ABCDEFGHJKLMNPQRSTUVWXYZ") if c == "?" else c for c in pattern
    )


def _state(r: random.Random, f: Faker) -> str:
    for name in ("state", "administrative_unit", "region", "province"):
        if hasattr(f, name):
            return str(getattr(f, name)())
    return str(f.country())


# Label → how it is drawn, and names it goes by (good, abbreviated). Meaningless names are added to each.
_PERSONAL: dict[str, list[tuple[Draw, tuple[str, ...]]]] = {
    "person_name": [
        (
            lambda r, f: f.first_name(),
            (
                "first_name",
                "FirstName",
                "fname",
                "First Name",
                "given_name",
                "forename",
                "FRST_NM",
                "prenom",
                "Vorname",
                "nombre",
            ),
        ),
        (
            lambda r, f: f.last_name(),
            ("last_name", "LastName", "surname", "lname", "Last Name", "Nachname", "apellidos", "cognome", "nom"),
        ),
        (
            lambda r, f: f.name(),
            (
                "name",
                "full_name",
                "Name",
                "customer_name",
                "EmployeeName",
                "Student",
                "contact",
                "patient name",
                "nome",
                "author_name",
            ),
        ),
    ],
    "email": [
        (lambda r, f: f.email(), ("email", "E-mail", "email_address", "mail", "EMAIL_ADDR", "user_email", "correo"))
    ],
    "phone": [
        (
            lambda r, f: f.phone_number(),
            ("phone", "Phone Number", "tel", "mobile", "contact_no", "telefono", "PHONE_NO"),
        )
    ],
    "street_address": [
        (
            lambda r, f: f.street_address().replace("\n", " "),
            ("address", "street", "Address Line 1", "home_address", "addr", "adresse"),
        )
    ],
    "city": [(lambda r, f: f.city(), ("city", "City", "town", "home_city", "ciudad", "Ort"))],
    "postal_code": [(lambda r, f: str(f.postcode()), ("zip", "postal_code", "Zip Code", "postcode", "PLZ"))],
    "state": [(_state, ("state", "State", "province", "region"))],
    "country": [(lambda r, f: f.country(), ("country", "Country", "country_name", "pays"))],
    "date_of_birth": [
        (_date(1940, 2008), ("dob", "birth_date", "date_of_birth", "Birthday", "BirthDate", "born")),
        (_date(1940, 2008, "{d:02d}.{m:02d}.{y}"), ("Geburtsdatum", "geb_datum", "birthdate")),
    ],
    "age": [(_number(18, 90), ("age", "Age", "AGE", "customer_age", "edad", "Alter"))],
    "gender": [
        (_pick("M", "F"), ("sex", "gender", "Gender", "SEX")),
        (_pick("male", "female"), ("gender", "Sex", "customer_gender")),
    ],
    "marital_status": [
        (_pick("single", "married", "divorced", "widowed"), ("marital_status", "MaritalStatus", "civil_status"))
    ],
    "national_id": [(lambda r, f: _faker("en_US").ssn(), ("ssn", "SSN", "social_security_number", "national_id"))],
    "username": [(lambda r, f: f.user_name(), ("username", "user_name", "login", "Login Name"))],
    "credential": [(lambda r, f: f.password(), ("password", "passwd", "pwd"))],
    "ip_address": [(lambda r, f: f.ipv4_public(), ("ip", "ip_address", "last_login_ip", "client_ip"))],
    "credit_card": [
        (lambda r, f: _faker("en_US").credit_card_number("visa16"), ("credit_card", "card_number", "cc_number"))
    ],
    "bank_account": [(lambda r, f: _faker("de_DE").iban(), ("iban", "IBAN", "account_iban"))],
    "user_id": [
        (
            _number(1000, 99999),
            ("user_id", "customer_id", "EmployeeID", "student_no", "PatientId", "member_id", "cust_no"),
        ),
        (_code("U######"), ("user_id", "CustomerID", "emp_id")),
    ],
    "health": [
        (
            _pick("Hypertension", "Diabetes", "Asthma", "Migraine", "Anemia"),
            ("diagnosis", "disease", "medical_condition"),
        )
    ],
    "religion": [(_pick("Christian", "Muslim", "Hindu", "Buddhist", "Atheist"), ("religion", "Religion"))],
    "ethnicity": [(_pick("White", "Black", "Asian", "Hispanic"), ("ethnicity", "race", "Ethnic Group"))],
}
_PLAIN: list[tuple[Draw, tuple[str, ...]]] = [
    (_date(2015, 2025), ("created_at", "hire_date", "signup_date", "last_login", "enrollment_date", "updated")),
    (_pick("active", "inactive", "pending"), ("status", "account_status", "state_of_account")),
    (_pick("true", "false"), ("email_verified", "is_active", "newsletter", "phone_confirmed")),
    (_number(0, 100), ("score", "points", "total_orders", "visits", "grade")),
    (_pick("gold", "silver", "bronze"), ("tier", "plan", "membership_type")),
    (_number(0, 5000, 2), ("total_spent", "balance", "amount")),
    (_pick("web", "app", "store"), ("channel", "source", "utm_source")),
    (_pick("Sales", "Engineering", "Marketing", "Finance"), ("department", "dept", "team")),
    (lambda r, f: f.job(), ("job_title", "position", "title")),
    (lambda r, f: f.company(), ("company", "employer", "organization", "company_name")),
]
_TITLES = (
    "customers",
    "users",
    "employees",
    "export",
    "data",
    "Sheet1",
    "list_2021",
    "results",
    "members",
    "table_17",
    "patients",
    "contacts",
)


def _things() -> dict[str, list[tuple[str, Draw]]]:
    word = lambda r, f: _faker("en_US").word().capitalize()  # noqa: E731
    two = lambda r, f: " ".join(_faker("en_US").words(2)).title()  # noqa: E731
    company = lambda r, f: f.company()  # noqa: E731
    return {
        "products": [
            ("sku", _code("??-####")),
            ("name", two),
            ("brand", company),
            ("price", _number(1, 900, 2)),
            ("color", lambda r, f: _faker("en_US").color_name()),
            ("weight_kg", _number(0, 40, 2)),
            ("in_stock", _pick("0", "1")),
            ("description", lambda r, f: f.sentence(8)),
            ("gender", _pick("Men", "Women", "Unisex")),
            ("age_group", _pick("adult", "kids")),
            ("country_of_origin", lambda r, f: f.country()),
            ("ean", _code("#############")),
        ],
        "sensors": [
            ("sensor_id", _code("S-####")),
            ("timestamp", _date(2020, 2024, "{y}-{m:02d}-{d:02d}T10:12:0{d}")),
            ("temp", _number(-10, 40, 1)),
            ("humidity", _number(0, 100)),
            ("lat", _number(-80, 80, 5)),
            ("lon", _number(-170, 170, 5)),
            ("battery", _number(0, 100)),
            ("location", _pick("roof", "cellar", "hall")),
            ("firmware", _code("#.##.#")),
        ],
        "genomics": [
            ("gene", _code("????#")),
            ("chromosome", _number(1, 22)),
            ("start", _number(10000, 90000000)),
            ("end", _number(10000, 90000000)),
            ("strand", _pick("+", "-")),
            ("log2fc", _number(-4, 4, 4)),
            ("pvalue", _number(0, 1, 6)),
            ("sample", _code("GSM######")),
            ("sex_chromosome", _pick("X", "Y", "A")),
        ],
        "sports": [
            ("home_team", lambda r, f: f.city() + " FC"),
            ("away_team", lambda r, f: f.city() + " United"),
            ("date", _date(2000, 2022)),
            ("home_goals", _number(0, 6)),
            ("away_goals", _number(0, 6)),
            ("stadium", two),
            ("city", lambda r, f: f.city()),
            ("country", lambda r, f: f.country()),
            ("attendance", _number(1000, 80000)),
        ],
        "finance": [
            ("ticker", _code("????")),
            ("date", _date(2010, 2024)),
            ("open", _number(1, 500, 2)),
            ("close", _number(1, 500, 2)),
            ("volume", _number(1000, 10000000)),
            ("company_name", company),
            ("sector", _pick("Energy", "Tech", "Health")),
            ("country", lambda r, f: f.country()),
            ("isin", _code("US##########")),
        ],
        "geography": [
            ("city", lambda r, f: f.city()),
            ("country", lambda r, f: f.country()),
            ("population", _number(1000, 9000000)),
            ("latitude", _number(-80, 80, 4)),
            ("longitude", _number(-170, 170, 4)),
            ("area_km2", _number(10, 2000, 1)),
            ("mayor_count", _number(1, 9)),
            ("timezone", _pick("UTC", "CET", "EST")),
            ("iso3", _code("???")),
            ("postal_codes", _number(1, 90)),
        ],
        "software": [
            ("commit_sha", lambda r, f: f.sha1()),
            ("file_name", lambda r, f: _faker("en_US").file_name()),
            ("lines_added", _number(0, 900)),
            ("repo_name", lambda r, f: _faker("en_US").slug()),
            ("language", _pick("Python", "Java", "Go")),
            ("version", _code("#.#.##")),
            ("url", lambda r, f: f.url()),
            ("method_name", lambda r, f: "get_" + f.word()),
            ("id", _number(1, 9999)),
            ("host_name", _code("srv-##")),
        ],
        "books": [
            ("isbn", lambda r, f: f.isbn13()),
            ("title", two),
            ("publisher", company),
            ("year", _number(1950, 2023)),
            ("pages", _number(50, 900)),
            ("language", _pick("en", "de", "fr")),
            ("rating", _number(1, 5, 1)),
        ],
        "weather": [
            ("station", two),
            ("date", _date(1990, 2020)),
            ("tmax", _number(-10, 40, 1)),
            ("tmin", _number(-20, 30, 1)),
            ("state", _pick("TX", "CA", "NY", "WA")),
            ("station_id", _code("USW000####")),
            ("elevation", _number(0, 3000)),
        ],
        "airports": [
            ("code", _code("???")),
            ("name", lambda r, f: f.city() + " Airport"),
            ("city", lambda r, f: f.city()),
            ("country", lambda r, f: f.country()),
            ("lat", _number(-80, 80, 5)),
            ("long", _number(-170, 170, 5)),
            ("altitude", _number(0, 8000)),
        ],
        "cars": [
            ("make", company),
            ("model", word),
            ("year", _number(1980, 2023)),
            ("mileage", _number(1000, 200000)),
            ("price", _number(500, 90000)),
            ("age", _number(0, 30)),
            ("fuel", _pick("gas", "diesel")),
            ("mpg", _number(10, 60, 1)),
        ],
        "restaurants": [
            ("restaurant_name", two),
            ("cuisine", _pick("Thai", "Italian", "Mexican")),
            ("address", lambda r, f: f.street_address()),
            ("city", lambda r, f: f.city()),
            ("rating", _number(1, 5, 1)),
            ("price_range", _pick("$", "$$")),
            ("zip", lambda r, f: str(f.postcode())),
            ("reviews_count", _number(1, 900)),
        ],
        "movies": [
            ("title", two),
            ("release_year", _number(1950, 2023)),
            ("genre", _pick("Drama", "Comedy")),
            ("runtime", _number(60, 200)),
            ("budget", _number(10000, 90000000)),
            ("country", lambda r, f: f.country()),
            ("language", _pick("English", "French", "Hindi")),
            ("imdb_id", _code("tt#######")),
        ],
        "chemistry": [
            ("compound", word),
            ("formula", _code("C#H##O#")),
            ("mass", _number(10, 900, 3)),
            ("cas", _code("#####-##-#")),
            ("melting_point", _number(-100, 900, 1)),
            ("state", _pick("solid", "liquid", "gas")),
            ("name", word),
        ],
        "web_log": [
            ("path", lambda r, f: f.uri_path()),
            ("status_code", _pick("200", "404", "500")),
            ("bytes", _number(100, 90000)),
            ("method", _pick("GET", "POST")),
            ("duration_ms", _number(1, 900)),
            ("browser", _pick("Chrome", "Firefox")),
            ("country_code", _pick("US", "DE", "FR")),
        ],
        "survey_stats": [
            ("state", lambda r, f: _faker("en_US").state()),
            ("population", _number(10000, 9000000)),
            ("median_age", _number(25, 50, 1)),
            ("pct_male", _number(40, 60, 1)),
            ("median_income", _number(20000, 90000)),
            ("unemployment_rate", _number(1, 12, 1)),
            ("year", _number(1990, 2022)),
        ],
    }


def _values(draw: Draw, r: random.Random, f: Faker, rows: int) -> tuple[str, ...]:
    return tuple(draw(r, f) for _ in range(rows))


def _meaningless(r: random.Random, at: int) -> str:
    return r.choice(
        (f"c{at}", f"col_{at}", f"Column{at}", f"V{at}", f"Unnamed: {at}", f"field_{at}", f"x{at}", f"attr{at}")
    )


def _people(r: random.Random, locale: str, rows: int) -> Labelled:
    f = _faker(locale)
    f.seed_instance(r.randrange(1 << 30))
    obscure = r.random() < 0.25
    kinds = r.sample(sorted(_PERSONAL), r.randint(3, 8))
    columns: list[tuple[str, tuple[str, ...], str]] = []
    used: set[str] = set()
    for kind in kinds:
        draws = _PERSONAL[kind]
        for draw, names in r.sample(draws, r.randint(1, len(draws))) if kind == "person_name" else [r.choice(draws)]:
            name = _meaningless(r, len(columns)) if obscure else r.choice(names)
            values = _values(draw, r, f, rows)
            # Under a meaningless name, a bare number or code is nobody's for anyone to see.
            unseen = obscure and kind in ("age", "user_id", "credential", "username", "postal_code", "ethnicity")
            if name not in used and not unseen:
                columns.append((name, values, kind))
                used.add(name)
    for draw, names in r.sample(_PLAIN, r.randint(2, 4)):
        name = _meaningless(r, len(columns)) if obscure else r.choice(names)
        if name not in used:
            columns.append((name, _values(draw, r, f, rows), "none"))
            used.add(name)
    r.shuffle(columns)
    return Labelled(r.choice(_TITLES), locale, tuple(columns))


def labelled_tables(count: int, seed: int = 0, rows: int = 5) -> Iterator[Labelled]:
    """Tables, half of people and half of things, the same for the same arguments."""
    r = random.Random(seed)
    domains = _things()
    for number in range(count):
        locale = LOCALES[number // 2 % len(LOCALES)]
        if number % 2 == 0:
            yield _people(r, locale, rows)
            continue
        domain = sorted(domains)[number // 2 % len(domains)]
        f = _faker(r.choice(("en_US", "de_DE", "fr_FR", "es_ES", "pl_PL")))
        f.seed_instance(r.randrange(1 << 30))
        _faker("en_US").seed_instance(r.randrange(1 << 30))
        chosen = r.sample(domains[domain], min(len(domains[domain]), r.randint(4, 9)))
        columns = [
            (name if r.random() > 0.15 else _meaningless(r, i), _values(draw, r, f, rows), "none")
            for i, (name, draw) in enumerate(chosen)
        ]
        yield Labelled(r.choice((domain, "data", "table_3", f"{domain}_2020")), domain, tuple(columns))
