"""What aiohttp and the socket raise, said in our words. The one place that knows their exceptions."""

from __future__ import annotations

import asyncio
import ssl

import aiohttp

from dfmq.edges.source.answers import refusal
from dfmq.errors import SourceError, SourceUnreachable
from dfmq.model.settings import SourceSettings

#: What asking or reading may raise; nothing else is expected to leave aiohttp. ValueError: a URL or header it cannot
#: put on the wire.
FAULTS = (aiohttp.ClientError, OSError, asyncio.TimeoutError, ValueError)


def unanswered(error: Exception, host: str, port: int, url: str, settings: SourceSettings) -> SourceError:
    """The failure behind an `error` met before the answer's head was there. `url` as it may be shown."""
    where = f"{host}:{port}"
    if isinstance(error, aiohttp.ConnectionTimeoutError):
        return SourceUnreachable(f"no connection to {where} within {settings.connect_seconds:g} s: is it up?")
    if isinstance(error, TimeoutError):
        return SourceError(f"{where} took the request for {url} and said nothing for {settings.stall_seconds:g} s")
    if isinstance(error, aiohttp.ClientConnectorCertificateError):
        return SourceError(
            f"the certificate of {where} is not trusted ({_why(error.certificate_error)}): give its authority with "
            "--cacert, or --insecure to do without proof",
            permanent=True,
        )
    if isinstance(error, aiohttp.ClientSSLError):
        return SourceError(f"no TLS with {where} ({_why(error.os_error)}): is it an https server?", permanent=True)
    if isinstance(error, aiohttp.ClientHttpProxyError):
        return refusal(error.status, error.headers or {}, url)
    if isinstance(error, aiohttp.ClientProxyConnectionError):
        return SourceUnreachable(f"the proxy {error.host}:{error.port} does not answer ({_why(error.os_error)})")
    if isinstance(error, aiohttp.ClientConnectorDNSError):
        return SourceUnreachable(f"the name {host} (port {port}) is not known ({_why(error.os_error)}): check the URL")
    if isinstance(error, aiohttp.ClientConnectorError):
        return SourceUnreachable(f"{where} cannot be reached ({_why(error.os_error)}): is it up?")
    if isinstance(error, aiohttp.ClientResponseError):
        return SourceError(f"{where} does not answer in readable HTTP", permanent=True)
    if isinstance(error, aiohttp.ClientError | OSError):
        return SourceError(f"{where} closed the connection before it answered")
    return SourceError(f"{url} cannot be asked for: check the URL and the headers given", permanent=True)


def broken(error: Exception, url: str, position: int, length: int | None, settings: SourceSettings) -> SourceError:
    """The failure behind an `error` met in the middle of the body; both numbers count content bytes."""
    at = f"at byte {position}" + ("" if length is None else f" of {length}")
    if isinstance(error, TimeoutError):
        return SourceError(f"{url} stalled: nothing for {settings.stall_seconds:g} s {at}")
    return SourceError(f"{url} broke off {at}")


def _why(error: BaseException) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return error.verify_message
    if isinstance(error, ssl.SSLError):
        return error.reason or "handshake failed"
    return getattr(error, "strerror", None) or type(error).__name__
