"""What can go wrong beside the Hub itself: the disk, the digest of a file, a limit that ends at once."""

import errno
import hashlib
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError
from requests import ConnectionError, Response

from safety_tax.core.errors import PipelineError
from safety_tax.sources.hub_errors import ATTEMPTS, LONGEST_WAIT, HubUnreachable, ask_hub, require_digest

CONTENT = b"Weights.\n"


def answered(status: int, **headers: str) -> HfHubHTTPError:
    """As the client raises what the Hub answered."""
    response = Response()
    response.status_code = status
    response.headers.update({name.replace("_", "-"): value for name, value in headers.items()})
    return HfHubHTTPError(f"{status} answered", response=response)


def failing(*errors: Exception) -> tuple[Callable[[], str], list[Exception]]:
    """A question that meets one error after the other and then an answer; and those that are still to come."""
    left = list(errors)

    def ask() -> str:
        if left:
            raise left.pop(0)
        return "answer"

    return ask, left


def test_an_answer_is_returned() -> None:
    assert ask_hub(lambda: 7, "a file") == 7


def test_a_limit_that_ends_at_once_is_asked_again(capsys: pytest.CaptureFixture[str]) -> None:
    limits = [answered(429, Retry_After="0"), answered(429, RateLimit='"api";r=0;t=0')]
    ask, left = failing(*limits)
    assert ask_hub(ask, "a file") == "answer" and not left
    assert capsys.readouterr().out.count("a file: the Hub answered 429 (too many requests); trying again in 0 s") == 2


def test_a_limit_without_end_is_given_up(capsys: pytest.CaptureFixture[str]) -> None:
    ask, left = failing(*[answered(429, Retry_After="0") for _ in range(ATTEMPTS + 1)])
    with pytest.raises(HubUnreachable, match=r"rate limit reached \(429\); wait 0 seconds, then run again"):
        ask_hub(ask, "a file")
    assert len(left) == 1
    assert capsys.readouterr().out.count("trying again") == ATTEMPTS - 1


def test_a_longer_limit_than_a_person_waits_for_is_said_at_once() -> None:
    ask, left = failing(answered(429, Retry_After=str(LONGEST_WAIT + 1)), ConnectionError())
    with pytest.raises(HubUnreachable, match=f"wait {LONGEST_WAIT + 1} seconds"):
        ask_hub(ask, "a file")
    assert len(left) == 1


@pytest.mark.parametrize(
    ("error", "kind", "words"),
    [
        (OSError(errno.ENOSPC, "full"), PipelineError, "Expected room for a file in the cache .* the disk full"),
        (PermissionError(errno.EACCES, "no"), PipelineError, "into the cache .*, found Permission denied; give access"),
        (OSError(errno.EROFS, "no"), PipelineError, "found Read-only file system; give access, or set HF_HOME"),
        (OSError(errno.EIO, "a\nb"), PipelineError, r"download a file, found: \[Errno 5\] a; then run again"),
        (answered(401), PipelineError, r"does not know the token \(401\); correct HF_TOKEN"),
        (answered(403), PipelineError, r"found it forbidden \(403: 403 answered\)"),
        (answered(418), HubUnreachable, "answered 418; run again later"),
        (answered(503), HubUnreachable, "answered 503; run again later"),
        (ConnectionError("refused"), HubUnreachable, "found no answer from .* and no copy in the cache"),
    ],
)
def test_an_error_is_one_sentence_with_the_next_step(error: Exception, kind: type, words: str) -> None:
    with pytest.raises(PipelineError, match=words) as raised:
        ask_hub(failing(error)[0], "a file", attempts=1)
    assert type(raised.value) is kind
    assert "\n" not in str(raised.value)


def test_what_the_hub_refused_counts_and_not_that_the_cache_is_empty() -> None:
    absent = LocalEntryNotFoundError("not in the cache")
    absent.__cause__ = answered(401)
    with pytest.raises(PipelineError, match="does not know the token"):
        ask_hub(failing(absent)[0], "a file", attempts=1)


def test_an_error_of_the_program_is_not_taken_for_the_hubs() -> None:
    with pytest.raises(ZeroDivisionError):
        ask_hub(failing(ZeroDivisionError())[0], "a file")


def in_cache(folder: Path, name: str, content: bytes) -> Path:
    """A file as the client keeps it: a link to one that is named by its digest."""
    blob = folder / "blobs" / name
    blob.parent.mkdir()
    blob.write_bytes(content)
    link = folder / "model.safetensors"
    link.symlink_to(blob)
    return link


def git_name(content: bytes) -> str:
    """As Git itself names a file of that content."""
    told = subprocess.run(["git", "hash-object", "--stdin"], input=content, capture_output=True, check=True)
    return told.stdout.decode().strip()


DIGESTS: dict[str, Callable[[bytes], str]] = {
    "of a large file": lambda content: hashlib.sha256(content).hexdigest(),
    "of a file in Git": git_name,
    "of a mirror's": lambda content: hashlib.sha1(content).hexdigest(),
}


@pytest.mark.parametrize("digest", DIGESTS.values(), ids=DIGESTS)
def test_a_file_of_the_cache_has_its_digest_for_a_name(digest: Callable[[bytes], str], tmp_path: Path) -> None:
    file = in_cache(tmp_path, digest(CONTENT), CONTENT)
    require_digest(file)
    assert file.read_bytes() == CONTENT
    file.resolve().write_bytes(CONTENT[:-1])
    with pytest.raises(PipelineError, match=rf"model.safetensors to have the (SHA-1|sha256) {digest(CONTENT)},"):
        require_digest(file)
    assert not file.exists() and not any((tmp_path / "blobs").iterdir())  # out of the cache, and the link with it


def test_a_digest_that_is_expected_counts_more_than_the_name(tmp_path: Path) -> None:
    file = in_cache(tmp_path, "anything", CONTENT)
    require_digest(file)  # a name that is no digest says nothing
    require_digest(file, hashlib.sha256(CONTENT).hexdigest())
    with pytest.raises(PipelineError, match=f"sha256 {'0' * 64}, as the Hub says, found [0-9a-f]{{64}};"):
        require_digest(file, "0" * 64)
