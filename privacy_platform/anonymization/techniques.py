"""The techniques of policy files: what may become of a value, as pure Polars expressions.

Contract of every technique: deterministic given its parameters and secrets; null stays null (but `suppress` and
`generalize` to `*` hide even that); text is treated as Unicode; the value itself never comes out, except by `keep`,
`truncate`, whose `protects` is false, and the levels of `generalize` that only fields of sensitivity low or none may
have. Remarks: `scrub` changes only what it finds, and `mask` leaves what is masked already as it is, e.g. a network
address ending in `.0`. What cannot be understood (an invalid address, a number out of range) becomes null or fully
masked: fail closed.

Each class says in one sentence what it protects against (`guards`), what it does not (`leaves`), and whether
the result is personal data still (`remains`); documentation and the policy explainer print these.

The exception to all that is `noise`: it draws anew each time, and may by chance leave a number as it is.
"""

import hashlib
import hmac
import re
from abc import abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from itertools import pairwise
from typing import Annotated, ClassVar, Literal, Self

import polars as pl
import polars_hash  # noqa: F401 - registers the `chash` namespace
from pydantic import BaseModel, ConfigDict, Field, StringConstraints, model_validator

from privacy_platform.anonymization.distinct import for_each_distinct
from privacy_platform.anonymization.hierarchies import ANY, Hierarchy, HierarchyReference, load
from privacy_platform.anonymization.own_values import scrub_own
from privacy_platform.anonymization.ranges import finite, range_index, range_labels
from privacy_platform.anonymization.rules import OutputRule
from privacy_platform.detection import patterns
from privacy_platform.errors import PrivacyPlatformError

__all__ = [
    "Bucket",
    "Generalize",
    "Hash",
    "Hmac",
    "Keep",
    "Mask",
    "MaskIp",
    "MaskPhone",
    "MaskZip",
    "Noise",
    "Scrub",
    "Secrets",
    "Suppress",
    "Technique",
    "TechniqueError",
    "Tokenize",
    "Truncate",
]

Hierarchies = Callable[[str], Hierarchy]
OutputType = Literal["text", "same"]
Domain = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_.-]*$", max_length=63)]
FieldName = Annotated[str, StringConstraints(min_length=1, max_length=63)]


class TechniqueError(PrivacyPlatformError):
    """A technique cannot be applied to this policy; the message names the field and the mend."""


@dataclass(frozen=True)
class Secrets:
    """The secrets of techniques: hex text, whose ASCII bytes are the HMAC key. Never shown in a repr.

    Attributes:
        token_key: Key of `tokenize`.
        hmac_key: Key of `hmac`.
        release_salt: Key of `hash`: made for one release and thrown away after it.
    """

    token_key: str = field(repr=False)
    hmac_key: str = field(repr=False)
    release_salt: str = field(repr=False)

    def __post_init__(self) -> None:
        for name in ("token_key", "hmac_key", "release_salt"):
            if not re.fullmatch(r"[0-9a-f]{32,}", getattr(self, name)):
                raise TechniqueError(f"secret {name} must be at least 32 lower-case hex digits")


def _subkey(key: str, domain: str | None) -> str:
    """A key of its own for a domain, so that equal values of two domains cannot be joined."""
    return hmac.digest(key.encode(), b"domain:" + domain.encode(), hashlib.sha256).hex() if domain else key


def _keyed(column: pl.Expr, key: str, normalize: "Normalize" = "none") -> pl.Expr:
    """64 hex digits of HMAC-SHA256 (RFC 2104) of the normalized value's UTF-8 text; the key is the key text's bytes."""

    def digests(values: pl.Series) -> pl.Series:
        text = _normalized(pl.col(values.name), normalize)
        return values.to_frame().select(text.chash.hmac_sha256(key=key)).to_series()  # type: ignore[attr-defined]

    return for_each_distinct(column.cast(pl.String), digests)


