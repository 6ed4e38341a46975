"""What the head of an HTTP answer means: refusals, ranges, validators. Header values in, values out; no I/O."""

from __future__ import annotations

import http
import re
import time
from collections.abc import Mapping
from urllib.parse import urlsplit

import msgspec

from dfmq.edges.source.decoding import READABLE
from dfmq.edges.source.freshness import fresh_seconds, http_date
from dfmq.edges.source.reply import Asked, Head, Kind
from dfmq.errors import NotAuthorised, SourceError, SourceRefused
from dfmq.model.task import is_text, shown

#: A source that asks for more patience than a day is not believed.
_MOST_RETRY_AFTER = 86400.0
#: A date says to the second when a content was changed, and in that second it can change again. So it names the octets
#: only if it is older than the answer: by one second if the same clock made both, else by so much that no clocks are
#: that far apart (RFC 9110, section 8.8.2.2). Nobody tells us whose clocks these are; 60 s is what RFC 7232 asked for.
_STRONG_AFTER = 60.0
_CONTENT_RANGE = re.compile(r"bytes\s+(\d{1,18})-(\d{1,18})/(\d{1,18}|\*)\s*\Z", re.IGNORECASE)
_UNSATISFIED = re.compile(r"bytes\s+\*/(\d{1,18})\s*\Z", re.IGNORECASE)
#: Statuses that say "later", not "no" (RFC 9110 sections 15.5.9 and 15.6; RFC 8470; RFC 6585 section 4).
_LATER = frozenset({408, 425, 429})


class Answer(msgspec.Struct, frozen=True):
    """A head, and how its body is to be read."""

    head: Head
    #: to be undone; "" the body is the content
    encoding: str = ""
    #: the body is empty, whatever the connection carries
    empty: bool = False


def read_answer(asked: Asked, status: int, headers: Mapping[str, str], url: str) -> Answer | None:
    """What `status` and `headers` (looked up without regard to case) answer to `asked`; `url` is who answered.
    None: no part can be had, ask for the whole. Raises SourceError or one of its kinds when the answer is no answer."""
    if status == 304 and asked.unchanged_will_do:
        return Answer(_head(asked, headers, "unchanged"))
    if status == 206 and asked.offset:
        return _partial(asked, headers, url)
    if status == 416 and asked.offset:
        return _beyond_the_end(asked, headers)
    if status in (200, 203):
        return _whole(asked, headers, url)
    raise refusal(status, headers, url)


def _whole(asked: Asked, headers: Mapping[str, str], url: str) -> Answer:
    encoding = _encoding(headers, url)
    length = headers.get("Content-Length", "")
    known = length.isdigit() and "Transfer-Encoding" not in headers and not encoding
    head = _head(asked, headers, "full", length=int(length) if known else None, decoded=bool(encoding))
    return Answer(head, encoding)


def _partial(asked: Asked, headers: Mapping[str, str], url: str) -> Answer | None:
    found = _CONTENT_RANGE.match(headers.get("Content-Range", ""))
    if found is None:
        return None  # nobody knows which part it is
    first, last, total = int(found[1]), int(found[2]), None if found[3] == "*" else int(found[3])
    if first != asked.offset or last < first or (total is not None and last >= total):
        return None  # not what it was asked for: its parts cannot be trusted
    if _encoding(headers, url):
        return None  # a slice of an encoded stream cannot be decoded
    if _changed(asked, headers):
        return None  # it did not heed If-Range: these bytes belong to another version
    return Answer(_head(asked, headers, "partial", offset=first, length=total))


def _beyond_the_end(asked: Asked, headers: Mapping[str, str]) -> Answer | None:
    found = _UNSATISFIED.match(headers.get("Content-Range", ""))
    conditional = bool(if_range(asked))
    if found is None or int(found[1]) != asked.offset or not conditional or _changed(asked, headers):
        return None  # shorter than what we have: it is other content now
    # We stand exactly at the end of an unchanged content: nothing is missing.
    return Answer(_head(asked, headers, "partial", offset=asked.offset, length=asked.offset), empty=True)


def _changed(asked: Asked, headers: Mapping[str, str]) -> bool:
    """The answer names validators, and they are others than those asked about."""
    etag, last_modified = headers.get("ETag", "").strip(), headers.get("Last-Modified", "").strip()
    if asked.etag and etag:
        return asked.etag.removeprefix("W/") != etag.removeprefix("W/")
    return bool(asked.last_modified and last_modified and asked.last_modified != last_modified)


