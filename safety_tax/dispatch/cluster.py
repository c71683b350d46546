"""A Ray cluster: slices of a part are its tasks, and a task whose node is lost runs again on another one.

Each node has this project's dependencies installed; the code travels with the tasks. The weights are on a path that all
nodes share, or come from the DVC remote.
"""

import contextlib
import logging
import os
import stat
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

from filelock import FileLock

from safety_tax.core.errors import PipelineError
from safety_tax.dispatch.journal import folder_digest
from safety_tax.dispatch.slices import slices
from safety_tax.engine.opening import open_engine
from safety_tax.engine.protocol import Budget, Choice, Engine, Hooks, Part, Result
from safety_tax.engine.running import run_items
from safety_tax.settings.stages import Run

PACKAGE = Path(__file__).parents[1]
# More tasks than slots: a node that is lost costs less, and a faster one does more.
TASKS_PER_SLOT = 4
RETRIES = 3
# What `dvc pull` needs of a project; the remote's password is the node's own.
DVC_FILES = ("dvc.yaml", "dvc.lock", "params.yaml", ".dvc/config")


class Weights(NamedTuple):
    """A model's folder: where it is, its digest, and the DVC files that say where else it can be had."""

    folder: Path
    digest: str
    dvc_files: dict[str, str]


class Cluster:
    """See Runner; `slots` tasks run at a time."""

    def __init__(self, folder: Path, settings: Run, digest: str) -> None:
        """Connect. Raises PipelineError when Ray is not installed, does not answer, or a node has no weights."""
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        try:
            import ray
        except ImportError:
            raise PipelineError(
                "Expected Ray for run.cluster, found it not installed; run `pip install -e '.[ray]'` here and on "
                "all nodes, or set run.cluster to none in params.yaml."
            ) from None
        self._ray: Any = ray
        self._settings = settings
        try:
            ray.init(
                address=settings.cluster,
                runtime_env={"py_modules": [str(PACKAGE)]},
                log_to_driver=False,
                logging_level=logging.ERROR,
            )
        except ConnectionError as error:
            raise PipelineError(
                f"Expected a Ray cluster at {settings.cluster}, as run.cluster says, found none that answers "
                f"({str(error).splitlines()[0]}); start one by `ray start --head`, or set run.cluster to none."
            ) from None
        try:
            self._weights = Weights(folder.resolve(), digest, _dvc_files())
            self.slots, asked = _slots(ray, settings)
            self._task = ray.remote(max_retries=RETRIES, **asked)(_run_slice)
            self._give_weights(folder)
            self.choice = Choice(
                *self._get(ray.remote(max_retries=RETRIES, **asked)(_look).remote(self._weights, settings))
            )
        except BaseException:
            self.close()
            raise

    def run(self, part: Part, wanted: Sequence[int], hooks: Hooks) -> None:
        """See Runner. A task's items are reported together, when it ends."""
        shared = self._ray.put(part)
        cut = slices(part, wanted, self.choice, Budget.of(self._settings), self.slots * TASKS_PER_SLOT)
        waiting = [self._task.remote(self._weights, shared, items, self._settings, self.choice) for items in cut]
        try:
            while waiting:
                ended, waiting = self._ray.wait(waiting, num_returns=1)
                self._pass_on(ended[0], hooks)
        except PipelineError:
            # What other tasks have finished by now is finished, too.
            for task in self._ray.wait(waiting, num_returns=len(waiting), timeout=0)[0] if waiting else ():
                with contextlib.suppress(PipelineError):
                    self._pass_on(task, hooks)
            raise

    def _pass_on(self, task: Any, hooks: Hooks) -> None:
        """Report what a task finished. Raises PipelineError when that is not all."""
        results, said, advanced, failure = self._get(task)
        for item, result in results:
            hooks.finished(item, result)
        for message in said:
            hooks.say(message)
        hooks.advance(advanced)
        if failure:
            raise PipelineError(failure)

    def close(self) -> None:
        """Leave the cluster, which goes on."""
        self._ray.shutdown()

    def _get(self, task: Any) -> Any:
        """What a task returns. Raises PipelineError for its own, and for a task that was lost too often."""
        try:
            kind, value = self._ray.get(task)
        except self._ray.exceptions.RayError as error:
            lines = [line.strip() for line in str(error).splitlines() if line.strip()]
            last = lines[-1][:300] if lines else type(error).__name__
            raise PipelineError(
                f"Expected the Ray cluster to run a task within {RETRIES + 1} attempts, found: {last}; "
                "what was finished is kept: run `dvc repro` again when the cluster is well."
            ) from None
        if kind == "error":
            raise PipelineError(value)
        return value

    def _give_weights(self, folder: Path) -> None:
        """Push the weights to the DVC remote unless every node has them on the same path."""
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        look = self._ray.remote(num_cpus=0, max_retries=RETRIES)(_file_sizes)
        there = [
            look.options(scheduling_strategy=NodeAffinitySchedulingStrategy(node["NodeID"], soft=True)).remote(
                self._weights.folder
            )
            for node in self._ray.nodes()
            if node["Alive"]
        ]
        _, here = _file_sizes(folder)
        if all(self._get(sizes) == here for sizes in there):
            return
        pushed = subprocess.run(
            [sys.executable, "-m", "dvc", "push", "--quiet", str(folder)], capture_output=True, text=True, check=False
        )
        if pushed.returncode != 0:
            reason = (pushed.stderr.strip().splitlines() or ["no reason given"])[-1]
            raise PipelineError(
                f"Expected {folder} on a path that all nodes share, or a DVC remote that takes it, found on one node "
                f"no such folder and from `dvc push`: {reason}; share the project's folder or add a remote."
            )


