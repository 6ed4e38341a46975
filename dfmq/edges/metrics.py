"""What happened in a process, as numbers: counted from its machines' records, shown as Prometheus text. No journal.

Counting is a dictionary; prometheus_client is imported by the first `render`, so a node without an HTTP API never pays
for it. Labels are bounded: a value nobody listed is counted as "other".
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, Literal

import msgspec

import dfmq
from dfmq.errors import BY_CODE

if TYPE_CHECKING:
    from prometheus_client.metrics_core import Metric

PATHS = ("source", "seed", "peers", "store")
#: What ends a lease or a stream, or is wrong with a message (wire/messages), beside the failures of dfmq.errors.
WIRE_CODES = frozenset(
    {"stalled", "corrupt", "refused", "unreachable", "cancelled", "done", "not_held", "busy", "going", "damaged"}
    | {"unknown_message", "malformed", "version", "unknown_peer", "unknown_task", "stranger", "expired"}
)
CODES = frozenset(BY_CODE) | WIRE_CODES
PRESSURES = ("calm", "busy", "full")
#: A gauge's name comes from a machine's counts; so many different ones are believed.
MOST_GAUGES = 64
_GAUGE_NAME = re.compile(r"[a-z][a-z0-9_]{0,63}\Z")


class Counter(msgspec.Struct, frozen=True):
    """One counter: its name without `_total`, what it says, its label, and which field of a record adds to it."""

    name: str
    help: str
    label: Literal["", "code", "path", "role"] = ""
    #: "" one per record
    adds: str = ""


GETS_FAILED = Counter("dfmq_gets_failed", "Gets that ended with an error.", "code")
LEASES_FAILED = Counter("dfmq_leases_failed", "Leases that ended without their piece.", "code")
SOURCE_BYTES = Counter("dfmq_source_bytes", "Bytes that came from sources.", adds="bytes")
GET_BYTES = Counter("dfmq_get_bytes", "Content of finished gets, by where it came from.", "path")

#: record → what it counts. Records that are not here are in the journal only.
COUNTERS: dict[str, tuple[Counter, ...]] = {
    "peer.welcomed": (Counter("dfmq_peers_welcomed", "Peers that said hello.", "role"),),
    "peer.lost": (Counter("dfmq_peers_lost", "Peers that said goodbye or fell silent."),),
    "peer.quarantined": (Counter("dfmq_peers_quarantined", "Peers shut out for bad content."),),
    "host.suspected": (Counter("dfmq_hosts_suspected", "Times a host's health fell."),),
    "task.opened": (Counter("dfmq_tasks_opened", "Tasks opened."),),
    "task.refused": (Counter("dfmq_tasks_refused", "Tasks refused.", "code"),),
    "task.changed": (Counter("dfmq_tasks_changed", "New generations of a task's content."),),
    "task.forgotten": (Counter("dfmq_tasks_forgotten", "Tasks nobody has or wants any more."),),
    "permit.given": (Counter("dfmq_permits_given", "Permits to read a source."),),
    "permit.failed": (Counter("dfmq_permits_failed", "Permits that ended in a failure.", "code"),),
    "lease.granted": (Counter("dfmq_leases_granted", "Leases granted."),),
    "lease.done": (Counter("dfmq_leases_done", "Leases that ended with their piece."),),
    "lease.failed": (LEASES_FAILED,),
    "lease.expired": (LEASES_FAILED,),
    "lease.revoked": (Counter("dfmq_leases_revoked", "Leases the broker took back."),),
    "want.parked": (Counter("dfmq_wants_parked", "Wants that had to wait for a parent."),),
    "message.refused": (Counter("dfmq_messages_refused", "Messages that were not dfmq's protocol.", "code"),),
    "session.silent": (Counter("dfmq_broker_silences", "Times the broker fell silent."),),
    "get.started": (Counter("dfmq_gets_started", "Gets asked for by local clients."),),
    "get.done": (Counter("dfmq_gets_done", "Gets that ended well."),),
    "get.failed": (GETS_FAILED,),
    "piece.held": (
        Counter("dfmq_pieces_stored", "Pieces stored and proven."),
        Counter("dfmq_stored_bytes", "Bytes of the pieces stored and proven.", adds="bytes"),
    ),
    "chunk.rejected": (Counter("dfmq_chunks_rejected", "Chunks that were not what the broker said."),),
    "stream.stalled": (Counter("dfmq_streams_stalled", "Streams given up because nothing came."),),
    "stream.served": (
        Counter("dfmq_streams_served", "Streams served to children."),
        Counter("dfmq_served_bytes", "Bytes served to children.", adds="bytes"),
    ),
    "stream.refused": (Counter("dfmq_streams_refused", "Children turned away.", "code"),),
    "source.asked": (Counter("dfmq_source_requests", "Requests to sources."),),
    "source.ended": (SOURCE_BYTES,),
    "source.quit": (SOURCE_BYTES,),
    "source.broke": (SOURCE_BYTES, Counter("dfmq_source_failures", "Source reads that failed.", "code")),
    "source.retried": (Counter("dfmq_source_retries", "Source reads taken up again."),),
    "store.failed": (Counter("dfmq_store_failures", "Failures of the disk.", "code"),),
    "store.evicted": (Counter("dfmq_store_evictions", "Contents deleted to make room."),),
}

#: records that add one to one counter, and that is all they do: these come with every lease
_PLAIN = tuple(
    name
    for name, counters in COUNTERS.items()
    if len(counters) == 1 and not counters[0].label and not counters[0].adds and name != "get.done"
)


class Metrics:
    """The numbers of one process. Law: a counter never falls."""

    def __init__(self, role: str) -> None:
        self._role = role
        #: (counter, label value) → count; every counter stands here from the start, so a rate has a zero to begin at
        self._counts: dict[tuple[Counter, str], float] = {}
        #: record → how many, of those that are not in `_counts` before they are shown
        self._plain = dict.fromkeys(_PLAIN, 0)
        self._gauges: dict[str, float] = {}
        self._pressure = PRESSURES[0]
        for counters in COUNTERS.values():
            for counter in counters:
                if not counter.label:
                    self._counts[counter, ""] = 0.0
        for path in PATHS:
            self._counts[GET_BYTES, path] = 0.0

    def see(self, record_name: str, fields: Mapping[str, Any]) -> None:
        """Count a record. Read of its fields: `code`, `seed`, `bytes`, `level`, and of `get.done` `from_source`,
        `from_seed`, `from_peers`, `from_store`, in the record or in its `receipt`; what is missing counts nothing."""
        if record_name in self._plain:
            self._plain[record_name] += 1
            return
        for counter in COUNTERS.get(record_name, ()):
            amount = _amount(fields.get(counter.adds)) if counter.adds else 1.0
            self._add(counter, _label(counter, record_name, fields), amount)
        if record_name == "get.done":
            receipt = _plain(fields.get("receipt", fields))
            for path in PATHS:
                self._add(GET_BYTES, path, _amount(receipt.get(f"from_{path}")))
        elif record_name == "host.pressed" and fields.get("level") in PRESSURES:
            self._pressure = fields["level"]

    def _add(self, counter: Counter, label: str, amount: float) -> None:
        if amount:
            self._counts[counter, label] = self._counts.get((counter, label), 0.0) + amount

    def set_gauges(self, counts: Mapping[str, float]) -> None:
        """What is, now: `{"peers": 3}` is shown as `dfmq_peers 3`. Replaces what was said before under these names."""
        for name, value in counts.items():
            known = name in self._gauges or len(self._gauges) < MOST_GAUGES
            if known and _GAUGE_NAME.match(name):
                self._gauges[name] = float(value)

    def render(self) -> bytes:
        """Everything in Prometheus' text format, version 0.0.4."""
        from prometheus_client import CollectorRegistry, generate_latest

        registry = CollectorRegistry(auto_describe=False)
        registry.register(self)
        return generate_latest(registry)

    def collect(self) -> Iterator[Metric]:
        """For prometheus_client: every metric with its samples."""
        from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, InfoMetricFamily

        yield InfoMetricFamily("dfmq_node", "This process.", {"version": dfmq.__version__, "role": self._role})
        families: dict[str, CounterMetricFamily] = {}
        for name, number in self._plain.items():
            self._counts[COUNTERS[name][0], ""] = float(number)
        for (counter, label), count in self._counts.items():
            labels = [counter.label] if counter.label else []
            family = families.setdefault(counter.name, CounterMetricFamily(counter.name, counter.help, labels=labels))
            family.add_metric([label] if counter.label else [], count)
        yield from families.values()
        pressure = GaugeMetricFamily("dfmq_pressure", "How pressed this host is: 0 calm, 1 busy, 2 full.")
        pressure.add_metric([], float(PRESSURES.index(self._pressure)))
        yield pressure
        for name, value in self._gauges.items():
            gauge = GaugeMetricFamily(f"dfmq_{name}", f"The machine's count of {name.replace('_', ' ')}.")
            gauge.add_metric([], value)
            yield gauge


def _label(counter: Counter, record_name: str, fields: Mapping[str, Any]) -> str:
    if counter.label == "code":
        code = "expired" if record_name == "lease.expired" else str(fields.get("code", ""))
        return code if code in CODES else "other"
    if counter.label == "role":
        return "seed" if fields.get("seed") else "peer"
    return ""


def _plain(receipt: Any) -> Mapping[str, Any]:
    """A receipt as a mapping, whether it is the message or its fields."""
    return msgspec.structs.asdict(receipt) if isinstance(receipt, msgspec.Struct) else receipt


def _amount(value: Any) -> float:
    return float(value) if isinstance(value, int | float) and value > 0 else 0.0
