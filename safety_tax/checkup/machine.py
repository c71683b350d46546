"""What this machine has: packages, processors, memory, disk, and what a run needs of them."""

import ctypes
import os
import platform
import re
import shutil
import sys
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, metadata, requires, version
from pathlib import Path
from typing import Any, NamedTuple

import onnxruntime as ort
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

from safety_tax.engine.session import cuda_problem

GIGABYTE = 1e9
# CUDA's runtime, by its first number, and cuDNN: on Linux and on Windows.
LIBRARIES = (("libcudart.so.{}", "libcudnn.so.9"), ("cudart64_{}.dll", "cudnn64_9.dll"))
# What makes a stage take less of a GPU.
SMALLER = {
    "tune": ", or set tune.gradient_checkpointing to true, or lower tune.batch_size or tune.max_tokens",
    "infer": ", or lower run.generation_tokens, or set run.provider to cpu",
}


class Finding(NamedTuple):
    """One line of the report; `step` says what to do where a run cannot succeed, and is None otherwise."""

    what: str
    found: str
    needed: str = ""
    step: str | None = None
    wanted: bool = True
    """Whether the run needs it; what is missing and not needed is neither fine nor a fault."""


def check_python(package: str = "safety-tax") -> list[Finding]:
    """Python and the packages against what the installed package asks for."""
    asked, here = SpecifierSet(metadata(package)["Requires-Python"]), platform.python_version()
    install = "install safety-tax again"
    step = None if here in asked else f"use Python {asked}"
    findings = [Finding("Python", here, str(asked), step)]
    for requirement in map(Requirement, requires(package) or ()):
        if requirement.marker and not requirement.marker.evaluate({"extra": ""}):
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
            "install CUDA and cuDNN for ONNX Runtime, or set run.provider to auto or cpu" if setting == "cuda" else None
        )
        found = f"CPU ({problem or 'as run.provider says'})"
        return [Finding("inference", found, f"run.provider: {setting}", step), *cuda_libraries(setting == "cuda")]
    import torch  # only here: it takes seconds

    findings = [Finding("inference", "CUDA, a session starts", f"run.provider: {setting}")]
    for index in range(torch.cuda.device_count()):
        properties = torch.cuda.get_device_properties(index)
        findings.append(Finding(f"GPU {index}", f"{properties.name}, {gigabytes(properties.total_memory)}"))
    return findings + cuda_libraries(wanted=True)


def cuda_libraries(wanted: bool) -> list[Finding]:
    """The versions of CUDA and cuDNN that ONNX Runtime loads in this process, and what it was built for.

    One that is missing is a fault where the run is `wanted` on CUDA.

    After `cuda_problem`, which has it load what the wheels carry. Nothing where this build knows no CUDA.
    """
    built: str = getattr(ort, "cuda_version", "")
    if not built:
        return []
    names = LIBRARIES[sys.platform == "win32"]
    cuda = library_version(names[0].format(built.split(".")[0]), "cudaRuntimeGetVersion", by_reference=True)
    cudnn = library_version(names[1], "cudnnGetVersion", by_reference=False)
    shown = {
        "CUDA": (f"{cuda // 1000}.{cuda % 1000 // 10}" if cuda else None, built),
        "cuDNN": (dotted(cudnn) if cudnn else None, "9"),
    }
    findings = []
    for name, (version_found, needed) in shown.items():
        step = f"install {name} {needed} for ONNX Runtime, or set run.provider to cpu"
        missing = version_found is None
        findings.append(
            Finding(
                name,
                version_found or "not found",
                f"{needed}, by ONNX Runtime" + ("" if wanted or not missing else " on a GPU"),
                step if missing and wanted else None,
                wanted=wanted or not missing,
            )
        )
    return findings


def dotted(version: int) -> str:
    """`9.1.2` for cuDNN's 90102: since version 9 its thousands have a digit more."""
    major, rest = divmod(version, 10000 if version >= 90000 else 1000)
    return f"{major}.{rest // 100}.{rest % 100}"


def library_version(file: str, function: str, by_reference: bool) -> int | None:
    """What a library's own function says, or None where the library is not to be found."""
    try:
        library = ctypes.CDLL(file)
    except OSError:
        return None
    ask = getattr(library, function)
    if not by_reference:
        ask.restype = ctypes.c_size_t
        return int(ask())
    number = ctypes.c_int()
    return number.value if ask(ctypes.byref(number)) == 0 else None


def check_disk(folder: Path, needs: Mapping[str, float]) -> list[Finding]:
    """Free disk against estimates of what the run still writes for each model, in bytes, one after the other."""
    free = float(shutil.disk_usage(folder).free)
    findings = []
    for name, needed in needs.items():
        step = "make room, or measure fewer models or recipes at once" if needed > free else None
        findings.append(Finding(f"disk, {name}", f"{gigabytes(free)} free", f"about {gigabytes(needed)}", step))
        free = max(0.0, free - needed)
    return findings


def memory() -> int | None:
    """Bytes of main memory that a process may have, or None where the system does not say."""
    try:
        here = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        return None
    try:
        limit = Path("/sys/fs/cgroup/memory.max").read_text(encoding="ascii").strip()  # a container's
    except OSError:
        return here
    return min(here, int(limit)) if limit.isdigit() else here


def gpu_memory() -> int | None:
    """Bytes of the first GPU's memory, the one that is used; None without a GPU."""
    import torch  # only here: it takes seconds

    return int(torch.cuda.get_device_properties(0).total_memory) if torch.cuda.is_available() else None


def check_memory(stage: str, main: float, on_gpu: float = 0.0, gpu: int | None = None) -> Finding:
    """Main memory, and that of a GPU where there is one, against estimates of what a stage takes, in bytes."""
    here = memory()
    found, needed = "unknown" if here is None else gigabytes(here), f"about {gigabytes(main)}"
    step = "use a machine with more memory, or a smaller model" if here is not None and main > here else None
    if on_gpu:
        found += f"; GPU: {'no GPU' if gpu is None else gigabytes(gpu)}"
        needed += f"; GPU: about {gigabytes(on_gpu)}"
        if gpu is not None and on_gpu > gpu and step is None:
            step = f"use a GPU with more memory{SMALLER.get(stage.split()[0], '')}"
    return Finding(f"memory, {stage}", found, needed, step)


def gigabytes(size: float) -> str:
    """`0.4 GB`, `16 GB`."""
    return f"{size / GIGABYTE:,.{1 if size < 10 * GIGABYTE else 0}f} GB"


def check_remote() -> list[Finding]:
    """Whether DVC's default remote, where one is configured, answers and lets this person read and write.

    It is asked by an object of no bytes, which is removed at once. A remote that may only be read is no fault, nor is a
    folder that the first push will make.
    """
    from dvc.exceptions import NotDvcRepoError  # here: it takes a second to import
    from dvc.repo import Repo
    from dvc.scm import SCMError

    name, place = "", ""
    try:
        with Repo(".") as repo:
            name = repo.config["core"].get("remote") or ""
            if not name:
                return []
            store = repo.cloud.get_remote_odb()
            place = f"{name}, {store.fs.unstrip_protocol(store.path)}"
            return [Finding("DVC remote", _access(store.fs, store.path), place)]
    except (NotDvcRepoError, SCMError):  # the latter where no Git is: `check_git` says it
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
