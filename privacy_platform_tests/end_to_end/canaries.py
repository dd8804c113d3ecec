"""Fifty planted people whose names, addresses and numbers occur nowhere else, and the search for them.

Every value of a canary holds one of few stems, so the absence of the stems, in any of the encodings they could hide in,
is the absence of all values.
"""

import base64
import os
import re
import unicodedata
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import psycopg

from privacy_platform_tests.end_to_end.homes import Home
from privacy_platform_tests.end_to_end.people import FIRST_DAY, Row, event, events, lines, people, person

COUNT = 50
_FIRST, _LAST, _MAIL, _ID, _SESSION, _IP = (
    "qwyzeld",
    "vrxthorp",
    "@canary-post.example",
    "kanarie-id-",
    "kanarie-session-",
    "198.51.100.1",
)
STEMS = (_FIRST, _LAST, _MAIL, _ID, _SESSION, _IP)


def canary(number: int) -> Row:
    """One planted person; every seventh has letters beyond ASCII in the name."""
    suffix = f"{'abcdefghij'[number // 10]}{'klmnopqrst'[number % 10]}"
    accent = "ä" if number % 7 == 0 else "a"
    first, last = f"Qwyzeld{accent}{suffix}", f"Vrxthorp{suffix}"
    return person(
        number,
        user_id=f"{_ID}{number:04d}",
        email=f"Qwyzelda{suffix}.{last}{_MAIL}".replace("Q", "qQ"[number % 2]),
        first_name=first,
        last_name=last,
        ip_address=f"{_IP}{number:02d}",
        phone=f"+1-619-555-{7000 + number}",
    )


CANARIES = [canary(number) for number in range(COUNT)]


def said_by(own: Row, other: Row) -> list[tuple[str, str]]:
    """(search_query, page_url) pairs in which somebody's values hide: the writer's own, and what others' look like."""
    first, last, email = own["first_name"], own["last_name"], own["email"]
    phone, digits = own["phone"], own["phone"].replace("-", "").replace("+", "")
    decomposed = unicodedata.normalize("NFD", first)
    return [
        (f"order of {email}", f"/account?email={quote(email, safe='')}&ok=1"),
        (f"{first} {last}", f"/search?q={quote(f'{first} {last}')}"),
        (f"GIFT FOR {first.upper()} {last.upper()}'S DOG", f"/hello/{first.lower()}-{last.lower()}/index.html"),
        (f"{last}, {first} ({own['user_id']})", f"/u/{own['user_id']}?name={first}+{last}"),
        (f"call {phone} or {digits}", f"/call?tel={quote(phone, safe='')}"),
        (f"my address is {own['ip_address']}", f"/from/{own['ip_address']}?x=1"),
        (f"write to {other['email']} please", f"/share?to={quote(other['email'], safe='')}"),
        (f"call {other['phone']}", f"/tel?n={other['phone']}"),
        (f"host {other['ip_address']} port 80", f"/ping?host={other['ip_address']}"),
        (f"{decomposed} {last}", f"/n/{quote(decomposed)}_{last}"),
        (f"{first}_{last}", f"/users/{first}_{last}"),
    ]


def user_lines() -> list[str]:
    """The users' file: good people, the canaries, and broken lines that tell of canaries."""
    good = [*people(120), *CANARIES]
    a, b = canary(0), canary(1)
    a["user_id"], b["user_id"] = f"{_ID}bad-a", f"{_ID}bad-b"
    written = lines(good)
    broken = [
        written[-1][:200],
        f"{CANARIES[3]['first_name']} {CANARIES[3]['email']} was here",
        *lines([a | {"age": CANARIES[4]["email"]}, b | {"created_at": CANARIES[5]["first_name"]}]),
        *lines([canary(6) | {"user_id": None}, canary(7) | {"total_purchases": CANARIES[7]["phone"]}]),
    ]
    return written + broken


QUARANTINED_USERS = 6


