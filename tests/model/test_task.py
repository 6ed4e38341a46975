"""What names a content, what never does, and what is never shown."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dfmq.errors import SettingsError
from dfmq.model.task import (
    RESERVED_HEADERS,
    Request,
    canonical_url,
    credential,
    file_name,
    is_credential,
    mirror,
    shown,
    task_id,
    validate,
    without_secrets,
)

BASE = Request(url="https://example.com/weights.bin")
DIGEST = "sha256:" + "ab" * 32


@pytest.mark.clause("TASK-2")
@pytest.mark.parametrize(
    ("url", "canonical"),
    [
        ("HTTP://EXAMPLE.com", "http://example.com/"),
        ("http://example.com:80/a", "http://example.com/a"),
        ("https://example.com:443/a", "https://example.com/a"),
        ("https://example.com:80/a", "https://example.com:80/a"),
        ("http://me:secret@example.com/a", "http://example.com/a"),
        ("http://example.com/a#part", "http://example.com/a"),
        ("http://example.com/a?z=1&b=2", "http://example.com/a?b=2&z=1"),
        ("http://example.com/a?k=2&k=1", "http://example.com/a?k=2&k=1"),
        ("http://example.com/a?empty=", "http://example.com/a?empty="),
        ("http://example.com/a?x=a%20b", "http://example.com/a?x=a+b"),
        ("http://example.com/a?x=%ff", "http://example.com/a?x=%FF"),
        ("http://example.com/A", "http://example.com/A"),
        ("http://[2001:DB8::1]:8080/a", "http://[2001:db8::1]:8080/a"),
        ("file:///srv/a b", "file:///srv/a%20b"),
        ("file://localhost/srv/%7euser", "file:///srv/~user"),
        ("file:///srv/%ff", "file:///srv/%FF"),
    ],
)
def test_a_url_has_one_canonical_form(url: str, canonical: str) -> None:
    assert canonical_url(url) == canonical
    assert canonical_url(canonical) == canonical


@pytest.mark.parametrize(
    "url",
    [
        "",
        "example.com/a",
        "/srv/a",
        "https:example.com",
        "ftp://example.com/a",
        "http:///a",
        "http://:80/a",
        "http://example.com:99999/a",
        "http://example.com:0/a",
        "http://example .com/a",
        "http://example.com\u00a0/a",
        "http://example.com:port/a",
        "http://[::1/a",
        "http://example.com/a\nb",
        "http://example.com/\udcff",
        "file://otherhost/a",
        "file://relative",
    ],
)
def test_what_is_no_url_we_can_read_is_refused_and_says_so(url: str) -> None:
    for look in (canonical_url, file_name):
        with pytest.raises(SettingsError):
            look(url)
    for look_at in (validate, task_id, credential):
        with pytest.raises(SettingsError):
            look_at(Request(url=url))


@given(st.text(max_size=60))
def test_any_text_is_a_url_or_a_settings_error(text: str) -> None:
    for url in (text, f"http://{text}", f"http://host/{text}", f"file:///{text}", f"http://host/?{text}"):
        try:
            canonical = canonical_url(url)
            credential(Request(url=url))
            name = file_name(url)
        except SettingsError:
            continue
        assert canonical_url(canonical) == canonical
        assert name not in ("", ".", "..")
        assert "/" not in name
        assert "\0" not in name
        assert len(name.encode()) <= 255


@pytest.mark.clause("TASK-1", "TASK-2")
@pytest.mark.parametrize(
    "other",
    [
        {"url": "https://EXAMPLE.com:443/weights.bin"},
        {"url": "https://example.com/weights.bin#part"},
        {"url": "https://user:secret@example.com/weights.bin"},
        {"url": "https://example.com/weights.bin?sig=1", "filters": ("sig",)},
        {"headers": (("Authorization", "Bearer one"),)},
        {"headers": (("User-Agent", "curl"), ("Cookie", "a=b"))},
        {"headers": (("Range", "bytes=0-9"),)},
    ],
    ids=lambda other: next(iter(other)),
)
def test_these_never_name_another_content(other: dict[str, object]) -> None:
    assert task_id(msgspec.structs.replace(BASE, **other)) == task_id(BASE)


@pytest.mark.clause("TASK-1")
def test_these_name_another_content_each() -> None:
    others = [
        {},
        {"url": "http://example.com/weights.bin"},
        {"url": "https://example.com/weights.bin?sig=1"},
        {"url": "https://example.com/weights.bin?sig=%fe"},
        {"url": "https://example.com/weights.bin?sig=%ff"},
        {"tag": "nightly"},
        {"digest": DIGEST},
        {"digest": DIGEST, "tag": "nightly"},
        {"headers": (("Accept", "text/plain"),)},
        {"headers": (("Accept-Language", "text/plain"),)},
        {"insecure": True},
        {"cacert": "-----BEGIN CERTIFICATE-----"},
        # words that would look alike if they were only strung together
        {"tag": "accept: text/plain\n"},
        {"headers": (("Accept", "text/plain\nnightly"),)},
    ]
    ids = [task_id(msgspec.structs.replace(BASE, **other)) for other in others]
    assert len(set(ids)) == len(others)
    assert {len(task) for task in ids} == {16}


def test_mirrors_share_by_digest() -> None:
    mirror = Request(
        url="http://mirror.example/elsewhere", digest=DIGEST.upper(), headers=(("Accept", "*/*"),), insecure=True
    )
    assert task_id(mirror) == task_id(msgspec.structs.replace(BASE, digest=DIGEST))


def test_representation_headers_count_whatever_their_case_and_order() -> None:
    one = msgspec.structs.replace(BASE, headers=(("Accept", "a"), ("ACCEPT-LANGUAGE", "de")))
    two = msgspec.structs.replace(BASE, headers=(("accept-language", "de "), ("X-Other", "1"), ("accept", "a")))
    assert task_id(one) == task_id(two)


@pytest.mark.clause("TASK-1")
def test_a_task_id_does_not_change_from_one_release_to_the_next() -> None:
    """Peers of several releases must agree; a new rule is a new protocol version."""
    assert task_id(BASE).hex() == "1eaad7ae5cd18c5c69b39fdb8540ca88"
    assert task_id(msgspec.structs.replace(BASE, digest=DIGEST)).hex() == "e6a8ca118311cb7cf311283fcbd7c1cf"


CREDENTIALS = [
    "authorization",
    "proxy-authorization",
    "cookie",
    "x-api-key",
    "private-token",
    "job-token",
    "x-auth-token",
    "x-vault-token",
    "x-amz-security-token",
    "x-jfrog-art-api-key",
    "ocp-apim-subscription-key",
    "x-goog-iam-authorization-token",
    "x-app-secret",
    "x-password",
]


@pytest.mark.parametrize("name", CREDENTIALS)
def test_a_header_that_proves_who_asks_is_a_credential_and_is_not_kept(name: str) -> None:
    assert is_credential(name)
    request = msgspec.structs.replace(BASE, headers=((name.title(), "SECRET"), ("User-Agent", "x")))
    assert without_secrets(request).headers == (("User-Agent", "x"),)


@pytest.mark.parametrize("name", ["accept", "accept-language", "user-agent", "referer", "x-plain", "origin", "via"])
def test_a_header_that_says_what_is_wanted_is_no_credential(name: str) -> None:
    assert not is_credential(name)


@pytest.mark.parametrize("name", CREDENTIALS)
def test_a_credential_stands_for_who_asks(name: str) -> None:
    one = msgspec.structs.replace(BASE, headers=((name.title(), "one"),))
    two = msgspec.structs.replace(BASE, headers=((name, "two"),))
    assert credential(BASE) == b""
    assert len(credential(one)) == 8
    assert credential(one) != credential(two)
    assert credential(one) == credential(msgspec.structs.replace(one, tag="other", url="https://example.com/else"))
    assert credential(Request(url="https://u:p@example.com/")) not in (b"", credential(one))


@pytest.mark.parametrize(
    ("other", "is_same"),
    [
        ({"url": "HTTPS://Example.com:443/weights.bin#x"}, True),
        ({"headers": (("Authorization", "one"),)}, True),
        ({"url": "https://mirror.example.com/weights.bin"}, False),
        ({"insecure": True}, False),
        ({"cacert": "another authority"}, False),
    ],
    ids=str,
)
def test_a_mirror_stands_for_where_a_content_with_a_digest_is_asked_for(other: dict[str, Any], is_same: bool) -> None:
    first = msgspec.structs.replace(BASE, digest=DIGEST)
    assert (mirror(msgspec.structs.replace(first, **other)) == mirror(first)) == is_same
    assert mirror(msgspec.structs.replace(BASE, **other)) == b"", "the task's name says it"


@pytest.mark.parametrize("name", [*sorted(RESERVED_HEADERS), "Range", "Bad Name", "", "Colon:", "Ü"])
def test_a_header_that_is_not_the_users_to_set_is_refused(name: str) -> None:
    with pytest.raises(SettingsError):
        validate(msgspec.structs.replace(BASE, headers=((name, "1"),)))


@pytest.mark.parametrize("value", ["a\r\nEvil: 1", "a\nb", "a\0b", "\udcff"])
def test_a_header_value_cannot_carry_another_header(value: str) -> None:
    with pytest.raises(SettingsError):
        validate(msgspec.structs.replace(BASE, headers=(("X-One", value),)))


@pytest.mark.parametrize("field", ["tag", "cacert"])
def test_stray_octets_are_refused_before_they_meet_the_bus(field: str) -> None:
    with pytest.raises(SettingsError):
        validate(msgspec.structs.replace(BASE, **{field: "\udcff"}))


def test_a_good_request_is_itself() -> None:
    assert validate(BASE) is BASE


SECRETS = [
    "https://user:SECRET@example.com/a",
    "https://example.com/a?token=SECRET",
    "https://example.com/a#SECRET",
    "https://SECRET@[::1]:8080/a?SECRET=1",
    "https://user:SECRET@example.com:99999/a",
    "https:user:SECRET@example.com/a",
    "ftp://user:SECRET@example.com/a",
]


@pytest.mark.parametrize("url", SECRETS)
def test_what_is_shown_of_a_url_keeps_its_secrets(url: str) -> None:
    assert "SECRET" not in shown(url)
    request = Request(url=url, headers=(("Authorization", "SECRET"),), cacert="SECRET")
    assert "SECRET" not in repr(request)
    try:
        canonical_url(url)
    except SettingsError as error:
        assert "SECRET" not in str(error)


def test_shown_still_names_the_place() -> None:
    assert shown("https://u:p@example.com:8443/a/b?x=1#y") == "https://example.com:8443/a/b?…"
    assert shown("file:///srv/a@b") == "file:///srv/a@b"
    assert shown("http://[::1/a") == "(unreadable URL)"


@pytest.mark.parametrize(
    ("url", "name"),
    [
        ("http://h/a/weights.bin?x=1", "weights.bin"),
        ("http://h/a/", "a"),
        ("http://h", "index"),
        ("http://h/", "index"),
        ("http://h/a/..", "index"),
        ("http://h/a/%2e%2e", "index"),
        ("http://h/a/%2e", "index"),
        ("http://h/..%2f..%2fetc%2fpasswd", ".._.._etc_passwd"),
        ("http://h/a%00b", "a_b"),
        ("http://h/a%1b[31m%0ab", "a_[31m_b"),
        ("http://h/gr%C3%BC%C3%9Fe", "grüße"),
        ("file:///srv/data.tar", "data.tar"),
    ],
)
def test_an_output_is_named_by_the_last_part_of_the_path(url: str, name: str) -> None:
    assert file_name(url) == name


def test_a_long_name_is_cut_between_characters() -> None:
    name = file_name("http://h/" + "%C3%BC" * 200)
    assert name == "ü" * 127