def _slots(ray: Any, settings: Run) -> tuple[int, dict[str, Any]]:
    """How many tasks run at a time, and what Ray reserves for each: a GPU, or all cores of the smallest node."""
    resources = ray.cluster_resources()
    gpus = int(resources.get("GPU", 0)) if settings.provider != "cpu" else 0
    cores = [int(node["Resources"].get("CPU", 0)) for node in ray.nodes() if node["Alive"]]
    asked = {"num_gpus": 1} if gpus else {"num_cpus": max(1, min([core for core in cores if core] or [1]))}
    slots = gpus or sum(core // asked["num_cpus"] for core in cores)
    return max(1, slots if settings.processes == "auto" else settings.processes), asked


def _dvc_files() -> dict[str, str]:
    return {name: Path(name).read_text(encoding="utf-8") for name in DVC_FILES if Path(name).exists()}


# What follows runs on the nodes. A PipelineError goes home as its sentence: Ray would wrap it in a traceback.


def _file_sizes(folder: Path) -> tuple[str, dict[str, int]]:
    """Names and sizes of a folder's files: what tells soon whether it is there at all."""
    files = folder.iterdir() if folder.is_dir() else ()
    return "sizes", {path.name: path.stat().st_size for path in files if path.is_file()}


def _look(weights: Weights, settings: Run) -> tuple[str, Any]:
    """On what a node runs the model."""
    try:
        return "choice", tuple(_engine(weights, settings).choice)
    except PipelineError as error:
        return "error", str(error)


def _run_slice(weights: Weights, part: Part, wanted: list[int], settings: Run, choice: Choice) -> tuple[str, Any]:
    """Results of a slice by item, what there is to say, the progress made, and why it ended before its end, if so."""
    failure = None
    results: list[tuple[int, Result]] = []
    said: list[str] = []
    steps = [0]

    def advance(count: int) -> None:
        steps[0] += count

    try:
        engine = _engine(weights, settings)
        if engine.choice != choice:
            raise PipelineError(
                f"Expected all nodes to run on {choice.provider}, found one on {engine.choice.provider}; set "
                "run.provider to cuda or cpu in params.yaml."
            )
        hooks = Hooks(advance, lambda *result: results.append(result), said.append)
        run_items(engine, part, wanted, Budget.of(settings), hooks)
        engine.require_provider()
    except PipelineError as error:
        failure = str(error)
    return "results", (results, said, steps[0], failure)


def _engine(weights: Weights, settings: Run) -> Engine:
    return _engine_of(weights.folder, weights.digest, tuple(weights.dvc_files.items()), settings)


@lru_cache(maxsize=1)
def _engine_of(folder: Path, digest: str, dvc_files: tuple[tuple[str, str], ...], settings: Run) -> Engine:
    """A worker's engine, kept for its next task."""
    if not folder.is_dir() or folder_digest(folder) != digest:
        folder = _pulled(folder, digest, dict(dvc_files))
    return open_engine(folder, settings)


def _pulled(folder: Path, digest: str, dvc_files: dict[str, str]) -> Path:
    """The folder from the DVC remote, in a project of its own; the first worker of a node pulls, others wait for it."""
    output = Path(*folder.parts[-4:])  # models/onnx/<model>/<variant>
    own = _own_folder()
    project = own / digest[:16]
    with FileLock(own / f"{digest[:16]}.lock"):
        if not (project / output).is_dir() or folder_digest(project / output) != digest:
            _pull(project, output, digest, dvc_files)
    return project / output


def _own_folder() -> Path:
    """This user's folder under the system's temporary one. Raises PipelineError when somebody else can write there."""
    folder = Path(tempfile.gettempdir()) / f"safety-tax-{os.getuid()}"
    with contextlib.suppress(FileExistsError):
        folder.mkdir(mode=0o700)
    found = folder.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid() or stat.S_IMODE(found.st_mode) & 0o077:
        raise PipelineError(
            f"Expected {folder} on {os.uname().nodename} to be a folder that only its user may enter, found another "
            "owner, other rights or a link; remove it, or set TMPDIR for the Ray workers."
        )
    return folder


def _pull(project: Path, output: Path, digest: str, dvc_files: dict[str, str]) -> None:
    for name, content in {**dvc_files, ".dvc/config.local": "[core]\n    no_scm = true\n"}.items():
        (project / name).parent.mkdir(parents=True, exist_ok=True)
        (project / name).write_text(content, encoding="utf-8")
    pulled = subprocess.run(
        [sys.executable, "-m", "dvc", "pull", "--quiet", "--force", str(output)],
        cwd=project,
        capture_output=True,
        text=True,
        check=False,
    )
    if pulled.returncode != 0 or folder_digest(project / output) != digest:
        reason = (pulled.stderr.strip().splitlines() or ["other weights than the driver has"])[-1]
        raise PipelineError(
            f"Expected the weights of {output} on a path that all nodes share or in the DVC remote, found on "
            f"{os.uname().nodename} from `dvc pull`: {reason}; share the project's folder, or check the remote."
        )
