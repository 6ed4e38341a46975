"""What the flags of dfmq-get come to: a Request, checked as far as it can be before anybody is asked."""

from __future__ import annotations

from pathlib import Path

import msgspec

from dfmq.errors import SettingsError
from dfmq.model.task import Request, validate
from dfmq.wire.codec import encode
from dfmq.wire.envelope import MOST_BODY_BYTES
from dfmq.wire.messages import Open

#: bound of Request.cacert
MOST_PEM_CHARACTERS = 32_768


def read_authorities(path: str) -> str:
    """The PEM text of a file of authorities; "" for "". Raises SettingsError."""
    if not path:
        return ""
    try:
        text = Path(path).read_text("ascii", "strict")
    except OSError as error:
        raise SettingsError(f"--cacert {path}: {error.strerror}; give a readable PEM file") from error
    except UnicodeDecodeError as error:
        raise SettingsError(f"--cacert {path}: it is not PEM text") from error
    blocks = [block for block in text.split("-----BEGIN CERTIFICATE-----")[1:] if "-----END CERTIFICATE-----" in block]
    if not blocks:
        raise SettingsError(f"--cacert {path}: there is no certificate in it (-----BEGIN CERTIFICATE-----)")
    # Whatever stands between the certificates, a private key even, is not passed on.
    end = "-----END CERTIFICATE-----"
    text = "".join(f"-----BEGIN CERTIFICATE-----{block[: block.index(end)]}{end}\n" for block in blocks)
    if len(text) > MOST_PEM_CHARACTERS:
        raise SettingsError(
            f"--cacert {path}: its certificates have {len(text)} characters, {MOST_PEM_CHARACTERS} can be passed on: "
            "give the authorities of this source alone"
        )
    return text


class Maker:
    """Makes the Request of each URL; tag, filters, headers and trust are the same for all."""

    def __init__(
        self,
        *,
        tag: str = "",
        filters: tuple[str, ...] = (),
        headers: tuple[tuple[str, str], ...] = (),
        cacert: str = "",
        insecure: bool = False,
    ) -> None:
        self._same = Request(url="", tag=tag, filters=filters, headers=headers, cacert=cacert, insecure=insecure)

    def __call__(self, url: str, digest: str = "") -> Request:
        """The request, valid and small enough for the bus. Raises SettingsError."""
        request = validate(msgspec.structs.replace(self._same, url=url.strip(), digest=digest))
        try:
            body = encode(_longest(request))
            msgspec.msgpack.decode(body, type=Open)
        except msgspec.ValidationError as error:
            raise SettingsError(f"this cannot be asked for: {error}; make it shorter") from error
        except UnicodeEncodeError as error:
            raise SettingsError("URL, tag and headers must be text that UTF-8 can hold") from error
        beyond = len(body) - MOST_BODY_BYTES
        if beyond > 0:
            raise SettingsError(f"URL, headers and authorities are {beyond} octets too long together to be asked for")
        return request


def _longest(request: Request) -> Open:
    """The longest message a request travels in: to the broker, from a peer that holds every other piece of many."""
    return Open(task=bytes(16), request=request, generation=bytes(8), held=bytes(8192), want=2**16 - 1, no_source=True)
