"""Where a home's peer is reached on its own host: the ipc endpoint. Sockets themselves are elsewhere."""

from __future__ import annotations

import os
import stat

from dfmq.errors import SettingsError

#: typing's own takes 3 CPU-ms to load, and pathlib 7: a short command asks here too
TYPE_CHECKING = False
if TYPE_CHECKING:
    from os import PathLike

#: Where the peer in a broker's own process reaches it.
INPROC = "inproc://dfmq-control"
#: sun_path holds 108 octets with its NUL on Linux, 104 on the BSDs.
MOST_PATH_BYTES = 100


def local_endpoint(home: str | PathLike[str]) -> str:
    """The ipc endpoint of the peer of `home`; the same for every spelling of the home's path.

    A home whose path is too long for a socket's name gets one in /tmp/dfmq-UID, a directory only its owner may enter.
    Raises SettingsError if somebody else has taken that directory.
    """
    home = os.path.realpath(home)
    path = os.path.join(home, "peer.sock")
    if len(os.fsencode(path)) <= MOST_PATH_BYTES:
        return f"ipc://{path}"
    import hashlib

    name = hashlib.blake2b(os.fsencode(home), digest_size=12, person=b"dfmq.home").hexdigest()
    return f"ipc://{_private_directory()}/{name}.sock"


def _private_directory() -> str:
    directory = f"/tmp/dfmq-{os.getuid()}"
    try:
        os.mkdir(directory, mode=0o700)
    except FileExistsError:
        pass
    except OSError as error:
        raise SettingsError(f"{directory}: {error.strerror}; use a --home with a shorter path") from error
    status = os.lstat(directory)
    if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.getuid() or status.st_mode & 0o077:
        raise SettingsError(
            f"{directory} must be a directory that is yours alone (mode 0700) and is not: "
            "remove it, or use a --home with a shorter path"
        )
    return directory