class _Base(BaseModel):
    """What every technique offers. Subclasses are frozen parameter models, as written in policy files."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    protects: ClassVar[bool] = True
    """False when the output still is the value, or nearly: such an output is an identity path in lineage."""
    guards: ClassVar[str]
    leaves: ClassVar[str]
    remains: ClassVar[str]

    @abstractmethod
    def expr(
        self,
        column: pl.Expr,
        *,
        secrets: Secrets,
        context: Mapping[str, pl.Expr] | None = None,
        hierarchies: Hierarchies = load,
    ) -> pl.Expr:
        """The kernel: an expression of the same height.

        Args:
            column: The raw column.
            secrets: Keys and salt; they travel inside the expression: build it in the worker that runs it.
            context: The record's other raw fields by name (used by `scrub`).
            hierarchies: Where `generalize` finds its hierarchy.

        Raises:
            TechniqueError: A field named in the parameters is not in the context.
            HierarchyError: The hierarchy or its level does not exist.
        """

    @property
    def output_type(self) -> OutputType:
        """`text`, or `same` as the source column."""
        return "text"

    @property
    def shape(self) -> str | None:
        """Regex that every non-null output must fully match; None when outputs are scanned instead."""
        return None

    def vocabulary(self, hierarchies: Hierarchies = load) -> frozenset[str] | None:
        """Every text that can come out when those are known beforehand (labels), else None."""
        return None

    def output_rule(self, hierarchies: Hierarchies = load) -> OutputRule:
        """What the leak finder demands of the output column."""
        labels = self.vocabulary(hierarchies)
        if labels is not None:
            return OutputRule(allowed=labels, closed=True)
        return OutputRule(shape=self.shape)


Normalize = Literal["none", "casefold", "email"]


def _normalized(column: pl.Expr, how: Normalize) -> pl.Expr:
    """The text that is compared: as it is, or without regard to case and surrounding blanks."""
    text = column.cast(pl.String)
    if how == "casefold":
        return text.str.strip_chars().str.normalize("NFC").str.to_lowercase()
    return text.str.strip_chars().str.to_lowercase() if how == "email" else text


class Hash(_Base):
    """64 hex digits keyed by the release salt, which is thrown away: cannot be linked between releases."""

    guards: ClassVar[str] = (
        "Reading the value, guessing it from a list of candidates, and linking two releases, once the "
        "salt is thrown away."
    )
    leaves: ClassVar[str] = (
        "Equal values stay equal within one release, so frequent values can be told by their counts."
    )
    remains: ClassVar[str] = "Pseudonymous: still personal data while the record stands for one person."

    name: Literal["hash"] = "hash"
    normalize: Normalize = "none"
    domain: Domain | None = None

    def expr(
        self,
        column: pl.Expr,
        *,
        secrets: Secrets,
        context: Mapping[str, pl.Expr] | None = None,
        hierarchies: Hierarchies = load,
    ) -> pl.Expr:
        """HMAC-SHA256 under the release salt."""
        return _keyed(column, _subkey(secrets.release_salt, self.domain), self.normalize)

    @property
    def shape(self) -> str:
        """64 hex digits."""
        return "[0-9a-f]{64}"


class Hmac(_Base):
    """64 hex digits keyed by a kept key: consistent, so it joins across tables and releases."""

    guards: ClassVar[str] = "Reading the value, and guessing it from a list of candidates without the key."
    leaves: ClassVar[str] = "Joins every record of the same value by design; whoever holds the key can test candidates."
    remains: ClassVar[str] = "Pseudonymous: still personal data."

    name: Literal["hmac"] = "hmac"
    normalize: Normalize = "none"
    domain: Domain | None = Field(default=None, description="Equal values of different domains do not join.")

    def expr(
        self,
        column: pl.Expr,
        *,
        secrets: Secrets,
        context: Mapping[str, pl.Expr] | None = None,
        hierarchies: Hierarchies = load,
    ) -> pl.Expr:
        """HMAC-SHA256 under the kept key, or the domain's key derived from it."""
        return _keyed(column, _subkey(secrets.hmac_key, self.domain), self.normalize)

    @property
    def shape(self) -> str:
        """64 hex digits."""
        return "[0-9a-f]{64}"


