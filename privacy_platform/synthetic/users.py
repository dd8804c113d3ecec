"""The people: every attribute a pure function of (seed, user number).

Users are numbered from 0 and may be computed in any batches, in any order, on any thread. That is also how
the events know a user's address, devices and activity without a table of users in memory.
"""

from datetime import date, timedelta

import numpy as np
import polars as pl

from privacy_platform.synthetic import draw, pools
from privacy_platform.synthetic.draw import F64, I64, U64

USER_SCHEMA: dict[str, pl.DataType] = {
    "user_id": pl.String(), "email": pl.String(), "first_name": pl.String(), "last_name": pl.String(),
    "age": pl.Int64(), "gender": pl.String(), "city": pl.String(), "state": pl.String(),
    "zip_code": pl.String(), "ip_address": pl.String(), "phone": pl.String(), "created_at": pl.String(),
    "last_login": pl.String(), "account_status": pl.String(), "subscription_tier": pl.String(),
    "lifetime_value": pl.Float64(), "total_purchases": pl.Int64(),
}  # fmt: skip

ONLINE_HOURS = (
    1.6, 1.0, 0.7, 0.5, 0.5, 0.8, 1.6, 2.8, 3.8, 4.4, 4.8, 5.2,
    5.8, 5.4, 5.0, 4.9, 5.0, 5.3, 6.0, 7.2, 8.0, 7.6, 5.8, 3.2,
)  # fmt: skip
"""Relative activity in each hour of the day."""

_BATCH = 1 << 18
_ACCOUNT_YEARS = 4
_DOMAINS = (
    ("example.com", 26), ("example.org", 12), ("example.net", 14), ("mail.example.com", 10),
    ("mail.example.net", 7), ("inbox.example.org", 6), ("post.example.net", 5), ("web.example.com", 5),
    ("home.example.org", 4), ("corp.example.com", 4), ("alumni.example.edu", 3), ("students.example.edu", 2),
    ("office.example.org", 2),
)  # fmt: skip
_EMAIL_STYLES = (
    ("{first}.{last}", 45),
    ("{initial}{last}", 25),
    ("{first}_{last}", 15),
    ("{first}-{last}", 15),
)
_GENDERS = (("female", 0.487), ("male", 0.483), ("non-binary", 0.014), ("undisclosed", 0.016))
_STATUSES = (("active", 0.80), ("inactive", 0.15), ("suspended", 0.05))
_TIERS = (("free", 0.55), ("basic", 0.25), ("premium", 0.15), ("enterprise", 0.05))
_TIER_PURCHASES = np.array([0.8, 5.0, 14.0, 40.0])
_TIER_ORDER = np.array([28.0, 42.0, 75.0, 240.0])
_TIER_FEE = np.array([0.0, 4.99, 14.99, 99.0])
_TIER_ACTIVITY = np.array([0.0, 0.5, 0.9, 1.3])
_STATUS_ACTIVITY = np.array([1.0, 0.12, 0.03])
_ISP_OCTETS = np.array(
    [23, 24, 47, 50, 63, 64, 65, 66, 67, 68, 69, 70, 71, 72, 73, 74, 75, 76, 96, 97, 98, 99, 104, 107, 108,
     162, 172, 173, 174, 184, 192, 198, 204, 207, 208, 209, 216]
)  # fmt: skip
_OCTETS = pl.Series([str(i) for i in range(256)])
_HEXTETS = pl.Series([f"{i:x}" for i in range(1, 1 << 16)])
_AGES = np.arange(13, 96)
_AGE_SHARES = draw.cumulative(
    np.where(_AGES < 18, 0.35 + 0.09 * (_AGES - 13), np.exp(-(((_AGES - 31) / np.where(_AGES < 31, 16, 23)) ** 2)))
    + 0.05 * (_AGES < 80)
    + 0.004
)


def _labels(choices: tuple[tuple[str, float], ...]) -> tuple[pl.Series, F64]:
    return pl.Series([label for label, _ in choices]), draw.cumulative([share for _, share in choices])