def event_lines() -> list[str]:
    """The events' file: texts of canaries, strangers, events of a person whose own row was bad, broken lines."""
    rows = events([*people(120), *CANARIES], 600)
    for number, own in enumerate(CANARIES):
        other = CANARIES[(number + 1) % COUNT]
        for place, (query, url) in enumerate(said_by(own, other)):
            rows.append(
                event(
                    10_000 + 100 * number + place,
                    own["user_id"],
                    event_type="search",
                    search_query=query,
                    page_url=url,
                    referrer=f"https://shop.example.org{url}" if place in (0, 6) else None,
                    session_id=f"{_SESSION}{number:04d}",
                    ip_address=own["ip_address"],
                )
            )
    own = CANARIES[9]
    stranger = event(90_001, f"{_ID}stranger", search_query=own["email"])
    of_bad_row = event(90_002, f"{_ID}bad-a", search_query=own["first_name"])
    broken = [
        lines([event(90_003, own["user_id"], search_query=own["email"])])[0][:-20],
        *lines(
            [event(90_004, own["user_id"], price=own["email"]), event(90_005, own["user_id"], timestamp=own["phone"])]
        ),
        *lines([event(90_006, own["user_id"]) | {"event_id": None, "search_query": own["last_name"]}]),
    ]
    return [*lines([*rows, stranger, of_bad_row]), *broken]


QUARANTINED_EVENTS = 4
STRANGERS = 2
DAYS = [FIRST_DAY.date().replace(day=FIRST_DAY.day + offset) for offset in range(3)]


def _encodings(stem: str) -> Iterator[bytes]:
    plain = stem.encode()
    yield plain
    yield plain.hex().encode()
    yield quote(stem, safe="").lower().encode()
    yield "".join(f"%{byte:02x}" for byte in plain).encode()
    yield "".join(f"{character}\x00" for character in stem).encode()
    for text in (plain, plain.upper(), plain.capitalize()):
        for shift in range(3):
            # Of a text inside a longer one only those characters are certain that hold nothing of its neighbours.
            coded = base64.b64encode(b"\x00" * shift + text)
            yield coded[-(-8 * shift // 6) : 8 * (shift + len(text)) // 6].lower()


_NEEDLES = {
    *(needle for stem in STEMS for needle in _encodings(stem)),
    *(re.sub(r"\D", "", row["phone"]).encode() for row in CANARIES),
    *(row["phone"][3:].replace("-", between).encode() for row in CANARIES for between in "-. "),
}
_FOUND = re.compile(b"|".join(re.escape(needle) for needle in sorted(_NEEDLES, key=len, reverse=True)))
_OVERLAP = 256


def traces(data: bytes) -> set[bytes]:
    """What of the canaries occurs in some bytes."""
    return set(_FOUND.findall(data.lower()))


def traces_in_file(path: Path) -> set[bytes]:
    found: set[bytes] = set()
    tail = b""
    with path.open("rb") as file:
        while block := file.read(8 * 2**20):
            if block.count(0) != len(block):
                found |= traces(tail + block)
            tail = block[-_OVERLAP:]
    return found


def traces_in_files(folder: Path, *, apart: tuple[Path, ...]) -> dict[str, set[bytes]]:
    """The files below a folder that hold something of the canaries, but those of some folders."""
    found = {}
    for parent, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if Path(parent, name) not in apart]
        for path in (Path(parent, name) for name in names):
            if path in apart or not path.is_file() or path.is_symlink():
                continue
            if held := traces_in_file(path):
                found[str(path.relative_to(folder))] = held
    return found


def traces_in_tables(home: Home, *schemas: str, database: str | None = None) -> dict[str, set[bytes]]:
    """The tables that hold something of the canaries, bytes as hexadecimal text; comments and names included."""
    names = [*home.tables(*schemas, database=database), "pg_catalog.pg_description", "pg_catalog.pg_class"]
    with home.connect(database=database) as connection:
        found = {name: traces_in_query(connection, f"SELECT t.* FROM {name} t") for name in names}
    return {name: held for name, held in found.items() if held}


def traces_in_query(connection: psycopg.Connection, query: str) -> set[bytes]:
    """What of the canaries occurs in the answer to a query."""
    with connection.cursor().copy(f"COPY ({query}) TO STDOUT".encode()) as copy:
        return traces(b"".join(bytes(block) for block in copy))
