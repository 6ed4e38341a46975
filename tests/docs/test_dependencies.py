"""docs/dependencies.md names exactly what pyproject.toml installs, and everything it names is used."""

from __future__ import annotations

import re
import tomllib

import pytest
from support import documents

PROJECT = tomllib.loads(documents.text("pyproject.toml"))["project"]
SECTIONS = documents.sections(documents.text("docs/dependencies.md"))

INSTALLED = {"Runtime": PROJECT["dependencies"]} | {
    f"Extra: {name}": packages for name, packages in PROJECT["optional-dependencies"].items()
}
#: a package's name where it is another one in Python
IMPORTED_AS = {"pyzmq": "zmq", "prometheus-client": "prometheus_client"}


@pytest.mark.parametrize("section", sorted(INSTALLED))
def test_a_table_names_what_is_installed_and_its_lower_bound(section: str) -> None:
    told = {documents.code(row["package"])[0]: row["at least"] for row in documents.table(SECTIONS[section])}
    assert told == dict(requirement.split(">=") for requirement in INSTALLED[section])


def test_each_extra_has_a_section() -> None:
    assert {name for name in SECTIONS if name == "Runtime" or name.startswith("Extra")} == set(INSTALLED)


@pytest.mark.parametrize("row", documents.table(SECTIONS["Runtime"]), ids=lambda row: row["package"])
def test_a_runtime_dependency_is_imported_where_the_table_says(row: dict[str, str]) -> None:
    package = documents.code(row["package"])[0]
    module = IMPORTED_AS.get(package, package)
    place = documents.ROOT / documents.code(row["used by"])[0]
    files = [place] if place.is_file() else sorted(place.rglob("*.py"))
    pattern = re.compile(rf"^\s*(import {module}\b|from {module}\b)", re.MULTILINE)
    assert any(pattern.search(file.read_text()) for file in files), f"{package} is not imported in {place}"
