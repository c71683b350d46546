"""What this machine has: packages, processors, memory, disk, and what a run needs of them."""

import os
import platform
import shutil
import tomllib
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import NamedTuple

from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

from stages.lib.inference.session import cuda_problem

GIGABYTE = 1e9


class Finding(NamedTuple):
    """One line of the report; `step` says what to do where a run cannot succeed, and is None otherwise."""

    what: str
    found: str
    needed: str = ""
    step: str | None = None


def check_python(project: Path) -> list[Finding]:
    """Python and the packages against what pyproject.toml asks for."""
    content = tomllib.loads((project / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    asked, here = SpecifierSet(content["requires-python"]), platform.python_version()
    install = "install the project again: `pip install -e .`"
    step = None if here in asked else f"use Python {asked}"
    findings = [Finding("Python", here, str(asked), step)]
    for requirement in map(Requirement, content["dependencies"]):
        if requirement.marker and not requirement.marker.evaluate():
            continue
        try:
            found = version(requirement.name)
        except PackageNotFoundError:
            findings.append(Finding(requirement.name, "not installed", str(requirement.specifier), install))
            continue
        fits = requirement.specifier.contains(found, prereleases=True)
        findings.append(Finding(requirement.name, found, str(requirement.specifier), None if fits else install))
    return findings


def check_provider(setting: str) -> list[Finding]:
    """Whether ONNX Runtime really starts on the GPU, and which one that is."""
    problem = None if setting == "cpu" else cuda_problem()
    if setting == "cpu" or problem:
        step = (
            "install CUDA and cuDNN for ONNX Runtime, or set infer.provider to auto or cpu"
            if setting == "cuda"
            else None
        )
        return [
            Finding("inference", f"CPU ({problem or 'as infer.provider says'})", f"infer.provider: {setting}", step)
        ]
    import torch  # only here: it takes seconds

    findings = [Finding("inference", "CUDA, a session starts", f"infer.provider: {setting}")]
    for index in range(torch.cuda.device_count()):
        properties = torch.cuda.get_device_properties(index)
        findings.append(Finding(f"GPU {index}", f"{properties.name}, {properties.total_memory / GIGABYTE:.0f} GB"))
    return findings


def check_disk(folder: Path, needed: float) -> Finding:
    """Free disk against an estimate of what the run writes, in bytes."""
    free = shutil.disk_usage(folder).free
    step = "make room, or measure fewer models or recipes at once" if needed > free else None
    return Finding(
        "disk", f"{free / GIGABYTE:,.0f} GB free", f"about {needed / GIGABYTE:,.0f} GB in all (an estimate)", step
    )


def memory() -> int | None:
    """Bytes of main memory, or None where the system does not say."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        return None


def check_memory(stage: str, needed: float) -> Finding:
    """Main memory against an estimate of what a stage takes, in bytes."""
    here = memory()
    found = "unknown" if here is None else f"{here / GIGABYTE:,.0f} GB"
    short = here is not None and needed > here
    step = "use a machine with more memory, or a smaller model" if short else None
    return Finding(f"memory, {stage}", found, f"about {needed / GIGABYTE:,.0f} GB (an estimate)", step)


def check_remote() -> list[Finding]:
    """Whether DVC's default remote answers, where one is configured; a folder that is not there yet is no fault."""
    from dvc.exceptions import NotDvcRepoError  # here: it takes a second to import
    from dvc.repo import Repo

    try:
        with Repo(".") as repo:
            name = repo.config["core"].get("remote")
            if not name:
                return []
            store = repo.cloud.get_remote_odb()
            place = f"{name}, {store.fs.unstrip_protocol(store.path)}"
            there = store.fs.exists(store.path)
    except NotDvcRepoError:
        return []
    except Exception as error:  # each kind of remote raises errors of its own
        first = (str(error).splitlines() or [type(error).__name__])[0]
        return [Finding("DVC remote", "no answer", "", f"mend the remote, or unset it: {first}")]
    return [Finding("DVC remote", "answers" if there else "answers, empty so far", place)]
