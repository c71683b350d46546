"""Git revisions of this project: what their params.yaml says, and their rows, without checking anything out.

Rows of a commit, such as its verdicts, come from DVC's cache or, where it lacks them, from DVC's remote.
"""

import hashlib
import logging
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from safety_tax.core.errors import PipelineError
from safety_tax.core.rows import LABELLED, VERDICT, Form, RowType, Verdict, read_rows
from safety_tax.core.workspace import PARAMS_FILE, PIPELINE, VERDICTS
from safety_tax.core.yaml_text import parse_yaml
from safety_tax.results.measures import SHARES

OWN_RUN = (
    "make the first commit your own run (`dvc repro`, `git add --all`, `git commit`) and compare later changes with "
    "that commit"
)
# What gives an answer or its label another meaning: with two values of these, one and the same model has two rates.
# The judge is one of them, with the checkpoint that it runs.
MEANING = (
    ("infer", "temperature"),
    ("infer", "truncate"),
)
MEANING_OF_MODEL = ("chat_template", "max_new_tokens", "shots", "stop")
# Of items that an older revision did not ask: where one side has no such key, there is nothing to compare.
MEANING_WHERE_ASKED = ("problem_format",)

Key = tuple[str, str]  # model, variant
Measured = dict[Key, list[Verdict]]
FileKey = TypeVar("FileKey")


class VerdictsMissing(PipelineError):
    """The verdicts of a commit cannot be had here; `step` is what to do, for the end of a sentence."""

    def __init__(self, sentence: str, revision: str, step: str) -> None:
        super().__init__(f"{sentence}; {step}.")
        self.revision = revision
        self.step = step


@dataclass(frozen=True)
class Revision:
    """One side of the comparison, and what its params.yaml says; `commit` is None for the workspace."""

    name: str
    commit: str | None
    keys: list[Key]
    formats: dict[str, str]
    """Model -> the format that its `utility` is measured in."""
    size: str | None
    confidence: float | None
    meaning: dict[str, Any]
    """Key of params.yaml -> value, of those that give rates another meaning; None where it has no such key."""


def git(*arguments: str) -> subprocess.CompletedProcess[bytes]:
    """Run git; raises PipelineError when there is none."""
    try:
        return subprocess.run(["git", *arguments], capture_output=True, check=False)
    except FileNotFoundError:
        raise PipelineError("Expected the program git, found none; install it.") from None


def said(output: bytes) -> str:
    """What Git says, its lines and their indents as one line: a hint of it holds a command on a line of its own."""
    return " ".join(line.strip() for line in output.decode(errors="replace").splitlines() if line.strip())


def commit_of(name: str) -> str:
    """The hash of a revision; raises PipelineError outside a Git repository and for a name that Git does not know."""
    inside = git("rev-parse", "--is-inside-work-tree")
    if inside.returncode:
        raise PipelineError(
            f"Expected a Git repository in {Path.cwd()}, found: {said(inside.stderr)}; "
            "run this in a clone of the project."
        )
    found = git("rev-parse", "--verify", "--quiet", f"{name}^{{commit}}")
    if found.returncode:
        bring = "`git fetch`"
        if git("rev-parse", "--is-shallow-repository").stdout.strip() == b"true":
            bring = (
                "`git fetch --unshallow` (this clone is shallow), and its branches, as origin/NAME, with `git fetch "
                "origin '+refs/heads/*:refs/remotes/origin/*'`"
            )
        raise PipelineError(
            f"Expected a commit, branch or tag, found {name!r}, which Git does not know in {Path.cwd()}; look it up "
            f"with `git log --all --oneline`, or bring it with {bring}."
        )
    return found.stdout.decode().strip()


