"""What a user may set, one frozen Settings a node, each default with its reason. Reading them is in cli/options."""

from __future__ import annotations

import msgspec

GIB = 1 << 30
MIB = 1 << 20


class StoreSettings(msgspec.Struct, frozen=True, kw_only=True):
    """How a node treats its disk."""

    #: bytes the store may use; 0: only the floor counts
    quota_bytes: int = 0
    #: bytes the disk must keep free; a get that would go below is refused before its first byte
    free_floor_bytes: int = 256 * MIB
    #: bytes read from the net and not yet written: splits net-read from disk-write. 64 MiB rides out a disk's hiccup
    #: and keeps a peer under 120 MB.
    write_behind_bytes: int = 32 * MIB
    #: bytes written between two fdatasyncs (delayed synchronisation)
    sync_every_bytes: int = 256 * MIB
    #: A content up to this is not synced when it is finished: to read it once more, when it is wanted after the host
    #: was started anew, takes less than a sync. 1500 of 1 KiB through one peer: 6.7 s with, 4.2 without (decision 17).
    unsynced_bytes: int = MIB


class SourceSettings(msgspec.Struct, frozen=True, kw_only=True):
    """How a node that reads sources treats them."""

    #: nothing for so long is a stall: the read is broken off and resumed
    stall_seconds: float = 10.0
    connect_seconds: float = 10.0
    #: tries in a row without one byte of progress before the task fails; twice as many once something has come
    retries: int = 4
    #: an answer without Cache-Control is used for so long before the source is asked again
    revalidate_seconds: float = 10.0
    #: a refusal is remembered and told for so long
    negative_seconds: float = 5.0
    #: requests under way at once to one source host
    per_host: int = 16
    #: bytes read from a source and not yet written, for each read: as much as the store takes without waiting
    window_bytes: int = 32 * MIB
    #: folders whose files may be sources; None: every file this process may read. Who reads for others sets it.
    files: tuple[str, ...] | None = None


class PeerSettings(msgspec.Struct, frozen=True, kw_only=True):
    """One peer."""

    home: str
    #: tcp://HOST:PORT of each broker; none: the peer runs a broker of its own
    brokers: tuple[str, ...] = ()
    listen: str = "tcp://0.0.0.0:0"
    #: the host others reach us at; "": found out from the way to the broker
    advertise: str = ""
    #: seconds without a client, a download or an upload after which the peer ends; 0 never
    idle_exit: float = 0.0
    #: host-wide, bytes per second, 0 none
    up_limit: int = 0
    down_limit: int = 0
    #: leases served at once before rates are known: "3-4 pieces in flight per child" (design, section 2)
    slots: int = 4
    #: where the host stands: a content comes into each zone once, as far as possible
    zone: str = ""
    store: StoreSettings = StoreSettings()
    source: SourceSettings = SourceSettings()


class BrokerSettings(msgspec.Struct, frozen=True, kw_only=True):
    """One broker with its embedded seed."""

    home: str
    listen: str = "tcp://0.0.0.0:7400"
    publish: str = "tcp://0.0.0.0:7401"
    #: HOST:PORT of the HTTP API; "" none
    api: str = ""
    advertise: str = ""
    #: peers beat so often; a peer not heard for three beats is lost
    beat_seconds: float = 2.0
    #: the seed's leases at once: its bandwidth over a peer's, times three; 32 suits 10:1
    seed_slots: int = 32
    seed_up_limit: int = 0
    #: where its host stands, as PeerSettings.zone
    zone: str = ""
    #: folders whose files peers may ask for as file:///…; none unless named: a broker may read more than its peers may
    files: tuple[str, ...] = ()
    store: StoreSettings = StoreSettings()
    source: SourceSettings = SourceSettings()
