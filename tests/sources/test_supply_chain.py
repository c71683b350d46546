"""The lock file agrees with pyproject.toml, names no index, and every dependency's licence is on record."""

import re
import tomllib
from importlib.metadata import metadata
from typing import Any

import pytest
from conftest import ROOT, real_params
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

LOCK = (ROOT / "requirements.lock").read_text(encoding="utf-8")
LICENCES = (ROOT / "LICENSES.md").read_text(encoding="utf-8")
PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
DIRECT = [Requirement(line) for line in PROJECT["dependencies"]]


def locked() -> dict[str, list[str]]:
    """Package -> its lines of the lock file, one for each set of machines."""
    lines: dict[str, list[str]] = {}
    for line in LOCK.splitlines():
        if found := re.match(r"([A-Za-z0-9][A-Za-z0-9._-]*)==", line):
            lines.setdefault(canonicalize_name(found[1]), []).append(line)
    return lines


@pytest.mark.parametrize("wanted", DIRECT, ids=lambda wanted: wanted.name)
def test_the_lock_agrees_with_the_pins(wanted: Requirement) -> None:
    versions = [Requirement(line.rstrip(" \\")).specifier for line in locked()[canonicalize_name(wanted.name)]]
    for version in versions:
        assert Version(str(version).removeprefix("==")) in wanted.specifier


def test_every_locked_package_has_hashes_and_nothing_else() -> None:
    entries = re.split(r"\n(?=[A-Za-z0-9])", re.sub(r"(?m)^#.*\n", "", LOCK).strip())
    assert len(entries) == sum(map(len, locked().values()))
    for entry in entries:
        first, *hashes = entry.replace("\\", "").split("\n")
        assert re.match(r"[A-Za-z0-9._-]+==[\w.+!-]+ *(;.*)?$", first)
        assert hashes and all(re.fullmatch(r" +--hash=sha256:[0-9a-f]{64} *", line) for line in hashes), first


def test_no_file_of_the_supply_chain_names_an_index() -> None:
    for text in (LOCK.partition("\naccelerate")[2], (ROOT / "pyproject.toml").read_text(encoding="utf-8")):
        assert text
        assert not re.search(r"https?://|-index|find-links|trusted-host| @ |git\+", text)


def test_every_direct_dependency_has_its_licence_on_record() -> None:
    rows = dict(re.findall(r"(?m)^\| ([\w.-]+) \| ([^|]+) \|$", LICENCES))
    names = {wanted.name for wanted in DIRECT}
    assert names == {name for name in rows if name not in ("package", "model", "data")}
    assert "unknown" not in LICENCES.lower()


@pytest.mark.parametrize("wanted", DIRECT, ids=lambda wanted: wanted.name)
def test_the_recorded_licence_is_the_installed_one(wanted: Requirement) -> None:
    if wanted.marker and not wanted.marker.evaluate():
        pytest.skip("for other machines")
    about = metadata(wanted.name)
    said = " ".join(
        [about.get("License-Expression") or "", (about.get("License") or "").split("\n")[0]]
        + [line for line in about.get_all("Classifier") or [] if line.startswith("License")]
    )
    recorded = dict(re.findall(r"(?m)^\| ([\w.-]+) \| ([^|]+) \|$", LICENCES))[wanted.name]
    family = next(word for word in ("BSD", "Apache", "MIT", "MPL", "PSF") if word in recorded)
    said = said.replace("Python Software Foundation License", "PSF")
    assert family.lower() in said.lower(), f"{recorded} is recorded, {said} is installed"


def test_every_source_of_params_has_its_licence_on_record() -> None:
    params = real_params()
    entries = [*params["catalog"].values(), *params["fetch_data"]["datasets"].values()]
    for source in (entry["source"] for entry in entries):
        if source["kind"] == "wheel":
            name, version = source["requirement"].split("==")
            assert f"`{name}` {version}" in LICENCES
        elif source["kind"] == "generated":
            assert "package `reasoning-gym`" in LICENCES
        elif source["kind"] != "folder":
            assert f"`{source['repository']}`" in LICENCES
