"""The one exception a person is meant to read."""

from collections.abc import Iterable
from configparser import ConfigParser
from configparser import Error as ConfigError
from difflib import get_close_matches

DVC_CONFIG = (".dvc/config", ".dvc/config.local")


class PipelineError(Exception):
    """Bad input, said in one sentence: what was expected, what was found, where, what to do.

    A stage that raises it prints the sentence on stderr and exits with status 1.
    """


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Closing words for "unknown name" sentences: the near matches, or all there is."""
    known = sorted(known)
    near = get_close_matches(name, known, n=3, cutoff=0.5)
    if near:
        return "did you mean " + " or ".join(repr(match) for match in near) + "?"
    return "known: " + (", ".join(known) if known else "none") + "."


def how_to_have() -> str:
    """Closing words for an output that is not there: run the stages or, where a DVC remote is named, fetch it."""
    return "run `dvc pull` to fetch it, or `dvc repro` to make it" if names_a_remote() else "run `dvc repro`"


def names_a_remote() -> bool:
    """Whether this project's DVC configuration has a default remote. DVC itself takes a second to say it."""
    config = ConfigParser(interpolation=None, strict=False)
    try:
        config.read(DVC_CONFIG, encoding="utf-8")
    except (ConfigError, UnicodeDecodeError):
        return False  # DVC says what is wrong there
    return bool(config.get("core", "remote", fallback=""))
