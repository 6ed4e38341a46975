"""Profiles and seeds for every test. No builders (support/) and next to no fixtures here.

Warnings are errors (pyproject.toml), and an unclosed socket, an exception in a thread or in a finaliser is a warning:
so each fails the test that left it.

    HYPOTHESIS_PROFILE=soak pytest tests/laws     many examples, a new seed each time
    pytest --hypothesis-seed=N                    the same examples again
"""

from __future__ import annotations

import os
import secrets
import shutil
import signal

import hypothesis
import pytest

hypothesis.settings.register_profile("quick", deadline=None, max_examples=50, stateful_step_count=40, print_blob=True)
hypothesis.settings.register_profile("soak", deadline=None, max_examples=3000, stateful_step_count=150, print_blob=True)
PROFILE = os.environ.get("HYPOTHESIS_PROFILE", "quick")
hypothesis.settings.load_profile(PROFILE)


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    """The quick profile draws the same examples each time, the soak profile new ones; both say which."""
    # A shell starts what it puts into the background with SIGINT ignored, and what tests start would inherit that.
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    # So does nohup with SIGHUP. It is still not heard here, but no longer ignored by whom is started.
    if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:
        signal.signal(signal.SIGHUP, lambda *_: None)
    if config.option.hypothesis_seed is None:
        config.option.hypothesis_seed = "0" if PROFILE == "quick" else str(secrets.randbits(32))


def pytest_report_header(config: pytest.Config) -> str:
    return f"hypothesis: profile {PROFILE}, --hypothesis-seed={config.option.hypothesis_seed}"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests with several hosts need root and `ip`; where there are neither they are skipped, and say so."""
    if os.geteuid() == 0 and shutil.which("ip", path=os.environ["PATH"] + os.pathsep + "/usr/sbin"):
        return
    unable = pytest.mark.skip(reason="network namespaces need root and iproute2")
    for item in items:
        if item.get_closest_marker("netns"):
            item.add_marker(unable)