class Tokenize(_Base):
    """`tok_` and 32 hex digits: the same for a data subject everywhere, reversible through the vault only."""

    guards: ClassVar[str] = "Reading or guessing the identifier without the key; analysts cannot reverse it."
    leaves: ClassVar[str] = (
        "Links all records of a data subject by design; compliance reverses it through the vault until erasure."
    )
    remains: ClassVar[str] = "Pseudonymous: still personal data, until the subject's vault row is destroyed."

    name: Literal["tokenize"] = "tokenize"

    def expr(
        self,
        column: pl.Expr,
        *,
        secrets: Secrets,
        context: Mapping[str, pl.Expr] | None = None,
        hierarchies: Hierarchies = load,
    ) -> pl.Expr:
        """The first 128 bits of HMAC-SHA256 under the token key."""
        return pl.lit("tok_") + _keyed(column, secrets.token_key).str.head(32)

    @property
    def shape(self) -> str:
        """`tok_` and 32 hex digits."""
        return "tok_[0-9a-f]{32}"


class Generalize(_Base):
    """The value's group at a level of a hierarchy; `*` for values the hierarchy does not know."""

    guards: ClassVar[str] = "Singling out by an exact value: many people share a group."
    leaves: ClassVar[str] = "A small group, or one combined with other columns, can still single out; see k-anonymity."
    remains: ClassVar[str] = "Personal data as long as the record stands for one person; less identifying."

    model_config = ConfigDict(serialize_by_alias=True)

    name: Literal["generalize"] = "generalize"
    hierarchy: HierarchyReference
    level: FieldName | None = Field(default=None, description="The level to publish; without it the search chooses.")
    finest: FieldName | None = Field(default=None, alias="from", description="The finest level the search may choose.")
    coarsest: FieldName = Field(default=ANY, alias="up_to", description="The coarsest level it may choose.")

    @model_validator(mode="after")
    def _level_or_bounds(self) -> Self:
        if self.level is not None and (self.finest is not None or self.coarsest != ANY):
            raise ValueError("`level` pins the level: leave `from` and `up_to` out, or leave out `level`")
        return self

    def rule(self, hierarchies: Hierarchies = load) -> Hierarchy:
        """The hierarchy itself."""
        return hierarchies(self.hierarchy) if isinstance(self.hierarchy, str) else self.hierarchy

    def allowed(self, *, sealed: bool = True, hierarchies: Hierarchies = load) -> tuple[str, ...]:
        """The levels that may be published, finest first; just one if the level is pinned.

        Args:
            sealed: Whether the field is of sensitivity high or medium, so that the value itself must never come out:
                without `from`, the finest level is then the first above the leaf.
            hierarchies: Where hierarchies are found by name.

        Raises:
            HierarchyError: A level does not exist, or `up_to` is finer than `from`.
        """
        rule = self.rule(hierarchies)
        if self.level is not None:
            return rule.between(self.level, self.level)
        finest = self.finest or rule.levels[1 if sealed and rule.levels[0] == rule.leaf else 0]
        return rule.between(finest, self.coarsest)

    @property
    def output_type(self) -> OutputType:
        """`text`, but for a date hierarchy the source column's."""
        return "text" if isinstance(self.hierarchy, str) or not self.hierarchy.keeps_type else "same"

    def expr(
        self,
        column: pl.Expr,
        *,
        secrets: Secrets,
        context: Mapping[str, pl.Expr] | None = None,
        hierarchies: Hierarchies = load,
    ) -> pl.Expr:
        """What all values at the level are published as: labels, or dates cut to their period."""
        if self.level is None:
            raise TechniqueError("generalize: no level was chosen yet; pin `level` or let the search choose one")
        return self.rule(hierarchies).published(column, self.level)

    def vocabulary(self, hierarchies: Hierarchies = load) -> frozenset[str] | None:
        """The labels of the levels that may be published and `*`; None when not all are known beforehand."""
        rule = self.output_rule(hierarchies)
        return rule.allowed if rule.closed else None

    def output_rule(self, hierarchies: Hierarchies = load) -> OutputRule:
        """A label of one of the levels that may be published, never a finer one."""
        return self.rule(hierarchies).output_rule(self.allowed(hierarchies=hierarchies))

    def check(self, kind: str, *, sealed: bool, hierarchies: Hierarchies = load) -> None:
        """Refuse what cannot be published or chosen.

        Args:
            kind: The field's type, as in policy files.
            sealed: Whether the field is of sensitivity high or medium.
            hierarchies: Where hierarchies are found by name.

        Raises:
            HierarchyError: No such hierarchy or level.
            TechniqueError: The hierarchy does not fit the type, or the value itself would come out.
        """
        rule = self.rule(hierarchies)
        if kind not in rule.fits:
            raise TechniqueError(f"generalize: {rule.title} fits fields of type {', '.join(sorted(rule.fits))}")
        finest = self.allowed(sealed=sealed, hierarchies=hierarchies)[0]
        if finest == rule.leaf and (sealed or self.level is not None):
            raise TechniqueError(
                f"generalize: level {finest!r} of {rule.title} is the value itself; choose a coarser level"
            )


