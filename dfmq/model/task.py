"""A task: one content to be distributed, and how its id is derived. Who holds it is not here."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Annotated
from urllib.parse import SplitResult, parse_qsl, quote, unquote, urlencode, urlsplit, urlunsplit

import msgspec

from dfmq.errors import SettingsError
from dfmq.model.digest import parse_digest
from dfmq.model.ids import TASK_ID_BYTES, Generation, TaskId
from dfmq.model.pieces import PieceMap

SCHEMES = ("http", "https", "file")
DEFAULT_PORTS = {"http": 80, "https": 443}

#: Headers that choose another representation and so another content (design, section 6).
REPRESENTATION_HEADERS = frozenset({"accept", "accept-language", "accept-charset"})
#: In the name of a header that proves who asks: Authorization, Cookie, X-Api-Key, X-Auth-Token, X-Amz-Security-Token,
#: Private-Token, X-Vault-Token … Services make up their own; one that is taken for a credential and is none costs a
#: question to the source, the other way round a secret is out.
_CREDENTIAL = re.compile(r"auth|token|key|secret|cookie|credential|passw|session|signature", re.IGNORECASE)
#: Headers that belong to one hop or to us; a user cannot set them.
RESERVED_HEADERS = frozenset(
    {
        "host",
        "content-length",
        "transfer-encoding",
        "connection",
        "range",
        "if-range",
        "if-match",
        "if-none-match",
        "if-modified-since",
        "if-unmodified-since",
        "accept-encoding",
        "te",
        "upgrade",
    }
)

Text = Annotated[str, msgspec.Meta(max_length=4096)]
Word = Annotated[str, msgspec.Meta(max_length=256)]

_HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+\Z")


class Request(msgspec.Struct, frozen=True, kw_only=True):
    """What somebody asks for: a URL and what belongs to it. Crosses the bus inside Open and Permit.

    `headers` may hold secrets: a Request is never logged; `url` may too (a signed query, userinfo): log `shown(url)`.
    """

    url: Annotated[str, msgspec.Meta(max_length=8192)]
    digest: Annotated[str, msgspec.Meta(max_length=160)] = ""
    tag: Word = ""
    filters: Annotated[tuple[Word, ...], msgspec.Meta(max_length=64)] = ()
    headers: Annotated[tuple[tuple[Word, Text], ...], msgspec.Meta(max_length=64)] = ()
    #: PEM text of the authorities to trust for this task alone; "" means the system's.
    cacert: Annotated[str, msgspec.Meta(max_length=32768)] = ""
    insecure: bool = False

    def __repr__(self) -> str:
        """Without secrets: no header values, no query."""
        return f"Request({shown(self.url)!r}, tag={self.tag!r}, headers={[name for name, _ in self.headers]})"


class Content(msgspec.Struct, frozen=True):
    """One generation of a task's content: its name and its cut. `algorithm` is that of the chunk digests."""

    generation: Generation
    cut: PieceMap
    algorithm: str = "xxh3_128"


class Shelved(msgspec.Struct, frozen=True):
    """What the store holds of a task. Everything named here is on disk and proven."""

    content: Content
    #: whole pieces, bit set
    held: int
    #: piece → chunks of it, bit set, for pieces that are not whole
    partial: dict[int, int]
    #: piece → its chunk digests, concatenated, of whole pieces and of `partial` ones, with anything in the place of a
    #: chunk that is not there; {} where the store does not know
    proofs: dict[int, bytes]
    request: Request
    #: validators of the source's answer, "" none
    etag: str = ""
    last_modified: str = ""
    #: the date names these very octets; what was kept before this was asked says no
    strong_date: bool = False


def canonical_url(url: str, filters: tuple[str, ...] = ()) -> str:
    """The form of a URL that names its content: lower-case scheme and host, no default port, no userinfo, no
    fragment, the query ordered by key (values of one key stay in their order) less the filtered keys. Octets that are
    no UTF-8 stay what they are. Raises SettingsError for what is no URL we can read."""
    parts = _split(url)
    scheme = parts.scheme.lower()
    if scheme == "file":
        path = quote(unquote(parts.path, errors="surrogateescape"), errors="surrogateescape")
        return urlunsplit(("file", "", path, "", ""))
    host = (parts.hostname or "").lower()
    if ":" in host:
        host = f"[{host}]"
    port = parts.port
    netloc = host if port is None or port == DEFAULT_PORTS.get(scheme) else f"{host}:{port}"
    pairs = parse_qsl(parts.query, keep_blank_values=True, errors="surrogateescape")
    query = sorted((pair for pair in pairs if pair[0] not in filters), key=lambda pair: pair[0])
    return urlunsplit((scheme, netloc, parts.path or "/", urlencode(query, errors="surrogateescape"), ""))


