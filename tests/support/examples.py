"""One message of every kind, every field other than its default: what vectors, tables and fuzzing start from."""

from __future__ import annotations

from typing import Any

from dfmq.model.host import HostSample
from dfmq.model.task import Request
from dfmq.wire import codec, messages
from dfmq.wire.messages import Message

TASK = bytes(range(16))
GENERATION = bytes.fromhex("67656e65726174e5")
PEER = b"P" * 15 + b"\xff"
CHILD = b"C" * 15 + b"\xff"
HOST = b"H" * 15 + b"\xff"
PROOFS = bytes(range(32))
REQUEST = Request(
    url="https://example.com/weights.bin",
    digest="sha256:" + "ab" * 32,
    tag="nightly",
    filters=("sig",),
    headers=(("Accept", "*/*"),),
    cacert="PEM",
    insecure=True,
)
SAMPLE = HostSample(
    cpu_share=0.5,
    memory_share=0.25,
    disk_share=0.125,
    disk_free_bytes=1 << 40,
    net_in_bytes_per_second=1_000_000,
    net_out_bytes_per_second=2_000_000,
    nic_bytes_per_second=125_000_000,
)
RECEIPT = messages.Receipt(from_source=1, from_seed=2, from_peers=3, from_store=4)
LEASE = messages.Lease(
    lease=77, piece=3, parent=PEER, endpoint="tcp://192.0.2.1:40001", proofs=PROOFS, seconds=12.5, seed=True
)

EXAMPLES: dict[str, Message] = {
    str(type(message).__struct_config__.tag): message
    for message in (
        messages.Hello(
            peer=PEER,
            host=HOST,
            exchange="tcp://192.0.2.1:40001",
            hints="tcp://192.0.2.1:40002",
            name="rack1-7",
            seed=True,
            slots=32,
            up_limit=10_000_000,
            down_limit=20_000_000,
            zone="rack1",
            software="dfmq 0.1.0",
        ),
        messages.Open(task=TASK, request=REQUEST, generation=GENERATION, held=b"\x05", want=3, no_source=True),
        messages.Held(task=TASK, generation=GENERATION, held=b"\xff\x01"),
        messages.Want(task=TASK, count=2, in_flight=4, down_rate=125_000_000, up_rate=62_500_000),
        messages.Have(task=TASK, generation=GENERATION, pieces=[0, 7, 16_777_215]),
        messages.Lost(task=TASK, pieces=[1], all_pieces=True),
        messages.Failed(task=TASK, lease=77, piece=3, code="stalled", text="nothing for 1.2 s"),
        messages.Close(task=TASK),
        messages.Beat(stamp=123_456_789, sample=SAMPLE, down_rate=1, up_rate=2),
        messages.Bye(),
        messages.Sourced(
            permit=5,
            task=TASK,
            generation=GENERATION,
            length=209_715_200,
            piece_length=2_097_152,
            chunk_length=131_072,
            algorithm="blake3",
            fresh_seconds=60.0,
        ),
        messages.Proven(task=TASK, generation=GENERATION, piece=3, proofs=PROOFS),
        messages.Sealed(task=TASK, generation=GENERATION, length=209_715_200),
        messages.SourceFailed(permit=5, task=TASK, code="source_refused", text="404 Not Found", retry_after=5.0),
        messages.Welcome(epoch=1_700_000_000, notices="tcp://192.0.2.9:7401", beat_seconds=0.5),
        messages.Opened(
            task=TASK,
            generation=GENERATION,
            length=None,
            piece_length=4_194_304,
            chunk_length=262_144,
            algorithm="blake3",
            neighbours=["tcp://192.0.2.2:40002"],
        ),
        messages.Refused(task=TASK, code="not_authorised", text="401 Unauthorized", retry_after=5.0),
        messages.Grant(task=TASK, generation=GENERATION, leases=[LEASE]),
        messages.Revoke(task=TASK, leases=[77, 78]),
        messages.Permit(
            permit=5,
            task=TASK,
            request=REQUEST,
            generation=GENERATION,
            check_only=True,
            hosts=300,
            claimed=b"claimed\xe5",
        ),
        messages.Quit(permit=5, task=TASK),
        messages.BeatSeen(stamp=123_456_789, behind=True),
        messages.Error(code="unknown_message", text="$.op", version=2),
        messages.Notice(kind="generation", epoch=9, task=TASK, generation=GENERATION, peer=PEER),
        messages.Hint(
            task=TASK,
            generation=GENERATION,
            piece=3,
            peer=PEER,
            endpoint="tcp://192.0.2.1:40001",
            proofs=PROOFS,
        ),
        messages.Fetch(
            lease=77,
            task=TASK,
            generation=GENERATION,
            piece=3,
            chunks=b"\x03",
            credit=1_048_576,
            inbox="tcp://192.0.2.3:40003",
        ),
        messages.Credit(lease=77, credit=131_072),
        messages.Stop(lease=77, code="not_held"),
        messages.Ask(),
        messages.Answer(
            pid=4242, software="dfmq 0.1.0", brokers=["tcp://192.0.2.9:7400"], alone=True, broker_seen=True
        ),
        messages.Get(get=1, request=REQUEST, limit=20_000_000, no_source=True, unwatched=True),
        messages.Release(
            get=1, linked=True, ctime_before=1_795_000_000_000_000_000, ctime_after=1_795_000_000_004_000_000
        ),
        messages.Progress(get=1, length=10, held=4, bytes_per_second=2, parents=3, receipt=RECEIPT),
        messages.Done(get=1, path="/srv/data", length=10, task=TASK, generation=GENERATION, receipt=RECEIPT),
        messages.Sorry(get=1, code="no_space", text="3 GiB are missing", retry_after=1.5),
    )
}

#: grammar's name in docs/protocol.md → its decoder
GRAMMARS: dict[str, codec.Decoder[Any]] = {
    "control, peer → broker": codec.broker_hears,
    "control, broker → peer": codec.peer_hears,
    "exchange, child → parent": codec.parent_hears,
    "exchange, parent → child": codec.child_hears,
    "notices": codec.notices,
    "hints": codec.hints,
    "local, client → peer": codec.local_hears,
    "local, peer → client": codec.client_hears,
}

#: (lease, piece, chunk) of the chunk vector, and its payload
CHUNK = (77, 3, 15)
PAYLOAD = b"sixteen octets.."
