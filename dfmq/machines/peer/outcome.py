"""How a download ended, as its clients are told. What ends it is in download."""

from __future__ import annotations

from dfmq.model.digest import Digest


class Outcome:
    """How a download ended: `code` "" means done."""

    __slots__ = ("code", "retry_after", "text")

    def __init__(self, code: str = "", text: str = "", retry_after: float = 0.0) -> None:
        self.code = code
        self.text = text
        self.retry_after = retry_after

    @classmethod
    def of_digest(cls, wanted: Digest, found: str) -> Outcome:
        """All is here: is it what was wanted? `found`: hex, "" when it could not be computed."""
        if found == wanted.hex:
            return cls()
        if not found:
            return cls("store", "the stored content could not be read back; see the peer's log")
        text = f"the content is {wanted.algorithm}:{found}, wanted {wanted}; the source has something else there"
        return cls("digest_mismatch", text)
