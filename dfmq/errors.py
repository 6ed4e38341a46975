"""Every failure that has a name, with the exit status a user sees. Faults of a peer inside a machine are effects."""

from __future__ import annotations


class DfmqError(Exception):
    """Something went wrong that dfmq can name. The message says what, where and what to do next."""

    code: str = "failed"
    exit_status: int = 1


class SettingsError(DfmqError):
    """The settings, flags or arguments are not usable."""

    code = "settings"
    exit_status = 2


class ProtocolError(DfmqError):
    """What arrived on the bus is not dfmq's protocol. `reason` is the wire error code."""

    code = "protocol"
    exit_status = 1

    def __init__(self, message: str, reason: str = "malformed") -> None:
        super().__init__(message)
        self.reason = reason


class TransferError(DfmqError):
    """The task cannot be completed."""

    code = "transfer"
    exit_status = 1


class SourceError(TransferError):
    """The source did not give the content. `permanent`: trying again is of no use for now."""

    code = "source_failed"
    exit_status = 1

    def __init__(self, message: str, *, permanent: bool = False, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.permanent = permanent
        self.retry_after = retry_after


class SourceUnreachable(SourceError):
    """Nobody answers where the source should be: its name is unknown, or no connection comes about."""

    code = "source_unreachable"
    exit_status = 1


class SourceRefused(SourceError):
    """The source answered, and the answer is no (a 4xx status)."""

    code = "source_refused"
    exit_status = 5


class NotAuthorised(SourceRefused):
    """The source wants credentials, or others than those given (401, 403, 407)."""

    code = "not_authorised"
    exit_status = 6


class DigestMismatch(TransferError):
    """The content is not what the given digest names."""

    code = "digest_mismatch"
    exit_status = 3


class TimedOut(TransferError):
    """The time allowed for the transfer is over; what was fetched is kept for the next try."""

    code = "timed_out"
    exit_status = 8


class Interrupted(TransferError):
    """The user stopped the transfer; what was fetched is kept for the next try."""

    code = "interrupted"
    exit_status = 130


class StoreError(DfmqError):
    """The disk did not do what was asked."""

    code = "store"
    exit_status = 1


class NoSpace(StoreError):
    """There is no room on the disk for this content."""

    code = "no_space"
    exit_status = 7


class BrokerUnreachable(DfmqError):
    """No broker answers at the given address."""

    code = "broker_unreachable"
    exit_status = 4


class InvariantViolated(DfmqError):
    """Our own books disagree: always a bug of dfmq. The message carries the story."""

    code = "bug"
    exit_status = 70


def _family(root: type[DfmqError]) -> list[type[DfmqError]]:
    return [root] + [k for child in root.__subclasses__() for k in _family(child)]


#: Wire and JSON name of a failure → its class. A failure crosses the bus as (code, text).
BY_CODE: dict[str, type[DfmqError]] = {kind.code: kind for kind in _family(DfmqError)}


def from_code(code: str, text: str) -> DfmqError:
    """The failure that (`code`, `text`) on the bus stands for; an unknown code is a TransferError."""
    return BY_CODE.get(code, TransferError)(text)