def clock_curve(hours: tuple[float, ...] = ONLINE_HOURS) -> tuple[F64, F64]:
    """Points (share of the day's activity, second of the day): the inverse of its distribution function."""
    return np.concatenate([[0.0], draw.cumulative(hours)]), np.arange(0, 86_401, 3600, dtype=np.float64)


def ip_texts(first: U64) -> pl.Series:
    """Addresses made from 64 random bits each: about 92 % IPv4, 8 % IPv6 in the documentation prefix."""
    parts = first.view(np.uint8).reshape(-1, 8).astype(np.int64)
    private = parts[:, 4] < 8
    a = np.where(private, 192, _ISP_OCTETS[parts[:, 0] % len(_ISP_OCTETS)])
    b = np.where(private, 168, parts[:, 1])
    dotted = [_OCTETS.gather(x) for x in (a, b, parts[:, 2], 1 + parts[:, 3] % 254)]
    four = pl.select(pl.concat_str([pl.lit(s) for s in dotted], separator=".")).to_series()
    six = np.flatnonzero(parts[:, 5] < 20)
    if not len(six):
        return four
    groups = first[six].view(np.uint16).reshape(-1, 4).astype(np.int64) % len(_HEXTETS)
    g = [pl.lit(_HEXTETS.gather(groups[:, k])) for k in (0, 1, 3)]
    texts = pl.select(pl.concat_str([pl.lit("2001:db8:"), g[0], pl.lit(":"), g[1], pl.lit("::"), g[2]])).to_series()
    source = np.arange(len(first))
    source[six] = len(first) + np.arange(len(six))
    return pl.concat([four, texts]).gather(source)


def user_ids(numbers: I64) -> pl.Series:
    """``user_000001`` for user number 0, growing past six digits."""
    digits = pl.Series(numbers + 1).cast(pl.String).str.zfill(6)
    return pl.select(pl.lit("user_") + digits).to_series()


