"""What this machine has: packages, processors, memory, disk, and what a run needs of them."""

import os
import platform
import re
import shutil
import tomllib
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, NamedTuple

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
    """Whether DVC's default remote, where one is configured, answers and lets this person read and write.

    It is asked by an object of no bytes, which is removed at once. A remote that may only be read is no fault, nor is a
    folder that the first push will make.
    """
    from dvc.exceptions import NotDvcRepoError  # here: it takes a second to import
    from dvc.repo import Repo

    name, place = "", ""
    try:
        with Repo(".") as repo:
            name = repo.config["core"].get("remote") or ""
            if not name:
                return []
            store = repo.cloud.get_remote_odb()
            place = f"{name}, {store.fs.unstrip_protocol(store.path)}"
            return [Finding("DVC remote", _access(store.fs, store.path), place)]
    except NotDvcRepoError:
        return []
    except Exception as error:  # each kind of remote raises errors of its own
        found, step = _remote_fault(name, error)
        return [Finding("DVC remote", found, place, step)]


def _access(files: Any, path: str) -> str:
    """What may be done in a remote. Raises what its library raises when it may not even be read."""
    there: bool = files.exists(path)
    if not there and files.protocol in ("local", "ssh"):
        return "answers, empty so far"
    probe = files.join(path, "doctor")  # one name, so that where nothing may be removed one of them stays, not many
    written = False
    try:
        files.pipe_file(probe, b"")
        written = True
        files.rm_file(probe)
    except Exception as error:
        if not _is_refusal(error):
            raise
    if not written:
        return "answers; may be read, not written: `dvc pull` works, `dvc push` does not"
    return "answers, may be read and written" if there else "answers, empty so far"


def _chain(error: BaseException) -> list[BaseException]:
    """An error and those that led to it."""
    before = error.__cause__ or error.__context__
    return [error, *(_chain(before) if before else [])]


def _is_refusal(error: BaseException) -> bool:
    """Whether a remote knows what is asked and denies it; SSH's and some of S3's errors say so in words alone."""
    refusal = re.compile(r"denied|forbidden|signature|credential", re.I)
    return any(isinstance(link, PermissionError) or refusal.search(str(link)) for link in _chain(error))


def _remote_fault(name: str, error: Exception) -> tuple[str, str]:
    """What is wrong with a remote, and what to do, with the library's own words."""
    from dvc.fs import RemoteMissingDepsError

    said = (str(error).splitlines() or [type(error).__name__])[0] or type(error).__name__
    if isinstance(error, RemoteMissingDepsError):
        return "its packages are not installed", f"install them: pip install -e '.[s3]' or '.[ssh]' ({said})"
    if _is_refusal(error):
        step = f"correct them with `dvc remote modify --local {name}`, which writes .dvc/config.local ({said})"
        return "refuses these credentials", step
    if any(isinstance(link, OSError) for link in _chain(error)) or re.search(r"connect|resolve|timed out", said, re.I):
        return "no answer", f"start its server, or correct its address in .dvc/config ({said})"
    return "no answer", f"mend the remote, or unset it: {said}"