def _either(
    values: pl.Series,
    plain: pl.Series,
    easily: Callable[[pl.Series], pl.Series],
    carefully: Callable[[pl.Series], pl.Series],
) -> pl.Series:
    """`easily` of the values that are plain, `carefully` of the others; null stays null."""
    rest = (~plain).arg_true()
    result = easily(values)
    return result if rest.is_empty() else result.scatter(rest, carefully(values.gather(rest)))


class MaskPhone(_Base):
    """A phone number's last digits: `***-***-4567`."""

    guards: ClassVar[str] = "Calling or looking up the person."
    leaves: ClassVar[str] = "The last digits narrow a known list of candidates ten-thousandfold."
    remains: ClassVar[str] = "Personal data as long as the record stands for one person."

    name: Literal["mask"] = "mask"
    kind: Literal["phone"] = "phone"
    keep_last: int = Field(default=4, ge=1, le=4)
    template: str = Field(default="***-***-{}", pattern=r"^[*() .+-]*\{\}$")

    def expr(
        self,
        column: pl.Expr,
        *,
        secrets: Secrets,
        context: Mapping[str, pl.Expr] | None = None,
        hierarchies: Hierarchies = load,
    ) -> pl.Expr:
        """Keep the last digits (extensions apart); fewer than `keep_last` + 3 digits are masked fully."""
        return column.cast(pl.String).map_batches(self._masked, return_dtype=pl.String, is_elementwise=True)

    def _masked(self, numbers: pl.Series) -> pl.Series:
        """The kernel on a whole series; what has an extension, or no digits at its end, goes the long way."""
        lead = self.template.removesuffix("{}")
        plain = numbers.str.contains(rf"^[^0-9xX#]*(?:[0-9][^0-9xX#]*){{3,}}[0-9]{{{self.keep_last}}}$")
        return _either(numbers, plain, lambda texts: lead + texts.str.tail(self.keep_last), self._masked_any)

    def _masked_any(self, numbers: pl.Series) -> pl.Series:
        digits = numbers.str.replace(r"(?i)(?:x|ext|#).*$", "").str.replace_all(r"[^0-9]", "").alias("digits")
        lead = pl.lit(self.template.removesuffix("{}"))
        text = pl.col("digits")
        masked = (
            pl.when(text.str.len_bytes() >= self.keep_last + 3)
            .then(lead + text.str.tail(self.keep_last))
            .otherwise(lead + pl.lit("*" * self.keep_last))
        )
        return digits.to_frame().select(masked).to_series()

    @property
    def shape(self) -> str:
        """The template with digits or stars."""
        lead = re.escape(self.template.removesuffix("{}"))
        return f"{lead}(?:[0-9]{{{self.keep_last}}}|\\*{{{self.keep_last}}})"


