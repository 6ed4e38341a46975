"""Records become numbers, with bounded labels, in text Prometheus reads."""

from __future__ import annotations

import subprocess
import sys

from prometheus_client.parser import text_string_to_metric_families

from dfmq.edges.metrics import COUNTERS, MOST_GAUGES, Metrics
from dfmq.machines.effects import RECORDS
from dfmq.wire.messages import Receipt


def _samples(metrics: Metrics) -> dict[tuple[str, ...], float]:
    """(name, label values…) → value, through Prometheus' own reader."""
    families = text_string_to_metric_families(metrics.render().decode())
    return {(s.name, *s.labels.values()): s.value for family in families for s in family.samples}


def test_records_are_counted_under_their_code() -> None:
    metrics = Metrics("broker")
    for _ in range(3):
        metrics.see("lease.granted", {"lease": 1})
    metrics.see("lease.failed", {"code": "stalled"})
    metrics.see("lease.expired", {})
    metrics.see("get.failed", {"code": "digest_mismatch"})
    seen = _samples(metrics)
    assert seen["dfmq_leases_granted_total",] == 3
    assert seen["dfmq_leases_failed_total", "stalled"] == 1
    assert seen["dfmq_leases_failed_total", "expired"] == 1
    assert seen["dfmq_gets_failed_total", "digest_mismatch"] == 1
    assert seen["dfmq_gets_done_total",] == 0


def test_a_receipt_counts_bytes_by_path() -> None:
    metrics = Metrics("peer")
    metrics.see("get.done", {"from_source": 5, "from_peers": 1000, "from_store": 0})
    metrics.see("get.done", {"receipt": Receipt(from_seed=7, from_peers=1)})
    metrics.see("piece.held", {"piece": 3, "bytes": 4096})
    seen = _samples(metrics)
    by_path = {path: seen["dfmq_get_bytes_total", path] for path in ("source", "seed", "peers", "store")}
    assert by_path == {"source": 5, "seed": 7, "peers": 1001, "store": 0}
    assert seen["dfmq_stored_bytes_total",] == 4096


def test_labels_are_bounded_whatever_peers_say() -> None:
    metrics = Metrics("broker")
    for i in range(1000):
        metrics.see("task.refused", {"code": f"made-up-{i}"})
        metrics.see("peer.welcomed", {"name": f"made-up-{i}", "seed": i == 0})
        metrics.set_gauges({f"made_up_{i}": i, "no name": 1})
    seen = _samples(metrics)
    assert seen["dfmq_tasks_refused_total", "other"] == 1000
    assert (seen["dfmq_peers_welcomed_total", "peer"], seen["dfmq_peers_welcomed_total", "seed"]) == (999, 1)
    assert sum(name[0].startswith("dfmq_made_up") for name in seen) == MOST_GAUGES


def test_gauges_and_pressure_show_what_is_now() -> None:
    metrics = Metrics("peer")
    metrics.set_gauges({"peers": 3})
    metrics.set_gauges({"peers": 2})
    metrics.see("host.pressed", {"level": "busy"})
    seen = _samples(metrics)
    assert seen["dfmq_peers",] == 2
    assert seen["dfmq_pressure",] == 1


def test_every_counter_counts_a_record_that_exists() -> None:
    assert set(COUNTERS) <= RECORDS


def test_counting_does_not_import_the_prometheus_library() -> None:
    script = (
        "import sys; from dfmq.edges.metrics import Metrics; Metrics('peer').see('get.done', {});"
        "assert 'prometheus_client' not in sys.modules and 'aiohttp' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", script], check=True)
