"""What goes wrong on the way to the Hub: what passes is tried again, the rest is one sentence with the next step."""

import errno
import hashlib
import logging
import os
import re
import time
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import TypeVar

from huggingface_hub import constants
from huggingface_hub.errors import (
    EntryNotFoundError,
    FileMetadataError,
    GatedRepoError,
    LocalEntryNotFoundError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from huggingface_hub.utils.tqdm import disable_progress_bars
from requests import ConnectionError, RequestException, Timeout
from requests.exceptions import ChunkedEncodingError

from safety_tax.core.console import say
from safety_tax.core.errors import PipelineError
from safety_tax.core.files import sha256_of

ATTEMPTS = 4
LONGEST_WAIT = 300  # seconds; a Hub that asks for more is not waited for
STORED = re.compile(r"[0-9a-f]{64}")
IN_GIT = re.compile(r"[0-9a-f]{40}")

logging.getLogger("huggingface_hub").setLevel(logging.ERROR)  # its warnings are said here, in a sentence
disable_progress_bars()
if constants.HF_HUB_ENABLE_HF_TRANSFER and find_spec("hf_transfer") is None:
    say("  HF_HUB_ENABLE_HF_TRANSFER is set and the package hf_transfer is not installed: downloads do without it")
    constants.HF_HUB_ENABLE_HF_TRANSFER = False

Answer = TypeVar("Answer")


class HubUnreachable(PipelineError):
    """The Hub did not answer, or not now: a copy in the cache would do."""


def ask_hub(question: Callable[[], Answer], what: str, attempts: int = ATTEMPTS) -> Answer:
    """Ask, and ask again where that can help: a rate limit, a server's fault, a connection that broke.

    Downloads go on where they stopped. Raises PipelineError about `what`, HubUnreachable where the Hub did not answer.
    """
    for attempt in range(1, attempts + 1):
        try:
            return question()
        except (RequestException, EntryNotFoundError, OfflineModeIsEnabled, FileMetadataError, OSError) as error:
            cause = _cause(error)
            wait = _wait(cause, attempt)
            if wait is None or attempt == attempts:
                raise _sentence(cause, what) from None
            say(f"  {what}: {_reason(cause)}; trying again in {wait:.0f} s")
            time.sleep(wait)
    raise AssertionError("the last attempt raises or returns")


def require_digest(file: Path, expected: str | None = None) -> None:
    """Compare a downloaded file with the digest that the Hub keeps it under; one that differs leaves the cache.

    Without `expected`, a sha256, a file in the cache has its digest for a name: the sha256 where the Hub stores large
    files, elsewhere the SHA-1 that Git names it by (a mirror's may be of the content alone). Raises PipelineError.
    """
    stored = file.resolve()
    wanted = expected or (stored.name if STORED.fullmatch(stored.name) or IN_GIT.fullmatch(stored.name) else None)
    if wanted is None:
        return
    kind = "SHA-1" if IN_GIT.fullmatch(wanted) else "sha256"
    found = _git_digests(file) if kind == "SHA-1" else [sha256_of(file)]
    if wanted not in found:
        file.unlink()
        stored.unlink(missing_ok=True)
        raise PipelineError(
            f"Expected {file.name} to have the {kind} {wanted}, as the Hub says, found {found[0]}; it was damaged on "
            "the way or changed since, and is now out of the cache: run again to fetch it anew."
        )


def _git_digests(file: Path) -> list[str]:
    """As Git names a file, with its size before its content; and of the content alone."""
    content = file.read_bytes()
    return [
        hashlib.sha1(head + content, usedforsecurity=False).hexdigest() for head in (b"blob %d\0" % len(content), b"")
    ]


def _cause(error: Exception) -> Exception:
    """The client says "not in the cache" where the Hub refused; what it refused with is the cause."""
    if isinstance(error, LocalEntryNotFoundError) and isinstance(error.__cause__, Exception):
        return error.__cause__
    return error


def _status(error: Exception) -> int | None:
    response = getattr(error, "response", None)
    return None if response is None else int(response.status_code)


def _asked_wait(error: Exception) -> float | None:
    """Seconds that the Hub asks to wait: `Retry-After`, or the `t` of `RateLimit`."""
    response = getattr(error, "response", None)
    headers = {} if response is None else response.headers
    for text in (headers.get("Retry-After", ""), *re.findall(r"\bt=(\d+)", headers.get("RateLimit", ""))):
        if text.strip().isdigit():
            return float(text)
    return None


def _wait(error: Exception, attempt: int) -> float | None:
    """Seconds until the next attempt, None where it would be no use."""
    status = _status(error)
    usual = 2.0 ** (attempt - 1)
    if status == 429:
        asked = _asked_wait(error)
        wait = 10 * usual if asked is None else asked
        return wait if wait <= LONGEST_WAIT else None
    if isinstance(error, OfflineModeIsEnabled):
        return None
    broken = isinstance(error, ConnectionError | Timeout | ChunkedEncodingError) or "Consistency check" in str(error)
    return usual if broken or (status or 0) >= 500 else None


def _reason(error: Exception) -> str:
    """A few words on what passes."""
    status = _status(error)
    if status is not None:
        return f"the Hub answered {status}" + (" (too many requests)" if status == 429 else "")
    if isinstance(error, ChunkedEncodingError) or "Consistency check" in str(error):
        return "the download was cut off"
    return f"no answer from {constants.ENDPOINT}"


def _sentence(error: Exception, what: str) -> PipelineError:
    """The error as a person is to read it."""
    status = _status(error)
    if isinstance(error, GatedRepoError):
        step = (
            "set HF_TOKEN to the token of an account that has access"
            if status == 401
            else "ask for access on its page with the token's account, and let the token read gated repositories"
        )
        return PipelineError(f"Expected to read {what}, found it gated ({status}); {step}.")
    if isinstance(error, RevisionNotFoundError):
        return PipelineError(f"Expected {what} on the Hub, found no such commit; correct `commit` in params.yaml.")
    if isinstance(error, RepositoryNotFoundError):
        return PipelineError(
            f"Expected {what} on the Hub, found no such repository, or a private one; correct `repository` in "
            "params.yaml, or set HF_TOKEN to a token that may read it."
        )
    absent = isinstance(error, LocalEntryNotFoundError)
    if isinstance(error, OfflineModeIsEnabled) or (constants.HF_HUB_OFFLINE and absent):
        return HubUnreachable(
            f"Expected {what} in the cache {constants.HF_HUB_CACHE}, found no whole copy, and HF_HUB_OFFLINE forbids "
            "to download it; unset HF_HUB_OFFLINE, or correct HF_HOME."
        )
    if isinstance(error, EntryNotFoundError) and not absent:
        return PipelineError(
            f"Expected {what} on the Hub, found no such file at that commit; correct `files` or `commit` in "
            "params.yaml."
        )
    if status == 401:
        return PipelineError(
            f"Expected to read {what}, found that the Hub does not know the token (401); correct HF_TOKEN, or unset it."
        )
    if status == 403:
        return PipelineError(
            f"Expected to read {what}, found it forbidden (403: {_first_line(error)}); give the token the right to "
            "read it, or ask its owner for access."
        )
    if status == 429:
        asked = _asked_wait(error)
        wait = "a while" if asked is None else f"{asked:.0f} seconds"
        return HubUnreachable(
            f"Expected to download {what}, found the Hub's rate limit reached (429); wait {wait}, then run again: it "
            "goes on where it stopped, and HF_TOKEN raises the limit."
        )
    if status is not None:
        return HubUnreachable(
            f"Expected to download {what}, found that {constants.ENDPOINT} answered {status}; run again later: it goes "
            "on where it stopped."
        )
    if isinstance(error, ChunkedEncodingError) or "Consistency check" in str(error):
        return HubUnreachable(
            f"Expected to download {what}, found the connection cut off in the middle of a file, {ATTEMPTS} times; run "
            "again: it goes on where it stopped."
        )
    if absent or isinstance(error, RequestException):
        return HubUnreachable(
            f"Expected to download {what}, found no answer from {constants.ENDPOINT} and no copy in the cache; check "
            "the network, the proxy and HF_ENDPOINT, then run again."
        )
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return PipelineError(
            f"Expected room for {what} in the cache {constants.HF_HUB_CACHE}, found the disk full; make room, or set "
            "HF_HOME to a folder on a larger disk, then run again: it goes on where it stopped."
        )
    if isinstance(error, OSError) and error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return PipelineError(
            f"Expected to write {what} into the cache {constants.HF_HUB_CACHE}, found {os.strerror(error.errno or 0)}; "
            "give access, or set HF_HOME to a folder of your own."
        )
    return PipelineError(f"Expected to download {what}, found: {_first_line(error)}; then run again.")


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
