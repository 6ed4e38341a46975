"""What children want and have not got, who is parked, and whom to look at next. Who gets what is in scheduler."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import Literal

from dfmq.errors import InvariantViolated
from dfmq.machines.broker.rates import MOST_IN_FLIGHT
from dfmq.machines.deadlines import Deadlines
from dfmq.model import bitfield
from dfmq.model.ids import TaskId

#: (what to do, task, whom): serve a child; give from a parent that has room; serve everybody who is parked (whom is 0);
#: serve those parked in a zone (whom) who may bring something into it
Duty = tuple[Literal["serve", "give", "stir", "enter"], TaskId, int]


@dataclass(slots=True, eq=False)
class Queue:
    """The wants of one task."""

    #: child → pieces wanted and not yet granted
    want: dict[int, int] = field(default_factory=dict)
    #: children for whom nothing can be done now, in the order they came
    parked: dict[int, None] = field(default_factory=dict)
    parked_bits: int = 0
    #: every piece a parked child lacks is in here, and maybe some more
    unmet: int = 0


class Wants:
    """Law: wants are positive and within MOST_IN_FLIGHT a child; only who wants is parked; a queue without a want is
    forgotten; `parked` are the queues with somebody parked; each duty is listed once."""

    def __init__(self) -> None:
        self.queues: dict[TaskId, Queue] = {}
        self.parked: dict[TaskId, Queue] = {}
        self._duties: deque[Duty] = deque()
        self._listed: set[Duty] = set()
        #: (task, child) whose wants rest until then
        self.resting: Deadlines[tuple[TaskId, int]] = Deadlines()

    # ── wants ────────────────────────────────────────────────────────────────────────────────────────────────────

    def add(self, task: TaskId, child: int, count: int, taking: int) -> None:
        """So many pieces more are wanted; what would go over MOST_IN_FLIGHT with those it is taking does not count."""
        before = self.count(task, child)
        total = min(before + count, MOST_IN_FLIGHT - taking)
        if total > 0:
            self.queues.setdefault(task, Queue()).want[child] = total

    def granted(self, task: TaskId, child: int) -> int:
        """One want is answered; so many are left."""
        queue = self.queues[task]
        left = queue.want[child] - 1
        if left:
            queue.want[child] = left
        else:
            self._drop(task, queue, child)
        return left

    def forget(self, task: TaskId, child: int) -> None:
        """The child wants nothing of this task any more."""
        self.resting.clear((task, child))
        queue = self.queues.get(task)
        if queue is not None and child in queue.want:
            self._drop(task, queue, child)

    def _drop(self, task: TaskId, queue: Queue, child: int) -> None:
        self.unpark(task, child)
        del queue.want[child]
        if not queue.want:
            del self.queues[task]

    def count(self, task: TaskId, child: int) -> int:
        """Pieces the child wants."""
        queue = self.queues.get(task)
        return queue.want.get(child, 0) if queue is not None else 0

    def total(self, task: TaskId) -> int:
        """Pieces of the task that are wanted."""
        queue = self.queues.get(task)
        return sum(queue.want.values()) if queue is not None else 0

    # ── the parked ───────────────────────────────────────────────────────────────────────────────────────────────

    def park(self, task: TaskId, child: int, lacking: int) -> bool:
        """Nothing can be done for the child now; `lacking`: the pieces it could use. False when it was parked."""
        queue = self.queues[task]
        queue.unmet |= lacking
        if child in queue.parked:
            return False
        queue.parked[child] = None
        queue.parked_bits |= 1 << child
        self.parked[task] = queue
        return True

    def unpark(self, task: TaskId, child: int) -> None:
        """The child got all it wants, or is not to be looked at now; one that is not parked is fine."""
        queue = self.parked.get(task)
        if queue is None or child not in queue.parked:
            return
        del queue.parked[child]
        queue.parked_bits ^= 1 << child
        if not queue.parked:
            queue.unmet = 0
            del self.parked[task]

    def to_the_end(self, task: TaskId, child: int) -> None:
        """A parked child got something and wants more: the others come first now."""
        parked = self.queues[task].parked
        del parked[child]
        parked[child] = None

    # ── duties ───────────────────────────────────────────────────────────────────────────────────────────────────

    def list(self, duty: Duty) -> None:
        """To be done soon, once."""
        if duty not in self._listed:
            self._listed.add(duty)
            self._duties.append(duty)

    def look_at(self, task: TaskId, child: int) -> None:
        """Something changed for this child: if it wants anything, it is to be served."""
        queue = self.queues.get(task)
        if queue is not None and child in queue.want:
            self.list(("serve", task, child))

    def next_duty(self) -> Duty | None:
        """Take out what has been listed longest."""
        if not self._duties:
            return None
        duty = self._duties.popleft()
        self._listed.discard(duty)
        return duty

    def is_listed(self, duty: Duty) -> bool:
        """It will be done."""
        return duty in self._listed

    @property
    def has_duties(self) -> bool:
        """Something is listed."""
        return bool(self._duties)

    def check(self) -> None:
        """See the class's law."""
        if {task for task, queue in self.queues.items() if queue.parked} != set(self.parked):
            raise InvariantViolated("queues with somebody parked are not those listed")
        if self._listed != set(self._duties) or len(self._listed) != len(self._duties):
            raise InvariantViolated("the duties and their index differ")
        for task, queue in self.queues.items():
            if not queue.want or any(not 1 <= count <= MOST_IN_FLIGHT for count in queue.want.values()):
                raise InvariantViolated(f"task {task.hex()}: wants {queue.want}")
            if queue.parked_bits != bitfield.of(queue.parked) or set(queue.parked) - set(queue.want):
                raise InvariantViolated(f"task {task.hex()}: parked {list(queue.parked)}, wanting {list(queue.want)}")
