"""A writer that is killed: what it said was stored is there in the next life."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

from support.disk import Material, bench

_LENGTH = 4 << 20

#: Writes chunk after chunk and prints a line for each that the store calls stored.
_CHILD = """
import sys
from pathlib import Path
from support.disk import Material, Ears, ROOMY
from dfmq.edges import hashing
from dfmq.edges.store.content import Store

class Loud(Ears):
    def stored(self, task, generation, chunks):
        sys.stdout.write("".join(f"{piece} {chunk}\\n" for piece, chunk in chunks))
        sys.stdout.flush()

made = Material(int(sys.argv[2]))
ears = Loud()
store = Store(Path(sys.argv[1]), ROOMY, ears)
store.open(made.task, made.content, made.request)
ears.next("opened")
for piece, chunk in made.places():
    offset, octets = made.chunk(piece, chunk)
    while store.queued_bytes > 8192:
        pass
    store.write(made.task, made.generation, piece, chunk, offset, hashing.chunk_digest(octets), octets)
sys.stdin.read()
"""


def test_what_was_called_stored_before_a_kill_is_held_after_it(tmp_path: Path) -> None:
    here = Path(__file__).resolve().parents[2]
    made = Material(_LENGTH)
    for lines_before_the_kill in (1, 300, 1500):
        home = tmp_path / str(lines_before_the_kill)
        child = subprocess.Popen(
            [sys.executable, "-c", _CHILD, str(home), str(_LENGTH)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={"PYTHONPATH": f"{here}:{here / 'tests'}"},
        )
        assert child.stdout is not None and child.stdin is not None
        told = [child.stdout.readline() for _ in range(lines_before_the_kill)]
        child.send_signal(signal.SIGKILL)
        told += child.stdout.readlines()
        child.wait()
        child.stdout.close()
        child.stdin.close()
        places = {tuple(map(int, line.split())) for line in told if line.endswith("\n")}
        with bench(home) as b:
            held, partial, proofs = b.open(made)
            for piece, chunk in places:
                assert held >> piece & 1 or partial[piece] >> chunk & 1
            data = b.store.path(made.task).read_bytes()
            for piece, chunk in made.places():
                if held >> piece & 1 or partial.get(piece, 0) >> chunk & 1:
                    offset, octets = made.chunk(piece, chunk)
                    assert data[offset : offset + len(octets)] == octets
                    digest = slice(chunk * 16, chunk * 16 + 16)
                    assert proofs[piece][digest] == made.proofs(piece)[digest]
            held_places = {(p, c) for p, c in made.places() if held >> p & 1 or partial.get(p, 0) >> c & 1}
            b.write(made, [place for place in made.places() if place not in held_places])
            assert b.read(made) == made.octets
