"""Commands of Python in processes of their own that begin with the large packages imported, which takes seconds.

A server imports them once for each worker of pytest and forks a process for each command. That process has its own
folder, environment and output, and takes the project's code from where `python` would.
"""

import atexit
import gc
import importlib
import json
import math
import os
import runpy
import signal
import subprocess
import sys
import tempfile
import threading
import types
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

# What our commands import of others, in an order in which each adds something.
PACKAGES = [
    "torch",
    "onnx",
    "transformers.models.auto.modeling_auto",
    "transformers.models.auto.tokenization_auto",
    "transformers.generation",
    "transformers.models.llama.modeling_llama",
    "transformers.models.mistral.modeling_mistral",
    "transformers.models.qwen2.modeling_qwen2",
    "peft",
    "optimum.exporters.onnx",
    "scipy.stats",
    "pandas",
    "pydantic",
    "rich.progress",
    "rich.table",
    "dvc.cli",
    "dvc.repo",
    "dvc.commands.repro",
    "dvc.stage.run",
]
# Read when Python or a package starts: a command that sets one gets a fresh process.
AT_START = ("PYTHON", "OMP_", "MKL_", "OPENBLAS_", "ATEN_", "TORCH", "PYTORCH", "CUDA", "TRANSFORMERS_", "USE_", "DVC_")
lock = threading.Lock()


def python(
    *arguments: str, cwd: Path | str, env: Mapping[str, str] | None = None, timeout: float = 120, fresh: bool = False
) -> subprocess.CompletedProcess[str]:
    """`python -m MODULE`, `-c CODE` or `SCRIPT`, with what stands behind it; its output as text, any exit status.

    `fresh` starts Python anew, as people do.
    """
    env = dict(os.environ if env is None else env)
    fresh = fresh or not hasattr(os, "fork") or at_start(env) != at_start(os.environ)
    if fresh or not lock.acquire(blocking=False):  # one at a time
        return subprocess.run(
            [sys.executable, *arguments], cwd=cwd, env=env, capture_output=True, text=True, check=False, timeout=timeout
        )
    try:
        with tempfile.TemporaryDirectory(prefix="warm-") as folder:
            outputs = [f"{folder}/stdout", f"{folder}/stderr"]
            status = forked(
                {"arguments": arguments, "cwd": str(cwd), "env": env, "outputs": outputs, "timeout": timeout}
            )
            texts = [Path(output).read_text(encoding="utf-8") for output in outputs]
    finally:
        lock.release()
    if status == -signal.SIGALRM:
        raise subprocess.TimeoutExpired(arguments, timeout, *texts)
    return subprocess.CompletedProcess([sys.executable, *arguments], status, *texts)


def at_start(env: Mapping[str, str]) -> dict[str, str]:
    """Those variables that are too late for a process that is forked."""
    return {name: env[name] for name in env if name.startswith(AT_START) and name != "PYTHONPATH"}


@cache
def server() -> "subprocess.Popen[str]":
    """The one of this process."""
    # As `run_stage` sets them before the packages are imported.
    quiet = {"TRANSFORMERS_VERBOSITY": "error", "TOKENIZERS_PARALLELISM": "false"}
    env = {**quiet, **{name: value for name, value in os.environ.items() if name != "PYTHONPATH"}}
    started = subprocess.Popen(
        [sys.executable, __file__], env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    atexit.register(started.communicate)  # it ends with its input
    return started


def forked(asked: dict[str, Any]) -> int:
    """The exit status of what the server forks."""
    to, back = server().stdin, server().stdout
    assert to and back
    print(json.dumps(asked), file=to, flush=True)
    return int(back.readline())


def serve() -> dict[str, Any]:
    """Fork for each line of the input; returns in the child, with what is asked of it."""
    for name in PACKAGES:
        importlib.import_module(name)
    gc.collect()
    gc.freeze()
    for line in sys.stdin:
        child = os.fork()
        if child == 0:
            asked: dict[str, Any] = json.loads(line)
            return asked
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
    sys.exit()


def become(asked: dict[str, Any]) -> None:
    """The folder, environment and output of a process that was started for this command."""
    signal.alarm(math.ceil(asked["timeout"]))
    outputs = [(name, os.O_WRONLY | os.O_CREAT) for name in asked["outputs"]]
    for number, (name, how) in enumerate([(os.devnull, os.O_RDONLY), *outputs]):
        os.dup2(os.open(name, how), number)
    before, now = dict(os.environ), asked["env"]
    os.environ.clear()
    os.environ.update(now)
    os.chdir(asked["cwd"])
    what, *_ = asked["arguments"]
    more = [path for path in now.get("PYTHONPATH", "").split(os.pathsep) if path]
    sys.path[:1] = [{"-m": os.getcwd(), "-c": ""}.get(what, os.path.dirname(what)), *more]
    if {name for name in {*before, *now} if name.startswith("HF_") and before.get(name) != now.get(name)}:
        # It reads its settings on import.
        for name in [name for name in sys.modules if name.partition(".")[0] == "huggingface_hub"]:
            del sys.modules[name]
    gc.enable()


def run(asked: dict[str, Any]) -> int:
    """The exit status of the command, as Python gives it."""
    how, *others = asked["arguments"]
    try:
        if how == "-m":
            sys.argv = others
            runpy.run_module(others[0], run_name="__main__", alter_sys=True)
        elif how == "-c":
            sys.argv = ["-c", *others[1:]]
            sys.modules["__main__"] = types.ModuleType("__main__")
            exec(compile(others[0], "<string>", "exec"), vars(sys.modules["__main__"]))
        else:
            sys.argv = [how, *others]
            runpy.run_path(how, run_name="__main__")
    except SystemExit as end:
        if isinstance(end.code, int | None):
            return end.code or 0
        print(end.code, file=sys.stderr)
        return 1
    except BaseException:
        sys.excepthook(*sys.exc_info())
        return 1
    return 0


if __name__ == "__main__":
    asked = serve()
    become(asked)
    status = run(asked)
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    sys.stdout.flush()
    os._exit(status)  # libraries would wait for threads that stayed with the server