class MaskZip(_Base):
    """A postal code's first characters: `921**`."""

    guards: ClassVar[str] = "Placing the person in a neighborhood: the prefix covers a whole district."
    leaves: ClassVar[str] = "Some prefixes cover few people; combined with other columns they can single out."
    remains: ClassVar[str] = "Personal data as long as the record stands for one person; less identifying."

    name: Literal["mask"] = "mask"
    kind: Literal["zip"] = "zip"
    keep_first: int = Field(default=3, ge=1, le=3)

    def expr(
        self,
        column: pl.Expr,
        *,
        secrets: Secrets,
        context: Mapping[str, pl.Expr] | None = None,
        hierarchies: Hierarchies = load,
    ) -> pl.Expr:
        """Keep a prefix when at least two characters stay hidden and all are plain letters or digits."""
        return column.cast(pl.String).map_batches(self._masked, return_dtype=pl.String, is_elementwise=True)

    def _masked(self, codes: pl.Series) -> pl.Series:
        """The kernel on a whole series; only what is not written plainly goes the long way."""

        def prefix(texts: pl.Series) -> pl.Series:
            return texts.str.head(self.keep_first) + "**"

        def cleaned(texts: pl.Series) -> pl.Series:
            code = texts.str.to_uppercase().str.replace_all(r"[ -]", "")
            return prefix(code).zip_with(code.str.contains(form), pl.Series(["*" * (self.keep_first + 2)]))

        form = f"^[0-9A-Z]{{{self.keep_first + 2},}}$"
        return _either(codes, codes.str.contains(form), prefix, cleaned)

    @property
    def shape(self) -> str:
        """Prefix and two stars, or stars."""
        return f"[0-9A-Z]{{{self.keep_first}}}\\*\\*|\\*{{{self.keep_first + 2}}}"


_OCTET = r"(?:25[0-5]|2[0-4][0-9]|1[0-9]{2}|[1-9]?[0-9])"


_IPV4 = rf"^{_OCTET}\.{_OCTET}\.{_OCTET}\.{_OCTET}$"


class MaskIp(_Base):
    """The network of an IP address: `192.168.1.0` (/24), or `2001:db8:12::` (/48)."""

    guards: ClassVar[str] = "Recognizing one device or household by its address."
    leaves: ClassVar[str] = "The network tells provider, company or region; small networks have few users."
    remains: ClassVar[str] = "Personal data as long as the record stands for one person; less identifying."

    name: Literal["mask"] = "mask"
    kind: Literal["ip"] = "ip"

    def expr(
        self,
        column: pl.Expr,
        *,
        secrets: Secrets,
        context: Mapping[str, pl.Expr] | None = None,
        hierarchies: Hierarchies = load,
    ) -> pl.Expr:
        """Zero the host part; an IPv4-mapped IPv6 address counts as IPv4; anything invalid becomes null."""
        return column.cast(pl.String).map_batches(_network, return_dtype=pl.String, is_elementwise=True)

    @property
    def shape(self) -> str:
        """A network address."""
        return rf"{_OCTET}\.{_OCTET}\.{_OCTET}\.0|(?:[0-9a-f]{{1,4}}:){{1,3}}:|::"

    def output_rule(self, hierarchies: Hierarchies = load) -> OutputRule:
        """A raw address may be a network address already; the shape shows that it is no more."""
        return OutputRule(shape=self.shape, may_coincide=True)


def _network(addresses: pl.Series) -> pl.Series:
    """Kernel of :class:`MaskIp` on a whole series; only what is not IPv4 takes the longer way."""
    text = addresses.str.strip_chars()

    def network_v4(texts: pl.Series) -> pl.Series:
        return texts.str.strip_chars_end("0123456789") + "0"

    def network_other(texts: pl.Series) -> pl.Series:
        mapped = texts.str.extract(rf"^(?i:::ffff:(?:0:)?)({_OCTET}\.{_OCTET}\.{_OCTET}\.){_OCTET}$") + "0"
        return mapped.zip_with(mapped.is_not_null(), _network_v6(texts))

    return _either(text, text.str.contains(_IPV4), network_v4, network_other)


