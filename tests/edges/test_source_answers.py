"""What the heads of HTTP answers mean, said by their headers alone: no server, no socket."""

from __future__ import annotations

import pytest
from multidict import CIMultiDict

from dfmq.edges.source.answers import read_answer
from dfmq.edges.source.reply import Asked, Head
from dfmq.model.task import Request

URL = "http://source/x"
DATE = "Mon, 23 Nov 2026 10:00:00 GMT"


def _head(status: int = 200, offset: int = 0, etag: str = "", last_modified: str = "", **headers: str) -> Head | None:
    """What is made of an answer; a header Last_Modified is Last-Modified."""
    asked = Asked(request=Request(url=URL), offset=offset, etag=etag, last_modified=last_modified)
    said = CIMultiDict({name.replace("_", "-"): value for name, value in headers.items()})
    answer = read_answer(asked, status, said, URL)
    return answer.head if answer is not None else None


@pytest.mark.parametrize(
    ("date", "is_strong"),
    [
        ("Mon, 23 Nov 2026 09:59:59 GMT", False),
        (DATE, False),
        ("Mon, 23 Nov 2026 10:00:59 GMT", False),
        ("Mon, 23 Nov 2026 10:01:00 GMT", True),
        ("Tue, 24 Nov 2026 10:00:00 GMT", True),
        ("yesterday", False),
        ("", False),
    ],
)
def test_a_date_names_the_octets_if_it_is_a_minute_older_than_the_answer(date: str, is_strong: bool) -> None:
    """RFC 9110, section 8.8.2.2: by so much that two clocks cannot be so far apart."""
    head = _head(Last_Modified=DATE, Date=date)
    assert head is not None
    assert (head.last_modified, head.strong_date) == (DATE, is_strong)


@pytest.mark.parametrize("etag", ['"x"', 'W/"x"'])
def test_a_date_does_not_stand_in_for_an_etag(etag: str) -> None:
    head = _head(ETag=etag, Last_Modified=DATE, Date="Tue, 24 Nov 2026 10:00:00 GMT")
    assert head is not None
    assert not head.strong_date