def _head(
    asked: Asked,
    headers: Mapping[str, str],
    kind: Kind,
    offset: int = 0,
    length: int | None = None,
    decoded: bool = False,
) -> Head:
    etag, last_modified = _validator(headers, "ETag"), _validator(headers, "Last-Modified")
    if kind != "full":
        # 304 and 416 may leave out what has not changed.
        etag, last_modified = etag or asked.etag, last_modified or asked.last_modified
    if decoded and etag and not etag.startswith("W/"):
        # A strong validator speaks of the encoded bytes; of ours it only says "as good as the same".
        etag = "W/" + etag
    # Where there is an ETag, a date is not to stand in for it (RFC 9110, section 13.1.5).
    strong_date = not etag and _is_strong_date(last_modified, headers.get("Date", ""))
    fresh = fresh_seconds(*(headers.get(name, "") for name in ("Cache-Control", "Age", "Expires", "Date")))
    takes_ranges = kind == "partial" or "bytes" in headers.get("Accept-Ranges", "").lower()
    return Head(
        kind=kind,
        offset=offset,
        length=length,
        etag=etag,
        last_modified=last_modified,
        strong_date=strong_date,
        fresh_seconds=fresh,
        ranges=takes_ranges and not decoded,
    )


def _is_strong_date(last_modified: str, date: str) -> bool:
    modified, now = http_date(last_modified), http_date(date)
    return modified is not None and now is not None and now - modified >= _STRONG_AFTER


def _validator(headers: Mapping[str, str], name: str) -> str:
    """What the source says under this name. With octets that are no UTF-8 (RFC 9110, section 8.8.3, lets an entity tag
    have any) it is as good as not said: it could not be kept, nor sent back as it came."""
    said = headers.get(name, "").strip()
    return said if is_text(said) else ""


def _encoding(headers: Mapping[str, str], url: str) -> str:
    """The Content-Encoding to be undone, "" none."""
    encoding = headers.get("Content-Encoding", "").strip().lower()
    if encoding in ("", "identity"):
        return ""
    if encoding not in READABLE:
        raise SourceError(
            f"{shown(url)} sends its content encoded as {encoding[:40]!r} though it was asked not to, and dfmq reads "
            "only gzip and deflate: have the server send it plain",
            permanent=True,
        )
    if "gzip" in encoding and urlsplit(url).path.lower().endswith((".gz", ".tgz")):
        # Servers that take the file's own compression for a Content-Encoding (Apache's AddEncoding): what was asked
        # for is the .gz file, and its digest is that of the bytes as they come. wget does the same.
        return ""
    return encoding


def if_range(asked: Asked) -> str:
    """The validator that may stand in If-Range: a strong ETag, or a strong date where there is no ETag (RFC 9110,
    section 13.1.5)."""
    if asked.etag.startswith("W/"):
        return ""
    return asked.etag or asked.last_modified


def refusal(status: int, headers: Mapping[str, str], url: str) -> SourceError:
    """The failure an HTTP status stands for. `retry_after` in seconds, when the source names it."""
    try:
        said = f"{status} {http.HTTPStatus(status).phrase}"
    except ValueError:
        said = str(status)
    where = shown(url)
    if status == 407:
        return NotAuthorised(
            f"the proxy wants credentials for {where} ({said}): put them into http_proxy", permanent=True
        )
    if status == 401:
        return NotAuthorised(
            f"{where} wants credentials ({said}): give them with -H 'Authorization: …'", permanent=True
        )
    if status == 403:
        return NotAuthorised(f"{where} may not be read with these credentials ({said}): ask for access", permanent=True)
    if status in (404, 410):
        return SourceRefused(f"there is nothing at {where} ({said}): check the URL", permanent=True)
    if status >= 500 or status in _LATER:
        wait = retry_after(headers)
        when = "try again later" if wait is None else f"it asks to come back in {wait:.0f} s"
        return SourceError(f"{where} cannot answer now ({said}): {when}", retry_after=wait)
    if status >= 400:
        return SourceRefused(
            f"{where} refuses the request ({said}): check the URL and the headers given", permanent=True
        )
    return SourceError(f"{where} answers {said}, which is no content: check the URL", permanent=True)


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Retry-After (seconds, or a date) in seconds from now, at most a day; None: not said."""
    said = headers.get("Retry-After", "").strip()
    if said.isascii() and said.isdigit():
        return min(float(said[:12]), _MOST_RETRY_AFTER)
    until = http_date(said) if said else None
    if until is None:
        return None
    now = http_date(headers.get("Date", ""))
    return min(max(0.0, until - (time.time() if now is None else now)), _MOST_RETRY_AFTER)