def _network_v6(addresses: pl.Series) -> pl.Series:
    """The /48 of each valid IPv6 address (RFC 4291, written as RFC 5952 demands), null for anything else."""
    text, left, right = pl.col("text"), pl.col("left"), pl.col("right")
    groups = r"^(?:[0-9a-f]{1,4}(?::[0-9a-f]{1,4})*)?$"
    count = {
        side: pl.when(pl.col(side) == "").then(0).otherwise(pl.col(side).str.count_matches(":", literal=True) + 1)
        for side in ("left", "right")
    }
    compressed = right.is_not_null()

    def group(index: int) -> pl.Expr:
        before_right = pl.lit(8, dtype=pl.Int64) - pl.col("n_right").cast(pl.Int64)
        parts = (
            pl.when(index < pl.col("n_left"))
            .then(left.str.split(":").list.get(index, null_on_oob=True))
            .when(index < before_right)
            .then(pl.lit("0"))
            .otherwise(right.str.split(":").list.get(index - before_right, null_on_oob=True))
        )
        return parts.str.replace(r"^0+([0-9a-f])", "$1")

    frame = (
        addresses.str.to_lowercase()
        .alias("text")
        .to_frame()
        .with_columns(text.str.splitn("::", 2).struct.rename_fields(["left", "right"]).alias("halves"))
        .unnest("halves")
        .with_columns(count["left"].alias("n_left"), count["right"].fill_null(0).alias("n_right"))
    )
    valid = (
        left.str.contains(groups)
        & right.fill_null("").str.contains(groups)
        & pl.when(compressed).then(pl.col("n_left") + pl.col("n_right") <= 7).otherwise(pl.col("n_left") == 8)
    )
    network = (
        pl.concat_str([group(0), group(1), group(2)], separator=":")
        .add("::")
        .str.replace(r"(?::0){1,2}::$", "::")
        .str.replace(r"^0::$", "::")
    )
    return frame.select(pl.when(valid).then(network).alias(addresses.name)).to_series()


Mask = Annotated[MaskPhone | MaskZip | MaskIp, Field(discriminator="kind")]
"""Partial masking; `kind` says of what, because each kind of value has its own safe part."""


class Bucket(_Base):
    """The range that a number falls into: `25-34`, `65+`."""

    guards: ClassVar[str] = "Singling out by an exact number."
    leaves: ClassVar[str] = "A sparse range, or one combined with other columns, can still single out; see k-anonymity."
    remains: ClassVar[str] = "Personal data as long as the record stands for one person; less identifying."

    name: Literal["bucket"] = "bucket"
    edges: tuple[int | float, ...] = Field(min_length=2, description="Lower bounds, ascending; ranges are half open.")
    open_ended: bool = Field(default=True, description="Whether the last edge begins a range without end.")
    labels: tuple[str, ...] | None = None

    @model_validator(mode="after")
    def _coherent(self) -> Self:
        if not all(low < high for low, high in pairwise(self.edges)):
            raise ValueError("edges must be finite and ascend")
        if any(abs(edge) == float("inf") for edge in self.edges):
            raise ValueError("edges must be finite and ascend")
        ranges = len(self.edges) - (0 if self.open_ended else 1)
        if self.labels is not None and (len(self.labels) != ranges or len(set(self.labels)) != ranges):
            raise ValueError(f"labels must be {ranges} distinct texts, one a range")
        return self

    def range_labels(self) -> tuple[str, ...]:
        """One label a range, in ascending order: whole numbers as `0-17`, others as `0.5-<1.5`."""
        return self.labels or range_labels(self.edges, open_ended=self.open_ended)

    def expr(
        self,
        column: pl.Expr,
        *,
        secrets: Secrets,
        context: Mapping[str, pl.Expr] | None = None,
        hierarchies: Hierarchies = load,
    ) -> pl.Expr:
        """The label; null below the first edge, above a closed end, or for what is no finite number."""
        number = finite(column)
        labels: list[str | None] = list(self.range_labels())
        if not self.open_ended:
            labels.append(None)
        index = range_index(number, self.edges)
        known = number >= self.edges[0]
        return pl.when(known).then(
            pl.lit(pl.Series(labels, dtype=pl.String)).gather(pl.when(known).then(index - 1).otherwise(0))
        )

    def vocabulary(self, hierarchies: Hierarchies = load) -> frozenset[str]:
        """The labels."""
        return frozenset(self.range_labels())

    @property
    def shape(self) -> str:
        """One of the labels."""
        return "|".join(re.escape(label) for label in self.range_labels())


