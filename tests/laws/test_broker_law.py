"""Peers come, want, have, fail, lie down and go in any order: the broker's books balance after every event, nobody
stands parked who could be served, and once all behave everybody gets everything."""

from __future__ import annotations

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule
from support.broker_swarm import MIRRORED, MIRRORS, PIECES, TASKS, Member, Swarm

from dfmq.model import bitfield
from dfmq.model.ids import TaskId
from dfmq.wire import messages as said

ZONES = ["", "", "east", "west"]
#: what a peer is told to send at most: mostly as it can, else less or more than a lease brings
LIMITS = [0, 0, 0, 1_000, 100_000, 10_000_000]
ALL_TASKS = [*TASKS, MIRRORED]
REFUSALS = ["source_failed", "source_refused", "source_unreachable", "not_authorised"]
CODES = ["stalled", "corrupt", "refused", "unreachable", "cancelled"]


class BrokerLaw(RuleBasedStateMachine):
    """`Swarm` checks every part's law after every event; that a parked child can be served by nobody is one of them."""

    def __init__(self) -> None:
        super().__init__()
        self.swarm = Swarm()
        self.swarm.join(seed=True)

    # ── picking ──────────────────────────────────────────────────────────────────────────────────────────────────

    def one(self, number: int) -> Member:
        members = list(self.swarm.members.values())
        return members[number % len(members)]

    def a_lease(self, number: int) -> tuple[Member, int]:
        leases = list(self.swarm.leases())
        return leases[number % len(leases)]

    def has_leases(self) -> bool:
        return any(True for _ in self.swarm.leases())

    # ── coming and going ─────────────────────────────────────────────────────────────────────────────────────────

    @precondition(lambda self: len(self.swarm.members) < 9)
    @rule(
        host=st.integers(1, 6),
        slots=st.integers(1, 4),
        seed=st.sampled_from([False] * 5 + [True]),
        zone=st.sampled_from(ZONES),
        up_limit=st.sampled_from(LIMITS),
    )
    def join(self, host: int, slots: int, seed: bool, zone: str, up_limit: int) -> None:
        self.swarm.join(host=100 + host, slots=slots, seed=seed, zone=zone, up_limit=up_limit)

    @rule(host=st.integers(1, 6), zone=st.sampled_from(ZONES), up_limit=st.sampled_from(LIMITS))
    def join_and_open(self, host: int, zone: str, up_limit: int) -> None:
        if len(self.swarm.members) < 9:
            self.swarm.opens(self.swarm.join(host=100 + host, zone=zone, up_limit=up_limit), TASKS[0])

    @precondition(lambda self: len(self.swarm.members) > 1)
    @rule(number=st.integers(0, 8), how=st.sampled_from(["bye", "unreachable"]))
    def leave(self, number: int, how: str) -> None:
        self.swarm.leaves(self.one(number), how=how)

    @precondition(lambda self: len(self.swarm.members) > 0)
    @rule(number=st.integers(0, 8))
    def hello_again(self, number: int) -> None:
        self.swarm.hello(self.one(number), 100 + number)

    @rule(ago=st.sampled_from([0.0, 0.5, 5.0]))
    def fall_behind(self, ago: float) -> None:
        self.swarm.falls_behind(ago)

    @rule()
    def catch_up(self) -> None:
        self.swarm.catches_up()

    # ── wanting ──────────────────────────────────────────────────────────────────────────────────────────────────

    @precondition(lambda self: len(self.swarm.members) > 0)
    @rule(
        number=st.integers(0, 8),
        task=st.sampled_from(ALL_TASKS),
        want=st.integers(0, 5),
        alone=st.booleans(),
        token=st.sampled_from(["", "mine", "theirs"]),
        mirror=st.sampled_from(range(len(MIRRORS))),
    )
    def open(self, number: int, task: TaskId, want: int, alone: bool, token: str, mirror: int) -> None:
        member = self.one(number)
        if not member.is_seed:
            self.swarm.opens(member, task, want, no_source=alone and want > 3, token=token, mirror=mirror)

    @precondition(lambda self: len(self.swarm.members) > 0)
    @rule(number=st.integers(0, 8), task=st.sampled_from(ALL_TASKS), count=st.integers(0, 70))
    def want(self, number: int, task: TaskId, count: int) -> None:
        self.swarm.say(self.one(number), said.Want(task=task, count=count))

    @precondition(lambda self: len(self.swarm.members) > 0)
    @rule(
        number=st.integers(0, 8),
        down=st.sampled_from([0, 10**5, 10**6, 10**7]),
        up=st.sampled_from([0, 10**5, 10**6, 10**7]),
        in_flight=st.integers(1, 8),
    )
    def measure(self, number: int, down: int, up: int, in_flight: int) -> None:
        self.swarm.say(
            self.one(number), said.Want(task=TASKS[0], count=0, in_flight=in_flight, down_rate=down, up_rate=up)
        )

    @precondition(lambda self: len(self.swarm.members) > 0)
    @rule(number=st.integers(0, 8), task=st.sampled_from(ALL_TASKS))
    def close(self, number: int, task: TaskId) -> None:
        self.swarm.closes(self.one(number), task)

    # ── leases ───────────────────────────────────────────────────────────────────────────────────────────────────

    @precondition(lambda self: self.has_leases())
    @rule(number=st.integers(0, 60))
    def have(self, number: int) -> None:
        self.swarm.has(*self.a_lease(number))

    @precondition(lambda self: self.has_leases())
    @rule(number=st.integers(0, 60), code=st.sampled_from(CODES))
    def fail(self, number: int, code: str) -> None:
        self.swarm.fails(*self.a_lease(number), code)

    @precondition(lambda self: self.has_leases())
    @rule(number=st.integers(0, 60))
    def have_though_the_lease_is_lost(self, number: int) -> None:
        """Hedged: the piece came in another way, and is told before the lease ends; a later one told twice."""
        member, lease_id = self.a_lease(number)
        task, lease = member.leases[lease_id]
        self.swarm.has(member, lease_id)
        self.swarm.say(member, said.Have(task=task, generation=member.opened[task], pieces=[lease.piece]))

    @precondition(lambda self: len(self.swarm.members) > 0)
    @rule(number=st.integers(0, 8), task=st.sampled_from(ALL_TASKS), pieces=st.sets(st.integers(0, PIECES - 1)))
    def lose(self, number: int, task: TaskId, pieces: set[int]) -> None:
        member = self.one(number)
        generation, held = member.held.get(task, (b"", 0))
        lost = bitfield.of(pieces) if pieces else held
        member.held[task] = (generation, held & ~lost)
        self.swarm.say(member, said.Lost(task=task, pieces=sorted(pieces), all_pieces=not pieces))

    # ── the source ───────────────────────────────────────────────────────────────────────────────────────────────

    @rule(number=st.integers(0, 8))
    def source(self, number: int) -> None:
        for member in list(self.swarm.members.values()):
            for permit_id in list(member.permits)[: number % 2 + 1]:
                self.swarm.sources(member, permit_id)

    @rule()
    def source_is_heard_late(self) -> None:
        for member in list(self.swarm.members.values()):
            for permit_id, permit in list(member.permits.items()):
                if permit.check_only and permit_id in member.permits:
                    self.swarm.sources_late(member, permit_id)

    @rule(code=st.sampled_from([*REFUSALS, "no_space", "digest_mismatch"]))
    def source_fails(self, code: str) -> None:
        for member in list(self.swarm.members.values()):
            for permit_id, permit in list(member.permits.items())[:1]:
                del member.permits[permit_id]
                self.swarm.say(
                    member, said.SourceFailed(permit=permit_id, task=permit.task, code=code, text="no", retry_after=0.0)
                )

    @rule(task=st.sampled_from(TASKS))
    def another_content(self, task: TaskId) -> None:
        self.swarm.changes(task)

    # ── time ─────────────────────────────────────────────────────────────────────────────────────────────────────

    @rule(seconds=st.sampled_from([0.1, 1.0, 3.0, 7.0, 70.0]))
    def wait(self, seconds: float) -> None:
        self.swarm.passes(seconds)

    @rule()
    def silence(self) -> None:
        """Nobody is heard for three beats: everybody is lost, when all has been read."""
        self.swarm.passes(7.0, beating=False)
        self.swarm.catches_up()
        self.swarm.members.clear()
        assert self.swarm.machine.counts() | {"tasks": 0} == dict.fromkeys(self.swarm.machine.counts(), 0)

    # ── the end ──────────────────────────────────────────────────────────────────────────────────────────────────

    def teardown(self) -> None:
        """Once everybody behaves, everybody who asks has everything or was told no."""
        swarm = self.swarm
        swarm.catches_up()
        swarm.join(seed=True, host=999)
        for _ in range(3):
            # Rests end, refusals are forgotten.
            swarm.passes(6.0)
            for member in list(swarm.members.values()):
                for task in list(member.asking):
                    swarm.opens(member, task, 3)
            swarm.settle()
        for member in swarm.members.values():
            for task in member.asking:
                assert member.has(task) == bitfield.full(PIECES), (member.peer, swarm.machine.tasks())
        for member in list(swarm.members.values()):
            swarm.leaves(member)
        assert swarm.machine.counts() | {"tasks": 0} == dict.fromkeys(swarm.machine.counts(), 0)


TestBrokerLaw = BrokerLaw.TestCase
