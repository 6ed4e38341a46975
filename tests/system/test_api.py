"""Real processes: what a broker shows over HTTP is true, and nobody shows a secret."""

from __future__ import annotations

import json
import os
import subprocess
import urllib.error
import urllib.request
from pathlib import Path

import pytest
from support.processes import House, Node, finish, until
from support.sources import FaultySource

pytestmark = pytest.mark.system

MIB = 1 << 20
CANARY = "c4n4ry-0f-the-test"


def ask(broker: Node, path: str) -> str:
    with urllib.request.urlopen(f"http://{broker.said['api']}{path}", timeout=10) as answer:
        text: str = answer.read().decode()
    return text


def metrics(broker: Node) -> dict[str, float]:
    """Name and labels → value."""
    lines = [line for line in ask(broker, "/metrics").splitlines() if not line.startswith("#")]
    return {name: float(value) for name, value in (line.rsplit(" ", 1) for line in lines)}


def test_a_peer_that_is_started_again_is_known_to_hold_what_it_holds(house: House, source: FaultySource) -> None:
    """Whether anybody asks for it or not."""
    broker = house.broker("broker", "--api", "127.0.0.1:0")
    peer = house.peer("peer", broker)
    urls = [source.put(f"/{name}", os.urandom(MIB)) for name in "ab"]
    for url in urls:
        assert house.get(peer, url, "-o", house.folder / "x").status == 0

    def holders() -> list[int]:
        return [task["holders"] for task in json.loads(ask(broker, "/v1/tasks"))]

    until("the seed and the peer hold both", lambda: holders() == [2, 2])
    peer.stop()
    until("only the seed holds them", lambda: holders() == [1, 1])
    house.peer("peer", broker)
    until("the peer holds both again", lambda: holders() == [2, 2])


def test_the_api_shows_what_is_so(house: House, source: FaultySource) -> None:
    content = os.urandom(5 * MIB)
    broker = house.broker("broker", "--api", "127.0.0.1:0", "--seed-up-limit", "4MB/s")
    one, two = house.peers(["one", "two"], broker, "--zone", "here")
    assert json.loads(ask(broker, "/healthz")) == {"healthy": True}
    assert json.loads(ask(broker, "/v1/tasks")) == []

    url = source.put("/x", content)
    getting = house.start_get(one, url, "-o", house.folder / "x")
    until("a lease is shown", lambda: any(task["leases"] for task in json.loads(ask(broker, "/v1/tasks"))))
    (during,) = json.loads(ask(broker, "/v1/tasks"))
    assert during["members"] == 1 and during["length"] == len(content)
    assert finish(getting).status == 0
    assert house.get(two, url, "-o", house.folder / "y").status == 0
    assert house.get(two, source.url("/no"), "-o", house.folder / "z").status == 5

    task = next(task for task in json.loads(ask(broker, "/v1/tasks")) if task["url"] == url)
    assert (task["pieces"], task["available"], task["complete"], task["holders"]) == (20, 20, 3, 3)
    assert (task["members"], task["wants"], task["leases"], task["permits"]) == (0, 0, 0, 0)
    peers = json.loads(ask(broker, "/v1/peers"))
    assert {peer["exchange"] for peer in peers} == {str(node.said["exchange"]) for node in (broker, one, two)}
    assert sorted((peer["seed"], peer["zone"], peer["health"]) for peer in peers) == [
        (False, "here", "good"), (False, "here", "good"), (True, "", "good"),
    ]  # fmt: skip

    seen = metrics(broker)
    assert seen["dfmq_peers"] == 3 and seen["dfmq_seeds"] == 1 and seen["dfmq_leases"] == 0
    assert seen['dfmq_peers_welcomed_total{role="peer"}'] == 2
    assert seen['dfmq_peers_welcomed_total{role="seed"}'] == 1
    assert seen["dfmq_source_bytes_total"] == seen["dfmq_stored_bytes_total"] == len(content)
    assert seen["dfmq_source_requests_total"] == source.requests("/x") + source.requests("/no")
    assert seen["dfmq_leases_granted_total"] >= seen["dfmq_leases_done_total"] == 40
    served = seen["dfmq_served_bytes_total"]
    assert len(content) <= served <= 2 * len(content)
    assert seen['dfmq_tasks_refused_total{code="source_refused"}'] == 1
    assert seen['dfmq_permits_failed_total{code="source_refused"}'] == 1
    two.stop()
    until("its leaving is counted", lambda: metrics(broker)["dfmq_peers_lost_total"] == 1)
    assert metrics(broker)["dfmq_peers"] == 2


