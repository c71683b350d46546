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
import random
import runpy
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import types
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

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
    "pydantic.main",
    "psutil",
    "rich.progress",
    "rich.table",
    "dvc.cli",
    "dvc.repo",
    "dvc.commands.repro",
    "dvc.stage.run",
]
# Read when Python or a package starts: a command that sets one gets a fresh process.
AT_START = ("PYTHON", "OMP_", "MKL_", "OPENBLAS_", "ATEN_", "TORCH", "PYTORCH", "CUDA", "TRANSFORMERS_", "USE_", "DVC_")
STARTED = dict(os.environ)
"""What the server gets, whatever a test sets later."""
LONGEST_FOLDER = 80
"""Bytes of a temporary folder's path: a socket's address holds 108."""
STARTING = threading.Lock()
# A `python` for the PATH of programs that start our commands.
SHIM = """#!/bin/sh
exec '{python}' -IS '{program}' "$@"
"""
ASKING = """
import json, os, socket, sys
if sys.argv[1:2] not in (["-m"], ["-c"]):
    os.execv({python!r}, [{python!r}, *sys.argv[1:]])
asked = {{"arguments": sys.argv[1:], "cwd": os.getcwd(), "env": dict(os.environ), "timeout": 900}}
with socket.socket(socket.AF_UNIX) as to:
    to.connect({address!r})
    socket.send_fds(to, [b"."], [0, 1, 2])
    to.sendall(json.dumps(asked).encode())
    to.shutdown(socket.SHUT_WR)
    status = int(to.recv(16) or sys.exit("the server of forked commands ended"))
if status < 0:
    os.kill(os.getpid(), -status)
sys.exit(status)
"""


def python(
    *arguments: str, cwd: Path | str, env: Mapping[str, str] | None = None, timeout: float = 300, fresh: bool = False
) -> subprocess.CompletedProcess[str]:
    """`python -m MODULE`, `-c CODE` or `SCRIPT`, with what stands behind it; its output as text, any exit status.

    `fresh` starts Python anew, as people do.
    """
    env = dict(os.environ if env is None else env)
    if fresh or not can_fork(env):
        return subprocess.run(
            [sys.executable, *arguments], cwd=cwd, env=env, capture_output=True, text=True, check=False, timeout=timeout
        )
    with open(os.devnull) as nothing, tempfile.TemporaryFile("w+") as told, tempfile.TemporaryFile("w+") as errors:
        asked = {"arguments": arguments, "cwd": str(cwd), "env": env, "timeout": timeout}
        with socket.socket(socket.AF_UNIX) as to:
            to.connect(str(server() / "socket"))
            socket.send_fds(to, [b"."], [nothing.fileno(), told.fileno(), errors.fileno()])
            to.sendall(json.dumps(asked).encode())
            to.shutdown(socket.SHUT_WR)
            ended = to.recv(16)
        if not ended:
            raise RuntimeError("the server of forked commands ended; see what it printed")
        status = int(ended)
        told.seek(0)
        errors.seek(0)
        texts = told.read(), errors.read()
    if status == -signal.SIGALRM:
        raise subprocess.TimeoutExpired(arguments, timeout, *texts)
    return subprocess.CompletedProcess([sys.executable, *arguments], status, *texts)


def can_fork(env: Mapping[str, str]) -> bool:
    """Whether a process that is forked comes early enough for all variables; torch is forked on Linux alone."""
    short = len(os.fsencode(tempfile.gettempdir())) <= LONGEST_FOLDER
    return sys.platform == "linux" and short and at_start(env) == at_start(STARTED)


def at_start(env: Mapping[str, str]) -> dict[str, str]:
    """Those variables that are too late for a process that is forked."""
    return {name: env[name] for name in env if name.startswith(AT_START) and name != "PYTHONPATH"}


def server() -> Path:
    """The folder of this process's server, with its socket and a `python` that asks it; the first caller starts it."""
    with STARTING:
        return _server()


@cache
def _server() -> Path:
    path = Path(tempfile.mkdtemp(prefix="warm-"))
    program, shim = path / "asking.py", path / "python"
    program.write_text(ASKING.format(python=sys.executable, address=str(path / "socket")), encoding="utf-8")
    shim.write_text(SHIM.format(python=sys.executable, program=program), encoding="utf-8")
    shim.chmod(0o755)
    # As `run_stage` sets them before the packages are imported.
    quiet = {"TRANSFORMERS_VERBOSITY": "error", "TOKENIZERS_PARALLELISM": "false"}
    env = {**quiet, **{name: value for name, value in STARTED.items() if name != "PYTHONPATH"}}
    started = subprocess.Popen(
        [sys.executable, __file__, str(path / "socket")], env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert started.stdout
    assert started.stdout.readline() == b"ready\n"
    atexit.register(started.communicate)  # it ends with its input, and this process may end without ceremony
    return path


def serve(address: str) -> dict[str, Any]:
    """Fork for each connection; returns in the child, with what is asked of it."""
    for name in PACKAGES:
        importlib.import_module(name)
    gc.collect()
    gc.freeze()
    listening = socket.socket(socket.AF_UNIX)
    listening.bind(address)
    listening.listen()
    print("ready", flush=True)
    os.dup2(2, 1)  # whoever started it reads to the end of this pipe
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # it ends with its input
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for those that answer
    while True:
        ready, _, _ = select.select([listening, sys.stdin], [], [])
        if sys.stdin in ready:
            shutil.rmtree(os.path.dirname(address), ignore_errors=True)
            sys.exit()
        to, _ = listening.accept()
        if os.fork() == 0:
            listening.close()
            return answer(to)
        to.close()


def answer(to: socket.socket) -> dict[str, Any]:
    """Fork once more and tell the exit status of that child, in which alone this returns."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    _, files, _, _ = socket.recv_fds(to, 1, 3)
    with to.makefile("rb") as sent:
        asked: dict[str, Any] = json.load(sent)
    child = os.fork()
    if child:
        to.sendall(str(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])).encode())
        os._exit(0)
    to.close()
    return asked | {"files": files}


def become(asked: dict[str, Any]) -> None:
    """The folder, environment and output of a process that was started for this command."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.alarm(math.ceil(asked["timeout"]))
    for number, file in enumerate(asked["files"]):
        os.dup2(file, number)
        os.close(file)
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
    random.seed()
    np.random.seed()


def run(asked: dict[str, Any]) -> int:
    """The exit status of the command, as Python gives it."""
    how, *others = asked["arguments"]
    try:
        if how == "-m":
            sys.argv = ["-m", *others[1:]]  # while the module is looked for
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
    asked = serve(sys.argv[1])
    become(asked)
    status = run(asked)
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)  # libraries would wait for threads that stayed with the server
