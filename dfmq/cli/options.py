"""Where each setting comes from: a flag, else DFMQ_* in the environment, else the TOML file, else its default.

The tables below are the whole list: a setting's key in the file is its name in the environment, in capitals and with
underscores. What a setting means and its default is in model/settings.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import msgspec

from dfmq.cli import endpoints
from dfmq.cli.home import home_path
from dfmq.cli.quantities import parse_duration, parse_rate, parse_size
from dfmq.errors import SettingsError
from dfmq.model.settings import BrokerSettings, PeerSettings, SourceSettings, StoreSettings

#: Characters of a name that goes over the bus (docs/protocol.md, Hello). One that is longer would only make the broker
#: drop all this node says.
MOST_WORD = 256

Value = Any
Node = TypeVar("Node", PeerSettings, BrokerSettings)


class GetSettings(msgspec.Struct, frozen=True, kw_only=True):
    """What dfmq-get has from the environment and the file; what belongs to one get alone is not here."""

    home: str
    brokers: tuple[str, ...] = ()
    #: bytes per second for each file, 0 none
    limit: int = 0
    #: seconds for each file, 0 no end
    timeout: float = 0.0
    #: files of a list under way at once
    jobs: int = 16
    #: PEM file of the authorities to trust
    cacert: str = ""
    #: file of 'Name: value' lines
    headers_file: str = ""
    #: seconds without work after which a peer that dfmq-get started ends
    idle_exit: float = 300.0


class Setting(NamedTuple):
    """One setting: its key in the file, its field in the Settings ("store.…" is a field of StoreSettings), and how its
    text is read. `env` and `flag` only where they are
    not made from the key."""

    key: str
    field: str
    read: Callable[[Value], Value]
    env: str = ""
    flag: str = ""

    @property
    def option(self) -> str:
        """Its flag, where the command has one."""
        return self.flag or "--" + self.key.rpartition(".")[2]

    @property
    def variable(self) -> str:
        """Its name in the environment."""
        return self.env or "DFMQ_" + self.key.upper().replace(".", "_").replace("-", "_")


# ── readers: a str from a flag or the environment, or whatever TOML has, → the value ──────────────────────────────


def _text(raw: Value) -> str:
    if not isinstance(raw, str):
        raise SettingsError(f"{raw!r} should be a text in quotes")
    return raw


def _word(raw: Value) -> str:
    text = _text(raw)
    if len(text) > MOST_WORD:
        raise SettingsError(f"{text[:20]!r}… has {len(text)} characters; at most {MOST_WORD} fit on the bus")
    return text


def _as(parse: Callable[[str], Value]) -> Callable[[Value], Value]:
    """A reader of text; in TOML a bare number is allowed too, bytes or seconds."""

    def read(raw: Value) -> Value:
        is_number = isinstance(raw, (int, float)) and not isinstance(raw, bool)
        return parse(str(raw) if is_number else _text(raw))

    return read


def _whole(least: int, most: int) -> Callable[[Value], int]:
    def read(raw: Value) -> int:
        text = str(raw).strip()
        if not text.isascii() or not text.isdigit() or not least <= int(text) <= most:
            raise SettingsError(f"{raw!r} should be a whole number from {least} to {most}")
        return int(text)

    return read


def _seconds(least: float) -> Callable[[Value], float]:
    def read(raw: Value) -> float:
        value: float = _as(parse_duration)(raw)
        if value < least:
            raise SettingsError(f"{raw!r} is too short: at least {least:g}s")
        return value

    return read


def _brokers(raw: Value) -> tuple[str, ...]:
    """A list, or in the environment addresses with blanks or commas between them; each once, in order."""
    given = raw if isinstance(raw, (list, tuple)) else _text(raw).replace(",", " ").split()
    found = tuple(dict.fromkeys(endpoints.broker_endpoint(_text(one)) for one in given))
    if len(found) > 16:
        raise SettingsError(f"{len(found)} brokers are named; at most 16 are used")
    return found


def _folders(raw: Value) -> tuple[str, ...]:
    """A list, or in the environment paths with colons between them; absolute."""
    given = raw if isinstance(raw, (list, tuple)) else _text(raw).split(os.pathsep)
    found = tuple(dict.fromkeys(os.path.abspath(os.path.expanduser(_text(one))) for one in given if one))
    for folder in found:
        if not os.path.isdir(folder):
            raise SettingsError(f"{folder} is no directory; name one that exists")
    return found


_duration = _as(parse_duration)
_size = _as(parse_size)
_rate = _as(parse_rate)

HOME = Setting("home", "home", _text)
BROKERS = Setting("brokers", "brokers", _brokers, "DFMQ_BROKER", "--broker")

STORE = (
    Setting("store.quota", "store.quota_bytes", _size),
    Setting("store.free-floor", "store.free_floor_bytes", _size),
    Setting("store.write-behind", "store.write_behind_bytes", _size),
    Setting("store.sync-every", "store.sync_every_bytes", _size),
)
SOURCE = (
    Setting("source.stall", "source.stall_seconds", _seconds(0.1)),
    Setting("source.connect", "source.connect_seconds", _seconds(0.1)),
    Setting("source.retries", "source.retries", _whole(0, 1000)),
    Setting("source.revalidate", "source.revalidate_seconds", _duration),
    Setting("source.negative", "source.negative_seconds", _duration),
    Setting("source.per-host", "source.per_host", _whole(1, 10_000)),
)
PEER = (
    HOME,
    BROKERS,
    Setting("peer.listen", "listen", _as(endpoints.listen_endpoint)),
    Setting("peer.advertise", "advertise", _as(endpoints.advertised_host)),
    Setting("peer.idle-exit", "idle_exit", _duration),
    Setting("peer.up-limit", "up_limit", _rate),
    Setting("peer.down-limit", "down_limit", _rate),
    Setting("peer.slots", "slots", _whole(1, 65_535)),
    Setting("peer.zone", "zone", _word),
    *STORE,
    *SOURCE,
)
BROKER = (
    Setting("broker.home", "home", _text),
    Setting("broker.listen", "listen", _as(endpoints.listen_endpoint)),
    Setting("broker.publish", "publish", _as(endpoints.listen_endpoint)),
    Setting("broker.api", "api", _as(endpoints.host_and_port)),
    Setting("broker.advertise", "advertise", _as(endpoints.advertised_host)),
    Setting("broker.beat", "beat_seconds", _seconds(0.1)),
    Setting("broker.seed-slots", "seed_slots", _whole(1, 65_535)),
    Setting("broker.seed-up-limit", "seed_up_limit", _rate),
    Setting("broker.zone", "zone", _word),
    Setting("broker.files", "files", _folders),
    *STORE,
    *SOURCE,
)
GET = (
    HOME,
    BROKERS,
    Setting("get.limit", "limit", _rate),
    Setting("get.timeout", "timeout", _duration),
    Setting("get.jobs", "jobs", _whole(1, 1000)),
    Setting("get.cacert", "cacert", _text),
    Setting("get.headers-file", "headers_file", _text, "DFMQ_HEADERS_FILE"),
    Setting("peer.idle-exit", "idle_exit", _duration),
)
EVERY = {setting.key: setting for setting in (*PEER, *BROKER, *GET)}
#: Names of the environment that are read elsewhere.
OTHER_VARIABLES = frozenset({"DFMQ_CONFIG", "DFMQ_DEBUG"})


# ── the file ──────────────────────────────────────────────────────────────────────────────────────────────────────


def config_path(flag: str | None, environment: Mapping[str, str]) -> Path | None:
    """The TOML file that is to be read, if any: --config, else DFMQ_CONFIG."""
    given = flag or environment.get("DFMQ_CONFIG", "")
    return Path(given).absolute() if given else None


def load_file(path: Path | None) -> dict[str, Value]:
    """The keys of the file, dotted. Raises SettingsError that names file and key."""
    if path is None:
        return {}
    import tomllib

    try:
        with path.open("rb") as file:
            document = tomllib.load(file)
    except OSError as error:
        raise SettingsError(f"settings file {path}: {error.strerror}; give the path of a readable TOML file") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SettingsError(f"settings file {path}: it is not TOML: {error}") from error
    found: dict[str, Value] = {}
    for key, value in document.items():
        if isinstance(value, dict):
            found.update((f"{key}.{inner}", inner_value) for inner, inner_value in value.items())
        else:
            found[key] = value
    for key in found:
        if key not in EVERY:
            raise SettingsError(f"settings file {path}: the key {key!r} is unknown{_nearest(key, EVERY)}")
    return found


def _nearest(name: str, known: Mapping[str, Setting]) -> str:
    import difflib

    near = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    return f"; did you mean {near[0]!r}?" if near else f"; known are {', '.join(sorted(known))}"


def doubtful_variables(environment: Mapping[str, str]) -> list[str]:
    """A line for each DFMQ_* variable that is no setting but looks like one. Others are let be: orchestrators put
    names of their own there (a service called dfmq-broker makes DFMQ_BROKER_SERVICE_HOST)."""
    known = {setting.variable for setting in EVERY.values()} | OTHER_VARIABLES
    strange = [name for name in environment if name.startswith("DFMQ_") and name not in known]
    if not strange:
        return []
    import difflib

    near = {name: difflib.get_close_matches(name, known, n=1, cutoff=0.9) for name in strange}
    return [f"{name} is not a setting; did you mean {found[0]}?" for name, found in near.items() if found]


# ── all of it together ────────────────────────────────────────────────────────────────────────────────────────────


def peer_settings(
    flags: Mapping[str, Value], environment: Mapping[str, str], config: Path | None = None
) -> PeerSettings:
    """`flags`: setting's key → raw value; None and () mean not given. A SettingsError says where a bad value stands."""
    values = _gather(PEER, flags, environment, config)
    return _with_parts(PeerSettings, values, home_path(values.pop("home", "")))


