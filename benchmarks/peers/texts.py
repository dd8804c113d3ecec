"""What the peers of the events' path look for in free text: an able author's version of `scrub`, not all of it.

Ours knows some twenty patterns with their check digits, values in other encodings and other groupings of digits. The
peers look for addresses of mail and network, telephone and card numbers, and the person's own values as whole words in
any case. A cheap test goes first, so that texts with nothing in them cost little.
"""

SUSPICIOUS = r"@|%40|[0-9](?:[ ().+-]*[0-9]){6}"
"""What every text matches that one of `PATTERNS` could change."""
PATTERNS: tuple[tuple[str, str], ...] = (
    (r"[A-Za-z0-9_.+'%-]*[A-Za-z0-9_+-](?:@|%40)[A-Za-z0-9_.-]+\.[A-Za-z]{2,24}", "[EMAIL]"),
    (r"\b(?:[0-9]{1,3}\.){3}[0-9]{1,3}\b", "[IP]"),
    (r"\b[2-6][0-9]{3}(?:[ .-]?[0-9]{4}){2}[ .-]?[0-9]{1,7}\b", "[CREDIT_CARD]"),
    (r"(?:\+[1-9]|\b[02-9])(?:[ ().-]{0,3}[0-9]){7,13}\b", "[PHONE]"),
)
"""Pattern → what is written in its place, for RE2, Rust and Java alike."""
TEXTS = ("page_url", "referrer", "search_query")
OWN = {"user_id": "USER_ID", "email": "EMAIL", "first_name": "FIRST_NAME", "last_name": "LAST_NAME", "phone": "PHONE"}
"""The person's fields that are looked for in their texts → the word in the placeholder."""
LEAST = 3
"""Shorter values are not looked for."""
