"""The pressure gauge."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from dfmq.machines.peer.pressure import FALL_SECONDS, LEVELS, PressureGauge
from dfmq.model.host import HostSample

CALM = HostSample()
GIGABIT = 125_000_000


def test_a_host_is_calm_until_something_is_short() -> None:
    gauge = PressureGauge()
    assert gauge.level == "calm"
    assert gauge.see(HostSample(cpu_share=0.9, memory_share=0.8, disk_share=0.9), 0.0) is None
    assert gauge.see(HostSample(memory_share=0.98), 1.0) == "full"
    assert gauge.level == "full"


def test_within_the_band_a_level_stays_and_below_it_falls() -> None:
    gauge = PressureGauge()
    assert gauge.see(HostSample(memory_share=0.91), 0.0) == "busy"
    assert gauge.see(HostSample(memory_share=0.86), 100.0) is None
    assert gauge.see(HostSample(memory_share=0.84), 101.0) == "calm"


def test_a_level_is_kept_for_some_time() -> None:
    gauge = PressureGauge()
    gauge.see(HostSample(memory_share=0.91), 0.0)
    assert gauge.see(HostSample(memory_share=0.99), 0.5) is None
    assert gauge.see(HostSample(memory_share=0.99), 1.0) == "full"
    assert gauge.see(CALM, 5.9) is None
    assert gauge.see(CALM, 6.0) == "calm"


def test_our_own_traffic_is_no_pressure_and_that_of_others_is() -> None:
    sample = HostSample(net_in_bytes_per_second=110_000_000, nic_bytes_per_second=GIGABIT)
    assert PressureGauge().see(sample, 0.0, own_in=110_000_000) is None
    assert PressureGauge().see(sample, 0.0, own_in=20_000_000) == "busy"
    assert PressureGauge().see(sample, 0.0, own_in=0) == "full"
    # nobody knows what is ours
    assert PressureGauge().see(sample, 0.0) is None


def test_our_own_work_cannot_make_the_host_full() -> None:
    assert PressureGauge().see(HostSample(cpu_share=1.0, disk_share=1.0), 0.0) == "busy"


shares = st.floats(0, 1)
samples = st.builds(
    lambda cpu, memory, disk, net: HostSample(
        cpu_share=cpu,
        memory_share=memory,
        disk_share=disk,
        net_out_bytes_per_second=int(net * GIGABIT),
        nic_bytes_per_second=GIGABIT,
    ),
    shares,
    shares,
    shares,
    shares,
)


@given(st.lists(st.tuples(samples, st.floats(0, 10)), max_size=30))
def test_from_any_state_calm_samples_lead_to_calm(seen: list[tuple[HostSample, float]]) -> None:
    gauge, now, changed_at = PressureGauge(), 0.0, float("-inf")
    for sample, pause in seen:
        now += pause
        if gauge.see(sample, now, own_in=0) is not None:
            assert now - changed_at >= 1.0
            changed_at = now
        gauge.check()
    gauge.see(CALM, now + 1.001 * FALL_SECONDS, own_in=0)
    assert gauge.level == "calm"


@given(
    st.lists(st.tuples(samples, st.floats(0, 10)), max_size=10),
    samples,
    st.sampled_from(["cpu", "memory", "disk"]),
    shares,
)
def test_more_load_never_gives_a_lower_level(
    seen: list[tuple[HostSample, float]], sample: HostSample, which: str, more: float
) -> None:
    gauges = PressureGauge(), PressureGauge()
    now = 0.0
    for earlier, pause in seen:
        now += pause
        for gauge in gauges:
            gauge.see(earlier, now, own_in=0)
    shares_now = {name: getattr(sample, f"{name}_share") for name in ("cpu", "memory", "disk")}
    shares_more = shares_now | {which: max(shares_now[which], more)}
    for gauge, given_shares in zip(gauges, (shares_now, shares_more), strict=True):
        loaded = HostSample(**{f"{name}_share": share for name, share in given_shares.items()})
        gauge.see(loaded, now + 1.5, own_in=0)
    assert LEVELS.index(gauges[0].level) <= LEVELS.index(gauges[1].level)
