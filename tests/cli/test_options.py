"""Where a setting comes from: flag, environment, file, default. And what is wrong with it, and where."""

from __future__ import annotations

from pathlib import Path

import pytest

from dfmq.cli.options import (
    EVERY,
    OTHER_VARIABLES,
    broker_settings,
    config_path,
    doubtful_variables,
    get_settings,
    peer_settings,
)
from dfmq.errors import SettingsError


def a_file(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "dfmq.toml"
    path.write_text(text)
    return path


def test_a_flag_goes_before_the_environment_before_the_file_before_the_default(tmp_path: Path) -> None:
    file = a_file(tmp_path, '[peer]\nslots = 5\nzone = "file"\nup-limit = "1MB/s"\nidle-exit = 7')
    environment = {"DFMQ_PEER_ZONE": "environment", "DFMQ_PEER_UP_LIMIT": "2MB/s", "DFMQ_HOME": "/h"}
    settings = peer_settings({"peer.up-limit": "3MB/s", "peer.zone": None}, environment, file)
    assert (settings.up_limit, settings.zone, settings.slots) == (3_000_000, "environment", 5)
    assert (settings.home, settings.idle_exit, settings.down_limit) == ("/h", 7.0, 0)


def test_parts_of_settings_are_reached_by_their_table(tmp_path: Path) -> None:
    file = a_file(tmp_path, '[store]\nquota = "10GB"\nfree-floor = 1000\n[source]\nstall = 2.5\nretries = 0')
    settings = broker_settings({}, {"DFMQ_SOURCE_PER_HOST": "3", "DFMQ_BROKER_HOME": "/b"}, file)
    assert (settings.store.quota_bytes, settings.store.free_floor_bytes) == (10**10, 1000)
    assert (settings.source.stall_seconds, settings.source.retries, settings.source.per_host) == (2.5, 0, 3)


def test_brokers_are_a_list_in_the_file_and_words_in_the_environment(tmp_path: Path) -> None:
    both = ("tcp://a:1", "tcp://b:2")
    assert peer_settings({}, {"DFMQ_BROKER": "tcp://a:1, tcp://b:2 tcp://a:1", "DFMQ_HOME": "/h"}).brokers == both
    file = a_file(tmp_path, 'home = "/h"\nbrokers = ["tcp://a:1", "tcp://b:2"]')
    assert get_settings({}, {}, file).brokers == both
    assert get_settings({"brokers": ("tcp://c:3",)}, {}, file).brokers == ("tcp://c:3",)


@pytest.mark.parametrize(
    ("flags", "environment", "text", "where"),
    [
        ({"get.limit": "fast"}, {}, "", "--limit: 'fast'"),
        ({}, {"DFMQ_GET_TIMEOUT": "soon"}, "", "DFMQ_GET_TIMEOUT: 'soon'"),
        ({}, {}, "[get]\njobs = 0", "get.jobs: 0 should be"),
        ({}, {}, "[get]\njobs = true", "get.jobs: True should be"),
        ({}, {}, "home = 3", "home: 3 should be a text"),
        ({}, {}, 'brokers = ["tcp://a:1", 5]', "brokers: 5 should be a text"),
        ({"brokers": ("host",)}, {}, "", "--broker: address 'host': write tcp://host:7400"),
        ({}, {}, "[get]\nlimti = 1", "'get.limti' is unknown; did you mean 'get.limit'?"),
        ({}, {}, "hoem = 1", "'hoem' is unknown; did you mean 'home'?"),
        ({}, {}, "[peer\n", "it is not TOML"),
    ],
)
def test_a_bad_setting_is_named_with_where_it_stands(
    tmp_path: Path, flags: dict[str, object], environment: dict[str, str], text: str, where: str
) -> None:
    with pytest.raises(SettingsError) as caught:
        get_settings(flags, environment, a_file(tmp_path, text))
    assert where in str(caught.value)


def test_a_name_that_does_not_fit_on_the_bus_is_refused_before_anything_is_started() -> None:
    assert peer_settings({"peer.zone": "z" * 256}, {}).zone == "z" * 256
    with pytest.raises(SettingsError, match=r"DFMQ_PEER_ZONE: 'zzzz.* has 257 characters; at most 256"):
        peer_settings({}, {"DFMQ_PEER_ZONE": "z" * 257})


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"none\.toml: No such file"):
        peer_settings({}, {}, tmp_path / "none.toml")


def test_the_file_is_named_by_flag_or_environment() -> None:
    assert config_path(None, {}) is None
    assert config_path(None, {"DFMQ_CONFIG": "/e.toml"}) == Path("/e.toml")
    assert config_path("/f.toml", {"DFMQ_CONFIG": "/e.toml"}) == Path("/f.toml")


def test_without_a_home_the_users_cache_is_used_and_broker_and_peer_do_not_meet(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", "/cache")
    assert peer_settings({}, {}).home == get_settings({}, {}).home == "/cache/dfmq"
    assert broker_settings({}, {}).home == "/cache/dfmq/broker"
    assert broker_settings({}, {"DFMQ_HOME": "/h"}).home == "/h/broker"
    assert broker_settings({"broker.home": "/x"}, {"DFMQ_HOME": "/h"}).home == "/x"


def test_a_home_is_made_absolute(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", "/home/me")
    assert peer_settings({"home": "here"}, {}).home == str(tmp_path / "here")
    assert peer_settings({"home": "~/there"}, {}).home == "/home/me/there"


def test_no_two_settings_share_a_name() -> None:
    variables = [setting.variable for setting in EVERY.values()]
    assert len(set(variables) | OTHER_VARIABLES) == len(variables) + len(OTHER_VARIABLES)


def test_a_misspelt_variable_is_noticed_and_an_orchestrators_is_not() -> None:
    environment = {"DFMQ_BROKERS": "", "DFMQ_BROKER_SERVICE_HOST": "", "DFMQ_BROKER_PORT_7400_TCP": "", "DFMQ_HOME": ""}
    assert doubtful_variables(environment) == ["DFMQ_BROKERS is not a setting; did you mean DFMQ_BROKER?"]


def test_folders_of_sources_are_a_list_made_absolute_and_must_exist(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    both = (f"{tmp_path}/a", f"{tmp_path}/b")
    assert broker_settings({}, {"DFMQ_BROKER_FILES": f"{tmp_path}/a:{tmp_path}/c/../b"}).files == both
    assert broker_settings({"broker.files": both}, {}).files == both
    assert broker_settings({}, {}).files == ()
    with pytest.raises(SettingsError, match="--files: /no/such is no directory"):
        broker_settings({"broker.files": ("/no/such",)}, {})
