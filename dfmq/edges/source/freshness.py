"""How long an HTTP answer may be used without asking again: RFC 9111 as a shared cache. Strings in, seconds out."""

from __future__ import annotations

from email.utils import parsedate_to_datetime

#: `immutable` (RFC 8246) promises that the content behind this URL never changes; a year is HTTP's "for ever".
IMMUTABLE_SECONDS = 365 * 86400.0


def fresh_seconds(cache_control: str = "", age: str = "", expires: str = "", date: str = "") -> float | None:
    """Seconds from now; 0 ask every time; None: the source does not say. Arguments are header values, "" absent."""
    said = _directives(cache_control)
    if "no-store" in said or "no-cache" in said:
        return 0.0
    lifetime = _lifetime(said, expires, date)
    if "immutable" in said:
        lifetime = max(IMMUTABLE_SECONDS, lifetime or 0.0)
    if lifetime is None:
        return None
    return max(0.0, lifetime - (_seconds(age) or 0.0))


def _lifetime(said: dict[str, str], expires: str, date: str) -> float | None:
    for name in ("s-maxage", "max-age"):
        if name in said:
            # What cannot be read is stale (RFC 9111, section 4.2.1).
            return _seconds(said[name]) or 0.0
    if not expires:
        return None
    until, since = http_date(expires), http_date(date)
    if until is None:
        return 0.0
    return None if since is None else max(0.0, until - since)


def _directives(cache_control: str) -> dict[str, str]:
    said: dict[str, str] = {}
    for part in cache_control.split(","):
        name, _, value = part.partition("=")
        said.setdefault(name.strip().lower(), value.strip().strip('"'))
    return said


def _seconds(text: str) -> float | None:
    return float(text[:12]) if text.isascii() and text.isdigit() else None


def http_date(text: str) -> float | None:
    """An HTTP date → seconds since 1970, None when it is none."""
    try:
        return parsedate_to_datetime(text).timestamp()
    except (ValueError, TypeError, OverflowError):
        return None
