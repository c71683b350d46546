"""Where this copy of the project stands: under Git or not, and whose run its commit records."""

import subprocess
from pathlib import Path
from typing import Any

from safety_tax.checkup.machine import Finding
from safety_tax.core.yaml_text import parse_yaml

LOCK = "dvc.lock"
NO_GIT = "begin one with `git init`, or tell DVC to do without: `dvc config --local core.no_scm true`"


def check_git() -> list[Finding]:
    """A folder without Git, as a downloaded archive is, in which DVC refuses to work unless it is told to."""
    if _git("rev-parse", "--is-inside-work-tree") is not None or not Path(".dvc").is_dir():
        return []
    from dvc.exceptions import DvcException  # here: it takes a second to import
    from dvc.repo import Repo

    try:
        with Repo(".") as repo:
            alone = bool(repo.config["core"].get("no_scm"))
    except DvcException:
        alone = False
    if alone:
        found = "none; DVC does without (`safety-tax compare`, `safety-tax sweep` and branches want Git)"
        return [Finding("Git repository", found)]
    return [Finding("Git repository", "none", "one, or DVC's core.no_scm", NO_GIT)]


def first_commit_advice() -> str:
    """What to do before a first comparison, where the run that HEAD records is of another machine; else nothing.

    Its verdicts are then not in the cache. Donors that another processor tunes are other donors, and with a remote the
    verdicts can be fetched.
    """
    recorded = verdict_hashes(_git("show", f"HEAD:./{LOCK}") or "")
    if not recorded:
        return ""
    from dvc.repo import Repo

    with Repo(".") as repo:
        if repo.config["core"].get("remote"):
            return ""
        cache = Path(repo.cache.local.path)
    if any((cache / md5[:2] / md5[2:]).exists() for md5 in recorded):
        return ""
    return (
        "doctor: the run that this commit records was made on another machine, and its verdicts are not here. Make "
        "your own run the first commit, and compare later changes with that one:\n"
        "  dvc repro\n"
        "  git switch --create my-run\n"
        "  git add --all && git commit --message 'The default run on this machine'\n"
        "  safety-tax compare my-run               # after the next change"
    )


def verdict_hashes(lock: str) -> list[str]:
    """The MD5 of each file of verdicts that a dvc.lock records."""
    try:
        content: Any = parse_yaml(lock)
        outs = [out for stage in content["stages"].values() for out in stage.get("outs", [])]
        return [out["md5"] for out in outs if out["path"].startswith("data/verdicts/")]
    except (ValueError, TypeError, KeyError, AttributeError):
        return []


def _git(*arguments: str) -> str | None:
    """What Git prints; None when it fails or is not there."""
    try:
        done = subprocess.run(["git", *arguments], capture_output=True, check=False)
    except FileNotFoundError:
        return None
    return None if done.returncode else done.stdout.decode("utf-8", errors="replace")
