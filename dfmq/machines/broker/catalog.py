"""What there is and who holds it: tasks, generations, proofs, holders by piece. Who gets what is in scheduler."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from itertools import islice

from dfmq.errors import InvariantViolated
from dfmq.model import bitfield
from dfmq.model.ids import Generation, TaskId
from dfmq.model.pieces import PieceMap
from dfmq.model.task import Content, Request

MOST_TASKS = 65_536
MOST_TASKS_OF_PEER = 16_384
#: So many of a peer's tasks are looked at for one that nobody wants, before another of its tasks is not taken.
LOOKED_AT = 64
#: a task nobody used for so long is forgotten
IDLE_SECONDS = 3600.0


@dataclass(slots=True, eq=False)
class Member:
    """A peer that wants a task."""

    request: Request
    credential: bytes
    no_source: bool
    #: it was told Opened for the present generation; until then it waits for the source's word
    is_open: bool = False
    #: which of the sources of a content that is named by its digest it names
    mirror: bytes = b""
    #: parents that failed it since its last piece; they come last. A bit set of roster indices
    shunned: int = 0
    #: failures since its last piece
    failures: int = 0
    #: leases that took too long and were moved, since the last that did not
    moves: int = 0


class Task:
    """One task. Peers are roster indices, sets of peers and of pieces are ints used as bit sets.

    Law: `whole[p]` are the peers whose `held` has p, less the barred; `taken[p]` are the peers whose `taking` has p,
    and those are the live leases; nobody takes what it holds; `available` are the pieces that are proven and that
    somebody holds whole; nothing is held of a content that is not known: until then it is a claim; `readers` counts the
    members that may go to the source.
    """

    def __init__(self, task: TaskId, url: str) -> None:
        self.id = task
        #: as it may be shown to people
        self.url = url
        self.content: Content | None = None
        #: the set of all pieces there can be
        self.limit = 0
        #: piece → its chunk digests, the broker's word on what is true
        self.proofs: dict[int, bytes] = {}
        self.whole: dict[int, int] = {}
        self.taken: dict[int, int] = {}
        #: peer → pieces
        self.held: dict[int, int] = {}
        self.taking: dict[int, int] = {}
        #: peer → (generation, pieces): said to be held, of a content that is not known yet
        self.claims: dict[int, tuple[Generation, int]] = {}
        self.members: dict[int, Member] = {}
        self.readers = 0
        self.available = 0
        #: what a lease takes when it goes well, 0 unknown
        self.usual_seconds = 0.0
        #: peers in quarantine that hold something here: they are in `held`, not in `whole`
        self.barred = 0

    @property
    def cut(self) -> PieceMap:
        """The content's cut; there must be a content."""
        if self.content is None:
            raise InvariantViolated("the cut of a content that is not known")
        return self.content.cut

    @property
    def claimed(self) -> Generation:
        """A generation somebody says to hold, of a content that is not known yet; b"" none."""
        return next((generation for generation, _ in self.claims.values()), Generation(b""))

    @property
    def is_sealed(self) -> bool:
        """The content's length is known."""
        return self.content is not None and self.content.cut.length is not None

    def all_pieces(self) -> int:
        """The set of all pieces; of a growing content those that are proven."""
        return bitfield.full(self.cut.count) if self.is_sealed else bitfield.of(self.proofs)

    def is_complete(self, index: int) -> bool:
        """The peer holds the whole content."""
        return self.is_sealed and self.held.get(index, 0) == self.all_pieces()

    def is_available(self) -> bool:
        """Every piece of the whole content can be had from somebody."""
        return self.is_sealed and self.available == self.all_pieces()

    def begin(self, content: Content) -> None:
        """The content is known. What was claimed of this generation is held, other claims are void."""
        self.content = content
        self.limit = bitfield.full(content.cut.limit)
        self.proofs, self.whole, self.held, self.available = {}, {}, {}, 0
        if self.taking:
            raise InvariantViolated("another content while leases are live")
        claims, self.claims = self.claims, {}
        for index, (generation, pieces) in claims.items():
            if generation == content.generation:
                self.hold(index, pieces)

    def forget_content(self) -> None:
        """The content is no good; leases were ended before."""
        self.content = None
        self.proofs, self.whole, self.held, self.available = {}, {}, {}, 0

    def seal(self, length: int) -> None:
        """A growing content has this length; pieces beyond it never were."""
        if self.content is None:
            raise InvariantViolated("sealed before it is known")
        cut = self.content.cut.sealed(length)
        self.content = Content(self.content.generation, cut, self.content.algorithm)
        self.limit = bitfield.full(cut.limit)
        self.proofs = {piece: proofs for piece, proofs in self.proofs.items() if piece < cut.count}
        for index, held in list(self.held.items()):
            if beyond := held >> cut.count << cut.count:
                self.unhold(index, beyond)

    def prove(self, piece: int, proofs: bytes) -> bool:
        """The broker's word on a piece; False when it contradicts what was said before."""
        known = self.proofs.setdefault(piece, proofs)
        if known != proofs:
            return False
        if self.whole.get(piece):
            self.available |= 1 << piece
        return True

    def hold(self, index: int, pieces: int) -> int:
        """The peer holds these whole; returns those that are new of it."""
        held = self.held.get(index, 0)
        new = pieces & self.limit & ~held
        if not new:
            return 0
        self.held[index] = held | new
        if not self.barred >> index & 1:
            self._enter(index, new)
        return new

    def _enter(self, index: int, pieces: int) -> None:
        bit, whole, proofs = 1 << index, self.whole, self.proofs
        for piece in bitfield.members(pieces):
            whole[piece] = whole.get(piece, 0) | bit
            if piece in proofs:
                self.available |= 1 << piece

    def unhold(self, index: int, pieces: int) -> None:
        """The peer no longer holds these."""
        held = self.held.get(index, 0)
        gone = held & pieces
        if not gone:
            return
        if held == gone:
            del self.held[index]
        else:
            self.held[index] = held & ~gone
        if not self.barred >> index & 1:
            self._withdraw(index, gone)

    def _withdraw(self, index: int, pieces: int) -> None:
        bit, whole = 1 << index, self.whole
        for piece in bitfield.members(pieces):
            left = whole[piece] & ~bit
            if left:
                whole[piece] = left
            else:
                del whole[piece]
                self.available &= ~(1 << piece)

    def bar(self, index: int) -> None:
        """The peer is in quarantine: nobody may take from it what it holds."""
        if not self.barred >> index & 1:
            self.barred |= 1 << index
            self._withdraw(index, self.held.get(index, 0))

    def unbar(self, index: int) -> None:
        """The quarantine is over."""
        if self.barred >> index & 1:
            self.barred ^= 1 << index
            self._enter(index, self.held.get(index, 0))

    def take(self, index: int, piece: int) -> None:
        """The peer has a lease on the piece."""
        self.taking[index] = self.taking.get(index, 0) | 1 << piece
        self.taken[piece] = self.taken.get(piece, 0) | 1 << index

    def untake(self, index: int, piece: int) -> None:
        """The lease has ended."""
        if pieces := self.taking[index] & ~(1 << piece):
            self.taking[index] = pieces
        else:
            del self.taking[index]
        if peers := self.taken[piece] & ~(1 << index):
            self.taken[piece] = peers
        else:
            del self.taken[piece]

    def lacking(self, index: int) -> int:
        """Pieces that can be had and that the peer neither holds nor takes."""
        return self.available & ~(self.held.get(index, 0) | self.taking.get(index, 0))

    def join(self, index: int, member: Member) -> None:
        """The peer wants it, from now on in this way."""
        before = self.members.get(index)
        self.members[index] = member
        self.readers += (not member.no_source) - (before is not None and not before.no_source)

    def part(self, index: int) -> bool:
        """The peer wants it no more; whether it did."""
        member = self.members.pop(index, None)
        self.readers -= member is not None and not member.no_source
        return member is not None

    def is_idle(self) -> bool:
        """Nobody wants it."""
        return not self.members

    def may_be_read(self) -> bool:
        """Somebody who wants it may go to the source for it."""
        return self.readers > 0

    def check(self) -> None:
        """See the class's law."""
        for name, by_piece, by_peer in (("held", self.whole, self.held), ("taken", self.taken, self.taking)):
            pairs = {(p, i) for p, peers in by_piece.items() for i in bitfield.members(peers)}
            hidden = self.barred if name == "held" else 0
            expected = {(p, i) for i, ps in by_peer.items() if not hidden >> i & 1 for p in bitfield.members(ps)}
            if pairs != expected or not all(by_piece.values()) or not all(by_peer.values()):
                raise InvariantViolated(f"task {self.id.hex()}: {name} by piece and by peer differ")
        if any(held & self.taking.get(index, 0) for index, held in self.held.items()):
            raise InvariantViolated(f"task {self.id.hex()}: somebody takes what it holds")
        if self.available != bitfield.of(p for p in self.whole if p in self.proofs):
            raise InvariantViolated(f"task {self.id.hex()}: available pieces are not those proven and held")
        if self.content is None and (self.held or self.proofs or self.taking):
            raise InvariantViolated(f"task {self.id.hex()}: something is held of a content that is not known")
        if self.content is not None and self.claims:
            raise InvariantViolated(f"task {self.id.hex()}: claims of a content that is known")
        if any(member.is_open for member in self.members.values()) and self.content is None:
            raise InvariantViolated(f"task {self.id.hex()}: open and not known")
        if self.readers != sum(not member.no_source for member in self.members.values()):
            raise InvariantViolated(f"task {self.id.hex()}: not as many may go to the source as are counted")


