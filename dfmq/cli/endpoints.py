"""Addresses as people type them: tcp://HOST:PORT and HOST:PORT. Pure; nothing is resolved or bound here."""

from __future__ import annotations

import re

from dfmq.errors import SettingsError

#: The broker's control port (design: `--listen tcp://0.0.0.0:7400`).
BROKER_PORT = 7400
ANYWHERE = ("*", "0.0.0.0", "::")
#: Characters of a host's name that fit on the bus with tcp:// and a port (docs/protocol.md: an endpoint has 256). One
#: that is longer would only make the broker drop all this node says.
MOST_HOST = 244

_ADDRESS = re.compile(r"(?:\[(?P<v6>[0-9a-fA-F:.]+(?:%[\w.-]+)?)\]|(?P<host>[^\s:/\[\]@?#]+)):(?P<port>[0-9]{1,9})\Z")


def broker_endpoint(text: str) -> str:
    """The address of a broker, to be connected to: `tcp://HOST:PORT` → the same, tidied. Raises SettingsError."""
    host, port = _tcp(text, BROKER_PORT)
    if port == 0:
        raise SettingsError(f"broker {text!r}: port 0 is no port to reach; the broker's is {BROKER_PORT} by default")
    if host in ANYWHERE:
        raise SettingsError(f"broker {text!r}: {host} is where a broker listens; name the host it runs on")
    return _joined(host, port)


def listen_endpoint(text: str) -> str:
    """An address to listen at; port 0 takes a free one, `*` is every interface. Raises SettingsError."""
    host, port = _tcp(text, 0)
    return _joined("0.0.0.0" if host == "*" else host, port)


def host_and_port(text: str) -> str:
    """`HOST:PORT` of an HTTP API → the same; "" stays "". Raises SettingsError."""
    value = text.strip()
    if not value or value == "none":
        return ""
    found = _ADDRESS.match(value)
    if found is None or int(found["port"]) > 65535:
        raise SettingsError(f"{text!r} is no address: write HOST:PORT, as 127.0.0.1:7480, or [::1]:7480")
    return value


def advertised_host(text: str) -> str:
    """The name or address others reach us at, without a port, IPv6 in brackets. Raises SettingsError."""
    value = text.strip()
    bare = value[1:-1] if value.startswith("[") and value.endswith("]") else value
    if "://" in value or "/" in value or any(c.isspace() for c in value) or len(value) > MOST_HOST:
        raise SettingsError(f"{text!r} is no host: write a name or an address alone, as 10.0.0.7 or node7.example.org")
    if re.search(r":\d+\Z", value) and value.count(":") == 1:
        raise SettingsError(f"{text!r}: leave the port out; it is taken from --listen")
    if bare in ANYWHERE:
        raise SettingsError(f"{text!r} is where one listens, not where one is reached: name this host's own address")
    return f"[{bare}]" if ":" in bare else bare


def _tcp(text: str, usual_port: int) -> tuple[str, int]:
    """Host and port of tcp://HOST:PORT, or a SettingsError that shows how it would be right."""
    value = text.strip()
    scheme, separator, address = value.rpartition("://")
    if separator and scheme.lower() != "tcp":
        raise SettingsError(f"address {text!r}: {scheme}:// is not spoken here; write tcp://HOST:PORT")
    found = _ADDRESS.match(address.rstrip("/"))
    if found is None or not separator:
        raise SettingsError(f"address {text!r}: write {_right_form(address, usual_port)}")
    port = int(found["port"])
    if port > 65535:
        raise SettingsError(f"address {text!r}: port {port} does not exist; ports end at 65535")
    return found["v6"] or found["host"].lower(), port


def _right_form(address: str, usual_port: int) -> str:
    """What was probably meant."""
    bare = address.strip("/")
    if _ADDRESS.match(bare):
        return f"tcp://{bare}"
    if bare.count(":") > 1 and "[" not in bare:
        return f"tcp://[{bare}]:{usual_port} (an IPv6 address goes in brackets)"
    if re.fullmatch(r"[\w.-]+", bare):
        return f"tcp://{bare}:{usual_port}"
    return "tcp://HOST:PORT, as tcp://broker.example.org:7400 or tcp://[2001:db8::7]:7400"


def _joined(host: str, port: int) -> str:
    return f"tcp://[{host}]:{port}" if ":" in host else f"tcp://{host}:{port}"