def read_revision(name: str | None) -> Revision:
    """What a revision's params.yaml says, None being the workspace; only the keys that matter here must be there.

    An older revision may have another schema, so `safety_tax.params` does not judge it. Raises PipelineError.
    """
    commit = None if name is None else commit_of(name)
    name = name or "workspace"
    text = committed_bytes(commit, PARAMS_FILE)
    if text is None:
        raise PipelineError(
            f"Expected {PARAMS_FILE} in {name}, found none under {Path.cwd()}; run this in the project's root and "
            "name a revision that has the pipeline."
        )
    try:
        params = parse_yaml(text)
    except ValueError as error:
        raise PipelineError(
            f"Expected {PARAMS_FILE} of {name} to be YAML, found {error}; mend it, or name another revision."
        ) from None
    models = params.get("models") if isinstance(params, dict) else None
    if not isinstance(models, list) or not models:
        raise PipelineError(
            f"Expected a list `models` in {PARAMS_FILE} of {name}, found {models!r}; name a revision that has one."
        )
    formats = {str(model): _within(params, "catalog", model, "utility_format") for model in models}
    confidence, date = _within(params, "metrics", "confidence"), _within(params, "prompting", "date")
    of_models = [("catalog", model, key) for model in formats for key in MEANING_OF_MODEL]
    return Revision(
        name=name,
        commit=commit,
        keys=[(str(model), variant) for model in models for variant in _variants(params, str(model))],
        formats={model: str(found) for model, found in formats.items() if f"utility_{found}" in SHARES},
        size=str(params["size"]) if "size" in params else None,
        confidence=confidence if isinstance(confidence, float) and 0 < confidence < 1 else None,
        meaning={"judge": _judge(params)}
        | _limits(params)
        | {".".join(path): _asked(params, *path) for path in (*MEANING, *of_models)}
        | {
            f"catalog.{model}.{key}": value
            for model in formats
            for key in MEANING_WHERE_ASKED
            if (value := _within(params, "catalog", model, key)) is not None
        }
        | ({} if date is None else {"prompting.date": date}),
    )


def _variants(params: Any, model: str) -> list[str]:
    """`base`, and the recipes that are for the model."""
    recipes = _within(params, "recipes")
    names = recipes if isinstance(recipes, dict | list) else ()
    # Of an older revision, a mergekit recipe's `models` is a mapping, and another thing.
    models = {name: _within(recipes, name, "models") for name in names}
    return ["base", *(str(name) for name, of in models.items() if not isinstance(of, list) or model in of)]


def _judge(params: Any) -> Any:
    """The section `judge`, with the checkpoint that it names."""
    judge = _within(params, "judge")
    checkpoint = _within(params, "judge_models", _within(judge, "model"))
    return judge if checkpoint is None else {**judge, "checkpoint": checkpoint}


def _limits(params: Any) -> dict[str, Any]:
    """New tokens by kind. An older revision has one number, for the kinds that there were."""
    limits = _within(params, "infer", "max_new_tokens")
    by_kind = limits if isinstance(limits, dict) else dict.fromkeys(LABELLED, limits)
    return {f"infer.max_new_tokens.{kind}": limit for kind, limit in by_kind.items()}


def _asked(params: Any, *keys: str) -> Any:
    """The value of a setting. An empty one and none mean the same: an older revision may not know the key."""
    value = _within(params, *keys)
    return None if value in ([], {}) else value


def _within(value: Any, *keys: Any) -> Any:
    """The value at a path of keys, None where the path breaks off."""
    for key in keys:
        value = value.get(key) if isinstance(value, dict) else None
    return value


def read_verdicts(revision: Revision, keys: Sequence[Key]) -> Measured:
    """The verdicts of those `keys` that the revision measured.

    Raises PipelineError when they cannot be had or cannot be parsed.
    """
    return rows_of(revision, {key: VERDICTS / key[0] / f"{key[1]}.jsonl" for key in keys}, VERDICT)


def rows_of(
    revision: Revision, files: Mapping[FileKey, Path], form: Form[RowType], *, may_be_empty: bool = False
) -> dict[FileKey, list[RowType]]:
    """The rows of those `files` that the revision has, each file by its key.

    Raises PipelineError when they cannot be had or cannot be parsed.
    """
    if revision.commit is None:
        there = {key: file for key, file in files.items() if file.exists()}
        return {key: read_rows(file, form, may_be_empty=may_be_empty) for key, file in there.items()}
    found: dict[FileKey, list[RowType]] = {}
    with tempfile.TemporaryDirectory(prefix="safety-tax-") as folder:
        copy = Path(folder) / "rows.jsonl"
        for key, content in recorded_bytes(revision, files).items():
            copy.write_bytes(content)
            try:
                found[key] = read_rows(copy, form, may_be_empty=may_be_empty)
            except PipelineError as error:
                raise PipelineError(str(error).replace(str(copy), f"{files[key]} of {revision.name}")) from None
    return found


