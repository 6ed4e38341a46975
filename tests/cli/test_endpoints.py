"""Addresses as people type them; a wrong one is answered with the right one."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dfmq.cli.endpoints import advertised_host, broker_endpoint, host_and_port, listen_endpoint
from dfmq.errors import SettingsError


@pytest.mark.parametrize(
    ("text", "endpoint"),
    [
        ("tcp://broker.example.org:7400", "tcp://broker.example.org:7400"),
        ("TCP://Broker:7400/", "tcp://broker:7400"),
        ("tcp://10.0.0.7:1", "tcp://10.0.0.7:1"),
        ("tcp://[2001:db8::7]:7400", "tcp://[2001:db8::7]:7400"),
        ("tcp://[fe80::1%eth0]:7400", "tcp://[fe80::1%eth0]:7400"),
    ],
)
def test_a_brokers_address_is_tidied(text: str, endpoint: str) -> None:
    assert broker_endpoint(text) == endpoint


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("broker:7400", "write tcp://broker:7400"),
        ("broker", "write tcp://broker:7400"),
        ("tcp://broker", "write tcp://broker:7400"),
        ("tcp://2001:db8::7", "in brackets"),
        ("http://broker:7400", "write tcp://HOST:PORT"),
        ("tcp://broker:70000", "ports end at 65535"),
        ("tcp://broker:0", "no port to reach"),
        ("tcp://0.0.0.0:7400", "name the host it runs on"),
        ("tcp://*:7400", "name the host it runs on"),
        ("tcp://user@broker:7400", "tcp://HOST:PORT"),
        ("", "tcp://HOST:PORT"),
        ("tcp://bro ker:7400", "tcp://HOST:PORT"),
    ],
)
def test_a_wrong_address_is_answered_with_the_right_one(text: str, hint: str) -> None:
    with pytest.raises(SettingsError) as caught:
        broker_endpoint(text)
    assert hint in str(caught.value)
    assert repr(text) in str(caught.value)


def test_one_may_listen_everywhere_and_at_any_port() -> None:
    assert listen_endpoint("tcp://*:0") == "tcp://0.0.0.0:0"
    assert listen_endpoint("tcp://[::]:7400") == "tcp://[::]:7400"


def test_the_api_has_a_host_and_a_port_or_is_off() -> None:
    assert host_and_port("127.0.0.1:7480") == "127.0.0.1:7480"
    assert host_and_port("") == ""
    with pytest.raises(SettingsError, match="write HOST:PORT"):
        host_and_port("7480")


@pytest.mark.parametrize("text", ["tcp://me", "10.0.0.7:7400", "0.0.0.0", "[::]", "a b", "h" * 245])
def test_an_advertised_host_is_a_host_alone(text: str) -> None:
    with pytest.raises(SettingsError):
        advertised_host(text)


def test_an_advertised_ipv6_address_gets_brackets() -> None:
    assert advertised_host("2001:db8::7") == advertised_host("[2001:db8::7]") == "[2001:db8::7]"


@given(st.text(alphabet="tcp:/[]*.0123456789abz@%? ", max_size=24))
def test_any_text_is_an_address_or_a_settings_error(text: str) -> None:
    for read in (broker_endpoint, listen_endpoint, host_and_port, advertised_host):
        try:
            tidied = read(text)
        except SettingsError:
            continue
        assert read(tidied) == tidied
