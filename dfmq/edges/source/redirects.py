"""Where an HTTP request goes, and goes next: redirects, and which headers may go along. No I/O."""

from __future__ import annotations

import base64
import re
from urllib.parse import unquote_to_bytes, urljoin, urlsplit, urlunsplit

import msgspec

from dfmq.errors import SourceError
from dfmq.model.task import DEFAULT_PORTS, Request, is_credential, shown

STATUSES = frozenset({301, 302, 303, 307, 308})
#: More is a misconfigured server; curl allows 50, browsers 20, and honest chains are shorter than 5.
MOST_REDIRECTS = 10
#: An octet of a header that is no part of UTF-8, as aiohttp hands it over.
_STRAY_OCTET = re.compile("[\udc80-\udcff]")


class Hop(msgspec.Struct, frozen=True):
    """One request of a chain. `url` has no userinfo and no fragment; `headers` are those that may be sent there."""

    url: str
    headers: tuple[tuple[str, str], ...]
    #: the URLs before, oldest first
    before: tuple[str, ...] = ()

    @property
    def place(self) -> tuple[str, str, int]:
        """(scheme, host, port): whom we talk to."""
        parts = urlsplit(self.url)
        scheme = parts.scheme.lower()
        return scheme, (parts.hostname or "").lower(), parts.port or DEFAULT_PORTS[scheme]

    def to(self, location: str) -> Hop:
        """The hop a redirect's Location names. Credentials stay behind when the place changes, and do not come back.
        Raises SourceError for a circle, too many, another scheme, or https to http."""
        here = shown(self.url)
        url = _target(self.url, location)
        if url in (*self.before, self.url):
            chain = " → ".join(shown(hop) for hop in (*self.before, self.url, url))
            raise SourceError(f"{here} redirects in a circle: {chain}", permanent=True)
        if len(self.before) >= MOST_REDIRECTS:
            raise SourceError(f"{shown(self.before[0])} redirects more than {MOST_REDIRECTS} times", permanent=True)
        following = Hop(url, self.headers, (*self.before, self.url))
        if following.place == self.place:
            return following
        if (self.place[0], following.place[0]) == ("https", "http"):
            raise SourceError(
                f"{here} redirects from https to {shown(url)}, where nobody can tell who answers: "
                "ask for that URL itself if you trust it",
                permanent=True,
            )
        kept = tuple((name, value) for name, value in self.headers if not is_credential(name))
        return Hop(url, kept, following.before)


def first_hop(request: Request, own: tuple[tuple[str, str], ...]) -> Hop:
    """The first request: the user's headers and our `own` where the user has none of that name. Userinfo in the URL
    becomes Basic authorization (RFC 7617), unless the user gives another."""
    parts = urlsplit(request.url.strip())
    headers = list(request.headers)
    given = {name.lower() for name, _ in headers}
    userinfo = parts.netloc.rpartition("@")[0]
    if userinfo and "authorization" not in given:
        headers.append(("Authorization", basic(userinfo)))
    headers += [(name, value) for name, value in own if name.lower() not in given]
    return Hop(_plain(request.url.strip()), tuple(headers))


def basic(userinfo: str) -> str:
    """`user:password`, percent-encoded as in a URL → the value of an Authorization header."""
    user, _, password = userinfo.partition(":")
    return "Basic " + base64.b64encode(unquote_to_bytes(user) + b":" + unquote_to_bytes(password)).decode("ascii")


def _target(base: str, location: str) -> str:
    # Stray octets are quoted, as browsers do: each stands for itself.
    location = _STRAY_OCTET.sub(lambda stray: f"%{ord(stray[0]) - 0xDC00:02X}", location)
    try:
        url = _plain(urljoin(base, location.strip()))
        parts = urlsplit(url)
        readable = parts.scheme.lower() in DEFAULT_PORTS and bool(parts.hostname) and parts.port != 0
    except ValueError:
        readable = False
    if not readable or any(ord(c) < 0x20 or c == "\x7f" for c in location):
        # The Location itself may carry a secret, and is the server's text: it is not shown.
        raise SourceError(f"{shown(base)} redirects to something that is no http or https URL", permanent=True)
    return url


def _plain(url: str) -> str:
    """Without userinfo and fragment, with a path: as it goes onto the wire."""
    parts = urlsplit(url)
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path or "/", parts.query, ""))