@lru_cache(maxsize=256)
def _split(url: str) -> SplitResult:
    # A request is looked at by several parts of each process within moments: its URL is read once.
    if not _is_clean(url):
        raise SettingsError(f"URL {shown(url)!r}: it has control characters or stray octets in it; quote them as %XX")
    try:
        parts = urlsplit(url.strip())
        _ = parts.port
    except ValueError as error:
        raise SettingsError(f"URL {shown(url)!r}: it cannot be read; look at its host, port and brackets") from error
    scheme = parts.scheme.lower()
    if not scheme or "://" not in url:
        raise SettingsError(
            f"{shown(url)!r} is not a URL: write it with a scheme, as https://HOST/PATH or file:///PATH"
        )
    if scheme not in SCHEMES:
        raise SettingsError(f"URL {shown(url)!r}: the scheme {scheme!r} is unknown; dfmq reads {', '.join(SCHEMES)}")
    if scheme != "file" and not parts.hostname:
        raise SettingsError(f"URL {shown(url)!r}: it names no host")
    if scheme != "file" and (parts.port == 0 or any(c.isspace() for c in parts.hostname or "")):
        raise SettingsError(f"URL {shown(url)!r}: no host has such a name or port; quote blanks as %20")
    if scheme == "file" and (parts.netloc not in ("", "localhost") or not parts.path.startswith("/")):
        raise SettingsError(f"URL {shown(url)!r}: a file URL is file:///ABSOLUTE/PATH, read by the broker's host")
    return parts


def validate(request: Request) -> Request:
    """The request itself, or a SettingsError that says what is wrong with it."""
    _split(request.url)
    if request.digest:
        parse_digest(request.digest)
    if not all(is_text(text) for text in (request.tag, request.cacert, *request.filters)):
        raise SettingsError(
            "the tag, the filters and the authorities' PEM text are text: these have stray octets in them"
        )
    for name, value in request.headers:
        if not _HEADER_NAME.match(name) or any(c in value for c in "\r\n\0") or not is_text(value):
            raise SettingsError(f"header {name!r}: write it as 'Name: value', text without line breaks")
        if name.lower() in RESERVED_HEADERS:
            raise SettingsError(f"header {name!r}: dfmq sets it itself; leave it out")
    return request


def _is_clean(url: str) -> bool:
    """No control characters, and nothing that cannot be UTF-8. Almost every URL is ASCII."""
    if url.isascii():
        return url.isprintable()
    return is_text(url) and not any(ord(c) < 0x20 or c == "\x7f" for c in url)


def is_text(text: str) -> bool:
    """It can be UTF-8: arguments that were no text come as lone surrogates."""
    return text.isascii() or not any(0xD800 <= ord(c) <= 0xDFFF for c in text)


def task_id(request: Request) -> TaskId:
    """Derived from the digest when one is given, so mirrors share; else from the canonical URL, the headers that choose
    a representation, and whom the request trusts to be that URL's host (so nobody is handed what somebody else took
    unverified). And from the tag. Never from credentials. Raises SettingsError for what is no URL or digest."""
    identity: list[str]
    if request.digest:
        identity = ["digest", str(parse_digest(request.digest))]
    else:
        identity = ["url", canonical_url(request.url, request.filters), "insecure" if request.insecure else "verified"]
        identity.append(request.cacert)
        identity += sorted(
            f"{name.lower()}: {value.strip()}"
            for name, value in request.headers
            if name.lower() in REPRESENTATION_HEADERS
        )
    identity.append(request.tag)
    return TaskId(_digest(identity, TASK_ID_BYTES, b"dfmq.task"))


def _digest(words: list[str], size: int, person: bytes) -> bytes:
    """blake2b over the words as a msgpack array: no word can look like two."""
    # Loading it takes 3 ms: a command that only asks derives no id.
    import hashlib

    return hashlib.blake2b(msgspec.msgpack.encode(words), digest_size=size, person=person).digest()


def is_credential(header: str) -> bool:
    """Whether the header of this name proves who asks. Such are never part of a TaskId, never logged, never kept, never
    sent to another host than asked, and whoever comes with others is asked about at the source."""
    return _CREDENTIAL.search(header) is not None


def credential(request: Request) -> bytes:
    """8 octets that stand for the credentials in a request, b"" when it has none. Says who asks without saying how.
    Raises SettingsError for what is no URL."""
    held = sorted(f"{n.lower()}: {v}" for n, v in request.headers if is_credential(n))
    userinfo = _split(request.url).netloc.rpartition("@")[0]
    if not held and not userinfo:
        return b""
    return _digest([userinfo, *held], 8, b"dfmq.cred")


def mirror(request: Request) -> bytes:
    """16 octets that stand for where, and on what terms, a content that is named by its digest is asked for; b"" where
    the task's own name says it. Raises SettingsError for what is no URL."""
    return task_id(msgspec.structs.replace(request, digest="")) if request.digest else b""


def without_secrets(request: Request) -> Request:
    """The request as it may be kept on disk: no credential headers, no userinfo, no authorities of the asker's own."""
    parts = urlsplit(request.url)
    return msgspec.structs.replace(
        request,
        url=urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2])),
        headers=tuple((name, value) for name, value in request.headers if not is_credential(name)),
        cacert="",
    )


def shown(url: str) -> str:
    """The URL as it may be logged: no userinfo, no query values, no fragment."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return "(unreadable URL)"
    query = "…" if parts.query else ""
    # Without "//" userinfo stands in the path: no such URL is read, but it is shown in the refusal.
    path = parts.path if parts.netloc or parts.scheme.lower() == "file" else parts.path.rpartition("@")[2]
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], path, query, ""))


def file_name(url: str) -> str:
    """The name an output gets when the user gives none: the last part of the path, or `index`. Never `..`, no slash,
    no control character, at most 255 octets."""
    name = unquote(_split(url).path.rstrip("/").rpartition("/")[2])
    name = "".join("_" if c == "/" or ord(c) < 0x20 or c == "\x7f" else c for c in name)
    if name in ("", ".", ".."):
        return "index"
    raw = name.encode()
    return name if len(raw) <= 255 else raw[:255].decode(errors="ignore")
