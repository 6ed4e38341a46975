"""The address at which other hosts reach this one, found out from routes and interfaces. Sends nothing."""

from __future__ import annotations

import ipaddress
import socket
from urllib.parse import urlsplit

from dfmq.errors import SettingsError

#: Listening there is listening everywhere.
EVERYWHERE = frozenset({"", "0.0.0.0", "*", "::"})
#: An address of the documentation (RFC 5737): whatever the way to it is, it is the default route.
_FAR_AWAY = ("192.0.2.1", 9)


def own_address(listen: str, brokers: tuple[str, ...]) -> str:
    """The address others reach us at: the one we listen at if it is one, else that of the way to a broker, else that of
    the default route, else that of the first interface that is up. Raises SettingsError when there is a way to none of
    the brokers."""
    listen_host = urlsplit(listen).hostname or ""
    if listen_host not in EVERYWHERE:
        return f"[{listen_host}]" if ":" in listen_host else listen_host
    lost = []
    for broker in brokers:
        parts = urlsplit(broker)
        if parts.scheme == "tcp" and parts.hostname and parts.port:
            found = _way_to(parts.hostname, parts.port)
            if found:
                return found
            lost.append(broker)
    if lost:
        names = ", ".join(lost)
        raise SettingsError(f"broker {names}: the host name cannot be resolved or reached from here; check it")
    return _way_to(*_FAR_AWAY) or _of_interfaces() or "127.0.0.1"


def _way_to(host: str, port: int) -> str:
    """The local address of the route to a host; "" none. No packet is sent."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_DGRAM)[0]
        with socket.socket(family, kind, protocol) as probe:
            probe.connect(address)
            own = str(probe.getsockname()[0])
    except OSError:
        return ""
    return f"[{own}]" if ":" in own else own


def _of_interfaces() -> str:
    """An address of the first interface that is up, IPv4 first; "" none. A host in a closed network has no default
    route, and others reach it all the same."""
    import psutil

    states = psutil.net_if_stats()
    found = [
        ipaddress.ip_address(address.address)
        for name, addresses in psutil.net_if_addrs().items()
        for address in addresses
        if address.family in (socket.AF_INET, socket.AF_INET6) and name in states and states[name].isup
        and "%" not in address.address
    ]  # fmt: skip
    usable = [address for address in found if not address.is_loopback and not address.is_link_local]
    own = min(usable, key=lambda address: address.version, default=None)
    return "" if own is None else f"[{own}]" if own.version == 6 else str(own)