def test_a_peer_that_comes_back_says_how_fast_it_was_the_night_before(
    house: House, source: FaultySource, tmp_path: Path
) -> None:
    broker = house.broker("broker", "--api", "127.0.0.1:0")
    peer = house.peer("a", broker)
    url = source.put("/night", os.urandom(16 * MIB))
    assert house.get(peer, url, "-o", tmp_path / "night.out").status == 0
    assert peer.stop() == 0
    kept = json.loads((peer.home / "rates.json").read_text())["down"]
    assert kept > 0

    again = house.peer("a", broker)

    def said() -> list[int]:
        rows = json.loads(ask(broker, "/v1/peers"))
        return [row["down_bytes_per_second"] for row in rows if row["name"] and not row["seed"]]

    until("the broker knows its rate", lambda: said() == [kept])
    assert again.popen.poll() is None


def test_the_api_cannot_be_talked_into_anything(house: House) -> None:
    broker = house.broker("broker", "--api", "127.0.0.1:0")
    for path, method, status in (("/", "GET", 404), ("/v1/tasks", "DELETE", 405), ("/../../etc/passwd", "GET", 404)):
        request = urllib.request.Request(f"http://{broker.said['api']}{path}", method=method)
        with pytest.raises(urllib.error.HTTPError) as caught:
            urllib.request.urlopen(request, timeout=10)
        assert caught.value.code == status
        assert json.load(caught.value)["status"] == status
        caught.value.close()


def test_labels_do_not_grow_with_what_is_asked(house: House, source: FaultySource) -> None:
    broker = house.broker("broker", "--api", "127.0.0.1:0")
    peer = house.peer("peer", broker)

    def get(name: str) -> None:
        assert house.get(peer, source.put(f"/{name}", name.encode()), "-o", house.folder / name).status == 0

    get("first")
    before = set(metrics(broker))
    get("second")
    get("third")
    assert set(metrics(broker)) == before


def test_a_secret_is_seen_nowhere(house: House, source: FaultySource) -> None:
    """In a header, in a URL's query, in its userinfo: at the source, and nowhere else."""
    content = os.urandom(2 * MIB)
    headers = house.folder / "headers"
    headers.write_text(f"Authorization: Bearer {CANARY}\n")
    host = source.url("").removeprefix("http://")
    source.put("/slow", content, rate=1_500_000)
    source.put("/x", content)
    broker = house.broker("broker", "--api", "127.0.0.1:0", "-vv")
    one, two = house.peers(["one", "two"], broker, "-vv")
    getting = house.start_get(one, source.url("/slow"), "-o", house.folder / "slow", "-H", f"@{headers}")
    one.wait_for("piece.held")
    shown = [ask(broker, path) for path in ("/v1/tasks", "/v1/peers", "/metrics")]
    shown.append(subprocess.run(["ps", "axww", "-o", "args"], capture_output=True, text=True, check=True).stdout)
    said = [finish(getting)]
    assert said[0].status == 0
    assert source.seen("/slow")[0]["authorization"] == f"Bearer {CANARY}"
    for url in (f"http://{host}/x?signature={CANARY}", f"http://user:{CANARY}@{host}/x", f"http://{host}/no?{CANARY}"):
        for peer in (one, two):
            said.append(house.get(peer, url, "-o", house.folder / "x"))
    assert [got.status for got in said[1:]] == [0, 0, 0, 0, 5, 5], said
    assert any(CANARY in seen[":target"] for seen in source.seen("/x"))
    shown += [ask(broker, path) for path in ("/v1/tasks", "/v1/peers", "/metrics")]
    shown += [got.out + got.err for got in said]
    for node in (broker, one, two):
        shown += [(node.home / "journal.jsonl").read_text(), node.log.read_text(), json.dumps(node.said)]
    assert not [text for text in shown if CANARY in text]
