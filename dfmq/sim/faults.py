"""What goes wrong in a simulated world, and when: entered into its agenda from its own chance. Heals what it breaks."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dfmq.sim.host import SimHost
    from dfmq.sim.world import World

#: Share of killed peers that come back.
RETURNING = 0.8
#: Share of killed peers whose end nobody is told: the host lost its power, no connection is closed.
VANISHING = 0.4


def enter(world: World) -> None:
    """Enter every fault of the plan, at instants while the transfer is likely to go on."""
    plan, rng = world.plan, world.rng
    span = plan.spread + 1.3 * plan.unit + 0.1
    for _ in range(plan.crashes):
        world.agenda.at(rng.uniform(0.0, span), _crash, world)
    for _ in range(plan.freezes):
        world.agenda.at(rng.uniform(0.0, span), _freeze, world)
    for _ in range(plan.cuts):
        world.agenda.at(rng.uniform(0.0, span), _cut, world)
    for host, errand in rng.sample(list(zip(world.hosts, world.errands, strict=True)), min(plan.strays, plan.peers)):
        world.agenda.at(errand.starts_at + rng.uniform(0.2, 0.8) * plan.unit, _stray, host)
    for _ in range(plan.broker_restarts):
        world.agenda.at(rng.uniform(0.0, span), _restart_broker, world)
    for _ in range(plan.changes):
        world.agenda.at(rng.uniform(0.0, span), _change, world)
    for file in world.source.files.values():
        file.breaks_at = sorted(rng.randrange(plan.size) for _ in range(plan.breaks))
        file.stalls_at = sorted((rng.randrange(plan.size), rng.uniform(0.5, 15.0)) for _ in range(plan.stalls))


def _somebody(world: World) -> SimHost | None:
    alive = [host for host in world.hosts if host.process is not None]
    return world.rng.choice(alive) if alive else None


def _crash(world: World) -> None:
    host = _somebody(world)
    if host is None:
        return
    host.crash(silently=world.rng.random() < VANISHING)
    if world.rng.random() < RETURNING:
        world.agenda.after(world.rng.uniform(0.05, 4.0), host.come_back, world.rng.random() < 0.5)
    else:
        host.leave()


def _freeze(world: World) -> None:
    host = _somebody(world)
    if host is None or host.process is None or host.process.is_frozen:
        return
    process = host.process
    process.freeze()
    world.agenda.after(world.rng.choice((0.2, 1.0, 3.0, 8.0)) * world.rng.uniform(0.5, 1.5), process.thaw)


def _cut(world: World) -> None:
    host = world.rng.choice(world.hosts)
    world.network.cut(host.card, world.rng.uniform(0.05, 4.0), loses=world.rng.random() < 0.5)


def _stray(host: SimHost) -> None:
    if host.process is not None:
        host.process.stray()


def _restart_broker(world: World) -> None:
    if world.broker is None:
        return
    world.kill_broker()
    world.agenda.after(world.rng.uniform(0.1, 10.0), world.start_broker)


def _change(world: World) -> None:
    file = world.rng.choice(list(world.source.files.values()))
    file.version += 1