class Catalog:
    """Every task of which somebody wants or holds something.

    Law: `of_peer` names, for every peer, the tasks it is a member of, holds, takes or claims something of; a task with
    no member stands in `_idle` in the order in which that began.
    """

    def __init__(self) -> None:
        self.tasks: dict[TaskId, Task] = {}
        self._of_peer: dict[int, dict[TaskId, None]] = {}
        #: task → since when nobody wants it
        self._idle: OrderedDict[TaskId, float] = OrderedDict()

    def get(self, task: TaskId) -> Task | None:
        """The task of this id."""
        return self.tasks.get(task)

    def enter(self, task_id: TaskId, index: int, url: str, now: float) -> Task | None:
        """The task, made if it is new, and the peer tied to it. None when no more can be remembered."""
        tied = self._of_peer.get(index, {})
        if task_id not in tied and len(tied) >= MOST_TASKS_OF_PEER:
            return None
        task = self.tasks.get(task_id)
        if task is None:
            if len(self.tasks) >= MOST_TASKS:
                return None
            task = self.tasks[task_id] = Task(task_id, url)
            self._idle[task_id] = now
        task.url = task.url or url
        # The one it last had to do with comes last.
        tied.pop(task_id, None)
        tied[task_id] = None
        self._of_peer[index] = tied
        return task

    def of_peer(self, index: int) -> list[Task]:
        """The tasks this peer has to do with."""
        return [self.tasks[task] for task in self._of_peer.get(index, ())]

    def has_peer(self, index: int, task: TaskId) -> bool:
        """The peer has to do with the task."""
        return task in self._of_peer.get(index, ())

    def make_way(self, task_id: TaskId, index: int, is_read: Callable[[TaskId], object]) -> None:
        """If the peer has to do with as many tasks as it may, and not with this one: forget what it has of one that
        nobody wants, or reads from its source. It says so again when it wants it."""
        tied = self._of_peer.get(index, {})
        if len(tied) < MOST_TASKS_OF_PEER or task_id in tied:
            return
        for other in islice(tied, LOOKED_AT):
            task = self.tasks[other]
            if task.is_idle() and index not in task.taking and not is_read(other):
                task.unhold(index, task.held.get(index, 0))
                task.claims.pop(index, None)
                self.untie(task, index)
                return

    def begin(self, task: Task, content: Content) -> None:
        """The task's content is this now; whoever had to do with another generation only is untied."""
        before = {*task.held, *task.claims}
        task.begin(content)
        for index in before:
            self.untie(task, index)

    def join(self, task: Task, index: int, member: Member) -> None:
        """The peer wants the task."""
        task.join(index, member)
        self._idle.pop(task.id, None)

    def part(self, task: Task, index: int, now: float) -> None:
        """The peer wants it no more."""
        if task.part(index) and task.is_idle():
            self._idle[task.id] = now
        self.untie(task, index)

    def untie(self, task: Task, index: int) -> None:
        """Forget the pair if it has nothing to do with each other any more."""
        if not (index in task.members or index in task.held or index in task.claims or index in task.taking):
            task.barred &= ~(1 << index)
            tied = self._of_peer.get(index, {})
            tied.pop(task.id, None)
            if not tied:
                self._of_peer.pop(index, None)

    def touch(self, task: Task, now: float) -> None:
        """Somebody did something with it."""
        if task.id in self._idle:
            self._idle[task.id] = now
            self._idle.move_to_end(task.id)

    def next_deadline(self) -> float:
        """When the task that has been idle longest is to be forgotten; never: infinite."""
        return next(iter(self._idle.values())) + IDLE_SECONDS if self._idle else float("inf")

    def longest_idle(self) -> Task | None:
        """The task that has been idle longest."""
        return self.tasks[next(iter(self._idle))] if self._idle else None

    def is_full(self) -> bool:
        """One must be forgotten before another can be entered."""
        return len(self.tasks) >= MOST_TASKS

    def forget(self, task: Task) -> None:
        """Drop a task nobody wants."""
        if task.members or task.taking:
            raise InvariantViolated(f"task {task.id.hex()} would be forgotten while it is wanted")
        peers = {*task.held, *task.claims}
        task.forget_content()
        task.claims = {}
        for index in peers:
            self.untie(task, index)
        del self.tasks[task.id]
        self._idle.pop(task.id, None)

    def check(self) -> None:
        """See the class's law; and every task's."""
        tied = {(index, task) for index, tasks in self._of_peer.items() for task in tasks}
        expected = set()
        for key, task in self.tasks.items():
            task.check()
            if key != task.id or (key in self._idle) != task.is_idle():
                raise InvariantViolated(f"task {key.hex()} stands under another name, or idle and wanted")
            for index in {*task.members, *task.held, *task.claims, *task.taking}:
                expected.add((index, key))
        if tied != expected or not all(self._of_peer.values()):
            raise InvariantViolated("the peers' tasks are not the tasks' peers")
        if list(self._idle.values()) != sorted(self._idle.values()):
            raise InvariantViolated("idle tasks are not in the order in which that began")
