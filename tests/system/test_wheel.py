"""The wheel: that it builds, holds the whole package and nothing else, and installs where nothing else is."""

import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from zipfile import ZipFile

import pytest
from conftest import ROOT

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
STARTER = (
    *("params.yaml", "dvc.yaml", ".dvcignore", ".gitignore"),
    *(".dvc/config", ".dvc/must_be_mappings.yaml", ".dvc/offline.html"),
)
PACKAGES = [pattern.rstrip("*") for pattern in PROJECT["tool"]["setuptools"]["packages"]["find"]["include"]]


def run(*command: str | Path, cwd: Path) -> str:
    """Run a command that must succeed; returns what it printed."""
    result = subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False, timeout=300)
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built by pip and the build backend, without a network, from a copy of what the package is made of."""
    folder = tmp_path_factory.mktemp("wheel")
    for package in PACKAGES:
        shutil.copytree(ROOT / package, folder / package, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("data/prompts", "data/chat_templates"):
        shutil.copytree(ROOT / name, folder / name)
    for name in ("pyproject.toml", "setup.py", PROJECT["project"]["readme"], "LICENSE", "LICENSES.md", *STARTER):
        (folder / name).parent.mkdir(exist_ok=True)
        shutil.copyfile(ROOT / name, folder / name)
    pip = (sys.executable, "-m", "pip", "--disable-pip-version-check")
    run(*pip, "wheel", ".", "--no-deps", "--no-build-isolation", "--wheel-dir", "dist", "--quiet", cwd=folder)
    (built,) = (folder / "dist").iterdir()
    return built


def test_the_wheel_holds_every_file_of_the_package_and_no_other(wheel: Path) -> None:
    starter = "safety_tax/starter/"
    everything = {name for name in ZipFile(wheel).namelist() if ".dist-info/" not in name}
    held = {name for name in everything if not name.startswith(starter)}
    tracked = run("git", "ls-files", "--cached", "--others", "--exclude-standard", *PACKAGES, cwd=ROOT).split()
    assert held == {name for name in tracked if (ROOT / name).exists()}
    assert {Path(name).suffix for name in held} == {".py", ".css", ".js", ".jinja", ".typed"}
    begun_with = run("git", "ls-files", "data/prompts", "data/chat_templates", *STARTER, cwd=ROOT).split()
    assert {name.removeprefix(starter) for name in everything - held} == set(begun_with)


def test_the_wheel_brings_its_types_and_its_licences(wheel: Path) -> None:
    names = {Path(name).name for name in ZipFile(wheel).namelist()}
    assert {"py.typed", "LICENSE", "LICENSES.md"} <= names


def test_the_wheel_installs_in_a_clean_environment(wheel: Path, tmp_path: Path) -> None:
    run(sys.executable, "-m", "venv", "--without-pip", "clean", cwd=tmp_path)
    python = tmp_path / "clean/bin/python"
    pip = (sys.executable, "-m", "pip", "--disable-pip-version-check", "--python", python)
    run(*pip, "install", "--no-deps", "--no-index", "--quiet", wheel, cwd=tmp_path)
    said = run(python, "-c", "from importlib.metadata import version; print(version('safety-tax'))", cwd=tmp_path)
    assert said.strip() == PROJECT["project"]["version"]
    begun = run(tmp_path / "clean/bin/safety-tax", "--version", cwd=tmp_path)
    assert begun == f"safety-tax {PROJECT['project']['version']}\n"
    found = run(python, "-c", f"import {PACKAGES[0]}; print({PACKAGES[0]}.__file__)", cwd=tmp_path)
    assert Path(found.strip()).is_relative_to(tmp_path / "clean")
