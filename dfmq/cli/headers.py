"""Request headers as people give them: 'Name: value', or @FILE so that secrets need not stand on a command line.

No value is ever shown in an error: it may be a secret."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

from dfmq.errors import SettingsError

#: RFC 9110, section 5.6.2: token
_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+\Z")
#: wire bounds of Request.headers
MOST_HEADERS = 64
MOST_VALUE = 4096
#: A file that is larger is no list of headers.
MOST_FILE_BYTES = 1 << 20


def read_headers(given: Iterable[str], headers_file: str = "") -> tuple[tuple[str, str], ...]:
    """The headers of `headers_file` ("" none), then those `given`: 'Name: value' or '@FILE'. One given later replaces
    an earlier one of the same name. Raises SettingsError."""
    headers: dict[str, tuple[str, str]] = {}
    sources = [f"@{headers_file}"] if headers_file else []
    for text in [*sources, *given]:
        for name, value in _from_file(text[1:]) if text.startswith("@") else [_header(text, "-H")]:
            headers[name.lower()] = (name, value)
    if len(headers) > MOST_HEADERS:
        raise SettingsError(f"{len(headers)} headers are given; at most {MOST_HEADERS} are passed on: leave some out")
    return tuple(headers.values())


def _from_file(path: str) -> list[tuple[str, str]]:
    """A line a header; blank lines and lines that begin with # are skipped."""
    try:
        with Path(path).open("rb") as file:
            raw = file.read(MOST_FILE_BYTES + 1)
        text = raw.decode()
    except OSError as error:
        raise SettingsError(f"headers file {path!r}: {error.strerror}; give the path of a readable file") from error
    except UnicodeDecodeError as error:
        raise SettingsError(f"headers file {path!r}: it is not UTF-8 text") from error
    if len(raw) > MOST_FILE_BYTES:
        raise SettingsError(f"headers file {path!r}: it is larger than 1 MiB; is it the right file?")
    return [
        _header(line, f"{path}, line {number}")
        for number, line in enumerate(text.splitlines(), 1)
        if line.strip() and not line.lstrip().startswith("#")
    ]


def _header(text: str, where: str) -> tuple[str, str]:
    name, colon, value = text.partition(":")
    name, value = name.strip(), value.strip()
    if not colon or not _TOKEN.match(name):
        raise SettingsError(
            f"{where}: a header is written 'Name: value' (what was given is not shown, it may be a secret)"
        )
    if any(c in value for c in "\r\n\0"):
        raise SettingsError(f"{where}: the value of {name} has a line break in it")
    if len(value) > MOST_VALUE:
        raise SettingsError(
            f"{where}: the value of {name} has {len(value)} characters; at most {MOST_VALUE} are passed on"
        )
    return name, value