# In units of the last decimal: every such number is exact as a double, and the noise of such a scale fits 64 bits.
_LARGEST = 10**15


class Noise(_Base):
    """A number with random noise: local differential privacy, every record for itself."""

    guards: ClassVar[str] = (
        "Knowing the number: no two numbers within the bounds can be told apart by more than the factor e^epsilon, "
        "whatever else is known."
    )
    leaves: ClassVar[str] = (
        "Every release draws anew and spends epsilon again: the average of many releases comes near the number. "
        "A missing value stays missing, and a large epsilon hides little."
    )
    remains: ClassVar[str] = "Personal data as long as the record stands for one person; only its number is uncertain."

    name: Literal["noise"] = "noise"
    epsilon: float = Field(gt=0, allow_inf_nan=False, description="The privacy loss of one release of one record.")
    lower: Annotated[Decimal, Field(allow_inf_nan=False)]
    upper: Annotated[Decimal, Field(allow_inf_nan=False)]
    digits: int = Field(default=0, ge=0, le=6, description="Decimals that are kept; 0 gives whole numbers.")

    @model_validator(mode="after")
    def _bounded(self) -> Self:
        low, high = self._units
        if not low < high:
            raise ValueError("`lower` must be below `upper`")
        if any(bound.scaleb(self.digits) % 1 for bound in (self.lower, self.upper)):
            raise ValueError("`lower` and `upper` must not have more decimals than `digits`")
        if max(abs(low), abs(high)) > _LARGEST or high - low > _LARGEST * self.epsilon:
            raise ValueError("bounds too wide for this `epsilon` and `digits`: the noise would not fit a number")
        return self

    @property
    def _units(self) -> tuple[int, int]:
        """The bounds in units of the last decimal."""
        return int(self.lower.scaleb(self.digits)), int(self.upper.scaleb(self.digits))

    @property
    def output_type(self) -> OutputType:
        """The source column's."""
        return "same"

    def expr(
        self,
        column: pl.Expr,
        *,
        secrets: Secrets,
        context: Mapping[str, pl.Expr] | None = None,
        hierarchies: Hierarchies = load,
    ) -> pl.Expr:
        """Clamp to the bounds, round to the decimals kept, and add discrete Laplace noise; the sum is not clamped.

        Null for null and for what is no finite number.
        """
        low, high = self._units
        per_one = int(10**self.digits)
        units = (finite(column) * per_one).clip(low, high).round().cast(pl.Int64)
        noisy = units.map_batches(self._noisy, return_dtype=pl.Int64, is_elementwise=True)
        return (noisy / per_one).round(self.digits) if self.digits else noisy

    def _noisy(self, units: pl.Series) -> pl.Series:
        # Loading OpenDP takes longer than a small batch: only for those who use it.
        from privacy_platform.anonymization.noise import discrete_laplace

        low, high = self._units
        return discrete_laplace(units, high - low, self.epsilon)


class Suppress(_Base):
    """Nothing of the value: null (the column may then be left out altogether), or `*` in every row."""

    guards: ClassVar[str] = "Everything: nothing of the value is published, not even whether there is one."
    leaves: ClassVar[str] = "Nothing of this column."
    remains: ClassVar[str] = "Not personal data."

    name: Literal["suppress"] = "suppress"
    value: Literal["*"] | None = None

    @property
    def output_type(self) -> OutputType:
        """The source column's."""
        return "same"

    def expr(
        self,
        column: pl.Expr,
        *,
        secrets: Secrets,
        context: Mapping[str, pl.Expr] | None = None,
        hierarchies: Hierarchies = load,
    ) -> pl.Expr:
        """A constant of the column's height: null of its type, or the text `*` whether it was null or not."""
        never = column.is_null() & column.is_not_null()
        if self.value is None:
            return pl.when(never).then(column)
        return pl.when(never).then(pl.lit("")).otherwise(pl.lit(ANY))

    def vocabulary(self, hierarchies: Hierarchies = load) -> frozenset[str]:
        """`*` or nothing."""
        return frozenset() if self.value is None else frozenset((ANY,))

    @property
    def shape(self) -> str:
        """`*`."""
        return r"\*"


