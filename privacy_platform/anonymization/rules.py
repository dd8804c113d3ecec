"""What an output column promises, in terms the leak finder can test on every row."""

from dataclasses import dataclass


@dataclass(frozen=True)
class OutputRule:
    """The promise of one output column.

    Attributes:
        shape: Regex that every non-null text must fully match; no pattern scan then. None: scan.
        allowed: Constant texts that say nothing about a person (labels): excused from every test, so that the
            region `West` is no leak of Mr West.
        closed: Every non-null text must be one of ``allowed``.
        may_coincide: A shaped output may equal a raw value, because masking leaves what already has the shape
            (the network address ``192.168.1.0``); the shape alone shows that it holds no more than the mask.
    """

    shape: str | None = None
    allowed: frozenset[str] = frozenset()
    closed: bool = False
    may_coincide: bool = False

    @property
    def scanned(self) -> bool:
        """Whether the column is free text to the finder: no shape and no closed vocabulary."""
        return self.shape is None and not self.closed