def broker_settings(
    flags: Mapping[str, Value], environment: Mapping[str, str], config: Path | None = None
) -> BrokerSettings:
    """As peer_settings. Without a home of its own a broker lives in `broker` inside the home, so that a peer can run on
    the same host."""
    values = _gather(BROKER, flags, environment, config)
    own = values.pop("home", "")
    if not own:
        shared = _gather((HOME,), {}, environment, config).get("home", "")
        own = home_path(shared) + "/broker"
    return _with_parts(BrokerSettings, values, home_path(own))


def get_settings(flags: Mapping[str, Value], environment: Mapping[str, str], config: Path | None = None) -> GetSettings:
    """As peer_settings."""
    values = _gather(GET, flags, environment, config)
    return GetSettings(home=home_path(values.pop("home", "")), **values)


def _gather(
    settings: tuple[Setting, ...], flags: Mapping[str, Value], environment: Mapping[str, str], config: Path | None
) -> dict[str, Value]:
    """Field → value of every setting that is given anywhere."""
    file = load_file(config)
    values: dict[str, Value] = {}
    for setting in settings:
        raw, where = flags.get(setting.key), setting.option
        if raw is None or raw == ():
            raw, where = environment.get(setting.variable) or None, setting.variable
        if raw is None:
            raw, where = file.get(setting.key), f"{config}, {setting.key}"
        if raw is None:
            continue
        try:
            values[setting.field] = setting.read(raw)
        except SettingsError as error:
            raise SettingsError(f"{where}: {error}") from error
    return values


def _with_parts(kind: type[Node], values: dict[str, Value], home: str) -> Node:
    parts: dict[str, Any] = {
        part: of(**{name.partition(".")[2]: value for name, value in values.items() if name.startswith(part + ".")})
        for part, of in (("store", StoreSettings), ("source", SourceSettings))
    }
    return kind(home=home, **{name: value for name, value in values.items() if "." not in name}, **parts)
