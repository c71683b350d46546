"""A project in an empty folder: params.yaml, dvc.yaml and what they need.  `safety-tax init [FOLDER]`

Then edit params.yaml (the model to measure is an entry of `catalog`), and run `dvc repro`. Its dvc.yaml runs the
installed `safety-tax`, and depends on its version: another version measures anew.
"""

import argparse
import shlex
import shutil
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

import yaml

import safety_tax
from safety_tax.core.console import say
from safety_tax.core.errors import PipelineError
from safety_tax.core.files import written_atomically
from safety_tax.core.text_files import read_text
from safety_tax.core.workspace import CHAT_TEMPLATES, LABELS, MERGES, PARAMS_FILE, PIPELINE, PROMPTS, VERSION

LIBRARY = Path(safety_tax.__file__).parent
# In an installed package, else the checkout that the library lies in.
STARTER = LIBRARY / "starter" if (LIBRARY / "starter").is_dir() else LIBRARY.parent
IGNORING = (Path(".dvcignore"), Path(".gitignore"))
FILES = (PARAMS_FILE, *IGNORING)
OF_DVC = tuple(Path(".dvc") / name for name in ("config", "must_be_mappings.yaml", "offline.html"))
FOLDERS = (PROMPTS, CHAT_TEMPLATES)
CODE = ("stages/", "safety_tax/")
HEADER = "# Written by `safety-tax init`; `safety-tax init --upgrade` writes it anew.\n"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What the command takes."""
    parser.add_argument("folder", nargs="?", type=Path, default=Path(), help="made if need be (the present folder)")
    parser.add_argument(
        "--upgrade", action="store_true", help="bring dvc.yaml to the installed version; params.yaml stays as it is"
    )


def run(arguments: argparse.Namespace) -> None:
    """Write the project. Raises PipelineError where there is one, and for --upgrade where there is none."""
    folder: Path = arguments.folder
    if arguments.upgrade:
        if not (folder / VERSION).exists():
            raise PipelineError(
                f"Expected {VERSION} of a project in {folder.resolve()}, found none; begin one in another folder by "
                "`safety-tax init FOLDER`."
            )
        write_pipeline(folder)
        say(f"init: {PIPELINE} is of safety-tax {version('safety-tax')} now; run `dvc repro`")
        return
    if folder.exists() and not folder.is_dir():
        raise PipelineError(f"Expected a folder at {folder.resolve()}, found a file; name another place.")
    there = [file for file in (PARAMS_FILE, PIPELINE, *FOLDERS) if (folder / file).exists()]
    if there:
        begun = (folder / VERSION).exists()
        upgrade = ", or run `safety-tax init --upgrade` for a project of an older version" if begun else ""
        found = f"{there[0]} in {folder.resolve()}; name another folder{upgrade}"
        raise PipelineError(f"Expected a folder without a project, found {found}.")
    begin(folder)
    say(f"init: {folder.resolve()} measures smollm2_135m; params.yaml says what else it could")
    into = "" if folder.resolve() == Path.cwd() else f"cd {shlex.quote(str(folder))} && "
    commit = " && git add --all && git commit --message 'First run'" if shutil.which("git") else ""
    say(f"Next: {into}safety-tax doctor && dvc repro{commit}")


def begin(folder: Path) -> None:
    """Files of a new project, in Git and DVC. Raises PipelineError when either refuses."""
    for source in FOLDERS:
        shutil.copytree(STARTER / source, folder / source)
    for file in (*FILES, *OF_DVC):
        (folder / file).parent.mkdir(parents=True, exist_ok=True)
        if not (folder / file).exists():
            shutil.copyfile(STARTER / file, folder / file)
        elif file in IGNORING:
            ignore_too(folder / file, STARTER / file)
    write_pipeline(folder)
    has_git = shutil.which("git") is not None
    if has_git and not (folder / ".git").exists():  # inside another repository, too: DVC's project is its own root
        require(folder, "git", "init", "--quiet", "--initial-branch", "main")
    if not has_git:
        require(folder, sys.executable, "-m", "dvc", "config", "core.no_scm", "true")


def ignore_too(file: Path, ours: Path) -> None:
    """Add the lines of ours that a person's own list lacks: `git add --all` must not take weights and answers."""
    theirs = read_text(file)
    wanted = ours.read_text(encoding="utf-8").splitlines()
    lacking = [line for line in wanted if line.startswith("#") or line not in theirs.splitlines()]
    if any(line and not line.startswith("#") for line in lacking):
        file.write_text(f"{theirs.rstrip()}\n\n" + "\n".join(lacking) + "\n", encoding="utf-8")


def write_pipeline(folder: Path) -> None:
    """dvc.yaml, with the installed command in place of the repository's code, and the version it is of.

    Folders that it names for what people write are there, though empty.
    """
    for kept in (LABELS, MERGES):
        (folder / kept).mkdir(parents=True, exist_ok=True)
        (folder / kept / ".gitkeep").touch()
    with written_atomically(folder / PIPELINE) as partial:
        partial.write_text(HEADER + yaml.safe_dump(of_installed(pipeline()), sort_keys=False, width=120), "utf-8")
    (folder / VERSION).write_text(f"{version('safety-tax')}\n", encoding="utf-8")


def pipeline() -> dict[str, Any]:
    """The repository's dvc.yaml."""
    content: dict[str, Any] = yaml.safe_load((STARTER / PIPELINE).read_text(encoding="utf-8"))
    return content


def of_installed(content: dict[str, Any]) -> dict[str, Any]:
    """A pipeline whose stages call the installed command, and depend on its version in place of its code."""
    stages = {}
    for name, stage in content["stages"].items():
        body = stage.get("do", stage)  # of a `foreach`
        deps = [dep for dep in body["deps"] if not str(dep).startswith(CODE)]
        command = body["cmd"].replace("python -m stages.", "safety-tax stage ")
        changed = body | {"cmd": command, "deps": [*deps, str(VERSION)]}
        stages[name] = stage | {"do": changed} if "do" in stage else changed
    return {key: value for key, value in content.items() if key in ("vars", "stages")} | {"stages": stages}


def ask(folder: Path, *command: str) -> str | None:
    """Why a command failed; None where it did not."""
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    return None if done.returncode == 0 else (done.stderr.strip() or done.stdout.strip())


def require(folder: Path, *command: str) -> None:
    """Raises PipelineError when a command fails."""
    reason = ask(folder, *command)
    if reason is not None:
        raise PipelineError(
            f"Expected `{' '.join(command)}` to succeed in {folder.resolve()}, found: {reason.splitlines()[-1]}; "
            "mend that and run `safety-tax init` again in another folder."
        )