class Keep(_Base):
    """The value itself."""

    protects: ClassVar[bool] = False
    guards: ClassVar[str] = "Nothing."
    leaves: ClassVar[str] = "The value is published as it is; only for fields of sensitivity low or none."
    remains: ClassVar[str] = "As personal as the field was."

    name: Literal["keep"] = "keep"

    @property
    def output_type(self) -> OutputType:
        """The source column's."""
        return "same"

    def expr(
        self,
        column: pl.Expr,
        *,
        secrets: Secrets,
        context: Mapping[str, pl.Expr] | None = None,
        hierarchies: Hierarchies = load,
    ) -> pl.Expr:
        """The column."""
        return column


_EVERY = {
    "second": "1s",
    "minute": "1m",
    "hour": "1h",
    "day": "1d",
    "week": "1w",
    "month": "1mo",
    "quarter": "1q",
}


class Truncate(_Base):
    """A date or time cut to the start of its second, hour, day, week (Monday), month, quarter or year."""

    protects: ClassVar[bool] = False
    guards: ClassVar[str] = "Matching with another log by the exact time."
    leaves: ClassVar[str] = "The period stays; a value at the start of its period comes out unchanged."
    remains: ClassVar[str] = "As personal as the field was, less precise."

    name: Literal["truncate"] = "truncate"
    unit: Literal["second", "minute", "hour", "day", "week", "month", "quarter", "year"]

    @property
    def output_type(self) -> OutputType:
        """The source column's."""
        return "same"

    def expr(
        self,
        column: pl.Expr,
        *,
        secrets: Secrets,
        context: Mapping[str, pl.Expr] | None = None,
        hierarchies: Hierarchies = load,
    ) -> pl.Expr:
        """The start of the period, in the column's time zone."""
        return column.dt.truncate(_EVERY.get(self.unit, "1y"))


class Scrub(_Base):
    """Free text or a URL with each personal value in it replaced by a placeholder such as `[EMAIL]`."""

    guards: ClassVar[str] = (
        "E-mail and network addresses, phone, card, account and id numbers typed into text, and the record's own names."
    )
    leaves: ClassVar[str] = "Other people's names, unusual spellings, and what the text says about its author."
    remains: ClassVar[str] = "Treat as personal data: free text can tell who wrote it."

    name: Literal["scrub"] = "scrub"
    own: tuple[FieldName, ...] = Field(default=(), description="The record's own fields to look for in the text.")

    def expr(
        self,
        column: pl.Expr,
        *,
        secrets: Secrets,
        context: Mapping[str, pl.Expr] | None = None,
        hierarchies: Hierarchies = load,
    ) -> pl.Expr:
        """Patterns first, then the record's own values as whole words, in any case or URL encoding."""
        scrubbed = for_each_distinct(column.cast(pl.String), patterns.scrub_series)
        missing = [name for name in self.own if name not in (context or {})]
        if missing:
            raise TechniqueError(f"scrub: own names the unknown field {missing[0]!r}; correct it or add the field")
        if not self.own:
            return scrubbed
        own = {name: (context or {})[name].cast(pl.String) for name in self.own}
        return scrub_own(scrubbed, own)


Technique = Annotated[
    Hash | Hmac | Tokenize | Generalize | Mask | Bucket | Noise | Suppress | Keep | Truncate | Scrub,
    Field(discriminator="name"),
]
"""One technique with its parameters, as written in a policy file; `name` says which."""