def committed_bytes(commit: str | None, file: Path) -> bytes | None:
    """Content of a file that Git tracks, None where the commit has no such file; without a commit, the workspace's."""
    if commit is None:
        return file.read_bytes() if file.is_file() else None
    shown = git("show", f"{commit}:./{file.as_posix()}")
    return None if shown.returncode else shown.stdout


def committed_stems(commit: str | None, folder: Path) -> list[str]:
    """The names of a folder's files in Git without their endings; without a commit, of the workspace's."""
    if commit is None:
        return sorted(file.stem for file in folder.glob("[!.]*") if file.is_file())
    listed = git("ls-tree", "--name-only", commit, f"./{folder.as_posix()}/")
    return sorted(Path(line).stem for line in listed.stdout.decode(errors="replace").splitlines())


def recorded_bytes(revision: Revision, files: Mapping[FileKey, Path]) -> dict[FileKey, bytes]:
    """Content of the files that the revision's dvc.lock records, out of DVC's cache or remote.

    Raises PipelineError when DVC cannot give a file that is recorded.
    """
    from dvc.api import DVCFileSystem  # here, because a faulty command line should not wait for it
    from dvc.exceptions import DvcException
    from dvc.repo import Repo

    for library in ("dvc", "dvc_data", "dvc_objects", "scmrepo"):
        logging.getLogger(library).setLevel(logging.CRITICAL)
    found = {}
    file = PIPELINE
    try:
        # Cache and remote as they are now: the revision may be older than the lines of .dvc/config that name them.
        with Repo(".") as here:
            config = {"cache": {"dir": here.cache.local_cache_dir}}
            remote = here.config["core"].get("remote")
        system = DVCFileSystem(repo=".", rev=revision.commit, config=config, remote=remote)
        for key, file in files.items():
            try:
                tracked = system.info(file.as_posix()).get("dvc_info")
            except FileNotFoundError:
                continue
            if tracked and tracked["entry"].hash_info is None:
                continue  # a stage that never ran: dvc.yaml has it, dvc.lock does not
            with system.open(file.as_posix(), "rb") as stream:
                found[key] = stream.read()
            if tracked:
                require_recorded(file, revision, found[key], tracked["entry"].hash_info)
        system.repo.close()
    except FileNotFoundError:
        raise VerdictsMissing(
            f"Expected {file} of {revision.name} in DVC's cache or remote, found them in neither",
            revision.name,
            "run `dvc push` where that revision was run and `dvc fetch --all-commits` here, make them again with `dvc "
            f"repro` there, or {OWN_RUN}",
        ) from None
    except PipelineError:
        raise
    except DvcException as error:
        raise PipelineError(
            f"Expected DVC to read {file} of {revision.name}, found: {error}; see what `dvc status` says there."
        ) from None
    except Exception as error:  # each kind of remote raises errors of its own
        raise VerdictsMissing(
            f"Expected {file} of {revision.name} from the DVC remote, found {type(error).__name__}: {error}",
            revision.name,
            f"mend the connection, run `dvc fetch --all-commits`, which says more, or {OWN_RUN}",
        ) from None
    return found


def require_recorded(file: Path, revision: Revision, content: bytes, recorded: Any) -> None:
    """Raises PipelineError when a file's content is not what dvc.lock says: DVC hands out a damaged object as it is."""
    found = hashlib.md5(content, usedforsecurity=False).hexdigest()
    if recorded.name == "md5" and found != recorded.value:
        raise PipelineError(
            f"Expected {file} of {revision.name} with the MD5 {recorded.value} of its dvc.lock, found {found}: the "
            "object in DVC's cache is damaged; `safety-tax doctor --cache` names what to remove, then `dvc "
            "fetch` or `dvc repro` brings it anew."
        )
