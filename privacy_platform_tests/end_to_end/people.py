"""Small data that the packaged policies publish whole: people in few large classes and what they did."""

import json
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

Row = dict[str, Any]
FIRST_DAY = datetime(2026, 6, 10, tzinfo=UTC)
_CITIES = (("San Diego", "CA", "92101"), ("Boston", "MA", "02108"), ("Chicago", "IL", "60601"))
_TYPES = ("page_view", "click", "search", "add_to_cart", "purchase")


def person(number: int, **changed: Any) -> Row:
    """One of the users: six classes of age, gender and region together, so that k = 5 holds for 30 and more."""
    city, state, zip_code = _CITIES[number % 3]
    female = number // 3 % 2 == 0
    return {
        "user_id": f"user_{number:06d}",
        "email": f"person{number}@mail.example.com",
        "first_name": "Ada" if female else "Emil",
        "last_name": f"Miller{'abcdefghij'[number % 10]}",
        "age": 31,
        "gender": "female" if female else "male",
        "city": city,
        "state": state,
        "zip_code": zip_code,
        "ip_address": f"192.0.2.{number % 250 + 1}",
        "phone": f"+1 212 555 {number % 10000:04d}",
        "created_at": "2026-03-01T08:00:00Z",
        "last_login": "2026-06-09T09:30:00Z",
        "account_status": "active",
        "subscription_tier": ("free", "premium")[number // 6 % 2],
        "lifetime_value": number + 0.5,
        "total_purchases": number % 7,
    } | changed


def event(number: int, user_id: str, **changed: Any) -> Row:
    """One event; the product and the day follow from the number. The first 600 are of the first minute of a day."""
    kind = _TYPES[number % len(_TYPES)]
    at = FIRST_DAY + timedelta(days=number % 3, seconds=number // 10)
    return {
        "event_id": f"evt-{number:08d}",
        "user_id": user_id,
        "event_type": kind,
        "timestamp": at.strftime("%Y-%m-%dT%H:%M:%SZ"),
        "page_url": f"/products/prod_{number % 4:04d}",
        "referrer": "https://www.example.org/",
        "device_type": ("desktop", "mobile")[number % 2],
        "browser": "Firefox",
        "session_id": f"session-{user_id}-{number % 3}",
        "ip_address": f"192.0.2.{number % 250 + 1}",
        "search_query": "warm socks" if kind == "search" else None,
        "product_id": f"prod_{number % 4:04d}",
        "quantity": 1 if kind == "purchase" else None,
        "price": 9.5 if kind == "purchase" else None,
        "video_id": None,
        "duration_seconds": number % 60,
    } | changed


def people(count: int, start: int = 0) -> list[Row]:
    return [person(number) for number in range(start, start + count)]


def events(users: Sequence[Mapping[str, Any]], count: int, start: int = 0) -> list[Row]:
    """Events whose types, days and devices are spread over all users: 600 of 60 people give groups large enough."""
    chosen = ((number, users[(number + number // 30) % len(users)]) for number in range(start, start + count))
    return [event(number, str(user["user_id"])) for number, user in chosen]


def lines(rows: Iterable[Mapping[str, Any]]) -> list[str]:
    return [json.dumps(row, ensure_ascii=False, separators=(",", ":")) for row in rows]


def write(path: Path, rows: Iterable[Mapping[str, Any] | str]) -> Path:
    """A JSON Lines file of records and of lines that are none."""
    text = [row if isinstance(row, str) else json.dumps(row, ensure_ascii=False) for row in rows]
    path.write_text("".join(f"{line}\n" for line in text), encoding="utf-8")
    return path