class UserSpace:
    """All users of one run, as functions of their number."""

    def __init__(self, seed: int, users: int, end: date, quiet_days: int) -> None:
        """Prepare for ``users`` users whose accounts are all older than the ``quiet_days`` before ``end``."""
        self.seed = seed
        self.users = users
        self._names = pools.names()
        self._cities = pools.cities()
        self._now = draw.epoch_seconds(end + timedelta(days=1))
        self._quiet = quiet_days
        self._curve = clock_curve()
        self._mail_taken = self._taken_addresses()
        self._activity: F64 | None = None

    # -- draws ---------------------------------------------------------------------------------------------

    def _u(self, name: str, counter: U64) -> F64:
        return draw.uniform(draw.stream(self.seed, name), counter)

    def _below(self, name: str, counter: U64, bound: int) -> I64:
        return (self._u(name, counter) * bound).astype(np.int64)

    def _person(self, i: U64) -> tuple[I64, I64, I64, I64]:
        """City, gender, and positions in the pools of first and last names."""
        city = draw.choose(self._cities.weights, self._u("city", i))
        gender = draw.choose(_labels(_GENDERS)[1], self._u("gender", i))
        mix = self._cities.locale_mix[city]
        locale = (self._u("locale", i)[:, None] >= mix).sum(axis=1)
        sex = np.where(gender < 2, gender, self._below("sex", i, 2))
        first = (locale * 2 + sex) * pools.FIRST_BLOCK + self._below("first", i, pools.FIRST_BLOCK)
        last = locale * pools.LAST_BLOCK + self._below("last", i, pools.LAST_BLOCK)
        return city, gender, first, last

    def _age(self, i: U64) -> I64:
        return np.asarray(_AGES[draw.choose(_AGE_SHARES, self._u("age", i))])

    def _status(self, i: U64) -> I64:
        return draw.choose(_labels(_STATUSES)[1], self._u("status", i))

    def _tier(self, i: U64, age: I64) -> I64:
        tier = draw.choose(_labels(_TIERS)[1], self._u("tier", i))
        return np.where(age < 18, np.minimum(tier, 1), tier)

    def _mail_parts(self, i: U64, age: I64) -> tuple[I64, I64, I64]:
        """Style, domain and number of an address; number: 0 none, 1-100 two digits plus one, then itself."""
        style = draw.choose(_labels(_EMAIL_STYLES)[1], self._u("mail/style", i))
        domain = draw.choose(_labels(_DOMAINS)[1], self._u("mail/domain", i))
        u = self._u("mail/number", i)
        birth = (1970 + self._now // 31_556_952 - age) % 100
        number = np.where(u < 0.3, 1 + birth, np.where(u < 0.55, 110 + self._below("mail/n", i, 9_890), 0))
        return style, domain, number

    def _taken_addresses(self) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
        """Whose address an earlier user has: they get a longer number, which makes addresses unique."""
        initials = np.array([ord(name[0]) for name in self._names.first_ascii], dtype=np.int64)
        keys = np.empty(self.users, dtype=np.uint64)
        for low in range(0, self.users, _BATCH):
            i = np.arange(low, min(low + _BATCH, self.users), dtype=np.uint64)
            _, _, first, last = self._person(i)
            style, domain, number = self._mail_parts(i, self._age(i))
            given = np.where(style == 1, initials[first], self._names.first_key[first])
            packed = (((given << 15 | self._names.last_key[last]) << 14 | number) << 4 | domain) << 3 | style
            keys[low : low + len(i)] = packed.astype(np.uint64)
        return pl.Series(keys).is_first_distinct().not_().to_numpy()

    # -- columns -------------------------------------------------------------------------------------------

    def _emails(self, i: U64, first: I64, last: I64, age: I64) -> pl.Series:
        style, domain, number = self._mail_parts(i, age)
        two = (number > 0) & (number <= 100)
        code = np.where(self._mail_taken[i.astype(np.int64)], 10_000 + i.astype(np.int64), number)
        taken = code >= 10_000
        given = self._names.first_ascii.gather(first)
        digits = pl.Series(np.where(two & ~taken, number - 1, code)).cast(pl.String)
        frame = pl.DataFrame({
            "g": given, "l": self._names.last_ascii.gather(last), "d": digits, "style": style,
            "two": two & ~taken, "none": code == 0, "domain": _labels(_DOMAINS)[0].gather(domain),
        })  # fmt: skip
        return frame.select(
            pl.concat_str(
                pl.when(pl.col("style") == 1).then(pl.col("g").str.slice(0, 1)).otherwise(pl.col("g")),
                pl.lit(pl.Series([".", "", "_", "-"])).gather(pl.col("style")),
                pl.col("l"),
                pl.when("none").then(pl.lit("")).when("two").then(pl.col("d").str.zfill(2)).otherwise(pl.col("d")),
                pl.lit("@"),
                pl.col("domain"),
            )
        ).to_series()

    def _phones(self, i: U64, city: I64) -> pl.Series:
        slot = city * pools.PHONE_FORMATS + self._below("phone/format", i, pools.PHONE_FORMATS)
        tail = self._cities.phone_tail[slot]
        number = (self._u("phone", i) * self._cities.tail_count[tail]).astype(np.int64)
        prefix = self._cities.phone_prefix.gather(slot)
        return prefix + self._cities.tails.gather(self._cities.tail_start[tail] + number)

    def _dates(self, i: U64, status: I64) -> tuple[I64, I64]:
        """Seconds since 1970 of created_at and last_login (never before it, never after ``end``)."""
        span = _ACCOUNT_YEARS * 365
        day = self._quiet + np.floor(span * self._u("created", i) ** 1.6).astype(np.int64)
        second = np.interp(self._u("created/clock", i), *self._curve).astype(np.int64) % 86_400
        created = self._now - (day + 1) * 86_400 + second
        recent = -np.log1p(-self._u("login", i)) * 9 * 86_400
        long_ago = (60 + 400 * self._u("login", i)) * 86_400
        ago = np.where(status == 0, recent, long_ago).astype(np.int64)
        last_day = (self._now - 1 - ago) // 86_400 * 86_400
        login = last_day + np.interp(self._u("login/clock", i), *self._curve).astype(np.int64) % 86_400
        return created, np.maximum(login, created)

    def _money(self, i: U64, tier: I64, created: I64) -> tuple[I64, F64]:
        months = (self._now - created) / (30.4 * 86_400)
        keenness = np.exp(0.8 * draw.normal(self.seed, "keen", i)) * np.minimum(months / 18, 1.6)
        purchases = np.floor(_TIER_PURCHASES[tier] * keenness + self._u("purchases", i) * 0.9).astype(np.int64)
        order = _TIER_ORDER[tier] * np.exp(0.35 * draw.normal(self.seed, "order", i))
        value = purchases * order + _TIER_FEE[tier] * np.floor(months * self._u("paying", i))
        return purchases, np.round(value, 2)

    def ip(self, numbers: I64) -> pl.Series:
        """The home addresses of some users."""
        return ip_texts(draw.bits(draw.stream(self.seed, "ip"), numbers.astype(np.uint64)))

    def activity(self, numbers: I64) -> F64:
        """Relative number of sessions of some users: log-normal, so a few have very many."""
        i = numbers.astype(np.uint64)
        tier = self._tier(i, self._age(i))
        spread = np.exp(_TIER_ACTIVITY[tier] + 1.25 * draw.normal(self.seed, "activity", i))
        return np.asarray(spread * _STATUS_ACTIVITY[self._status(i)])

    def prepare_activity(self) -> None:
        """Compute what `pick_active` needs: eight bytes a user."""
        parts = [self.activity(np.arange(low, min(low + _BATCH, self.users))) for low in range(0, self.users, _BATCH)]
        self._activity = draw.cumulative(np.concatenate(parts))

    def pick_active(self, u: F64) -> I64:
        """User numbers drawn by uniform numbers in proportion to activity."""
        if self._activity is None:
            self.prepare_activity()
        assert self._activity is not None  # noqa: S101 - for the type checker
        return draw.choose(self._activity, u)

    def frame(self, numbers: I64, *, typed: bool = False) -> pl.DataFrame:
        """The users with these numbers, in `USER_SCHEMA`; real timestamps instead of text when ``typed``."""
        i = numbers.astype(np.uint64)
        city, gender, first, last = self._person(i)
        age, status = self._age(i), self._status(i)
        tier = self._tier(i, age)
        created, login = self._dates(i, status)
        purchases, value = self._money(i, tier, created)
        postcode = (self._u("postcode", i) * self._cities.postcode_count[city]).astype(np.int64)
        return pl.DataFrame({
            "user_id": user_ids(numbers),
            "email": self._emails(i, first, last, age),
            "first_name": self._names.first.gather(first),
            "last_name": self._names.last.gather(last),
            "age": age,
            "gender": _labels(_GENDERS)[0].gather(gender),
            "city": self._cities.city.gather(city),
            "state": self._cities.state.gather(city),
            "zip_code": self._cities.postcodes.gather(self._cities.postcode_start[city] + postcode),
            "ip_address": self.ip(numbers),
            "phone": self._phones(i, city),
            "created_at": _stamp(created, typed),
            "last_login": _stamp(login, typed),
            "account_status": _labels(_STATUSES)[0].gather(status),
            "subscription_tier": _labels(_TIERS)[0].gather(tier),
            "lifetime_value": value,
            "total_purchases": purchases,
        })  # fmt: skip


def _stamp(epoch: I64, typed: bool) -> pl.Series:
    if typed:
        return pl.Series(epoch * 1000).cast(pl.Datetime("ms", "UTC"))
    return draw.iso_seconds(epoch)
