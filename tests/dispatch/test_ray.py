"""A real Ray cluster of two nodes on this machine gives the bytes of one process, also when a node is killed."""

import contextlib
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import psutil
import pytest
import workplace
from conftest import ROOT
from workplace import JOURNAL, infer, output_of, record_of, write_params

pytestmark = pytest.mark.slow
pytest.importorskip("ray", reason="Ray is the extra `ray`, and is not installed")


@pytest.fixture(scope="module")
def built(
    tiny_models: dict[str, Path], tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, dict[str, Any], dict[str, bytes]]:
    """A folder, its params, and what one process writes."""
    folder = tmp_path_factory.mktemp("workplace")
    params = workplace.build(folder, tiny_models["tiny_llama"])
    infer(folder)
    return folder, params, output_of(folder)


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Two nodes of one core each, on loopback."""
    for name, value in {
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
        "RAY_health_check_period_ms": "500",
        "RAY_health_check_failure_threshold": "3",
    }.items():
        monkeypatch.setenv(name, value)
    from ray.cluster_utils import Cluster

    node = {"num_cpus": 1, "object_store_memory": 100 * 2**20, "node_ip_address": "127.0.0.1"}
    found = Cluster(initialize_head=True, head_node_args={**node, "include_dashboard": False})
    found.add_node(**node)
    found.wait_for_nodes()
    monkeypatch.setenv("RAY_ADDRESS", found.address)
    yield found
    found.shutdown()


def start(folder: Path) -> "subprocess.Popen[str]":
    """The stage, in the background."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.Popen(
        [sys.executable, "-m", "stages.infer", "tiny_llama", "base"],
        cwd=folder,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def test_two_nodes_give_the_bytes_of_one_process(
    cluster: Any, built: tuple[Path, dict[str, Any], dict[str, bytes]]
) -> None:
    folder, params, expected = built
    shutil.rmtree(folder / "data/responses")
    write_params(folder, params, cluster="auto")
    said = infer(folder)
    assert output_of(folder) == expected
    assert record_of(folder)["processes"] == 2
    assert "2 processes" in said
    assert not (folder / JOURNAL).exists()


def test_a_node_killed_in_the_middle_changes_no_byte(
    cluster: Any, built: tuple[Path, dict[str, Any], dict[str, bytes]]
) -> None:
    folder, params, expected = built
    shutil.rmtree(folder / "data/responses")
    write_params(folder, params, cluster="auto")
    running = start(folder)
    deadline = time.monotonic() + 240
    while not (folder / JOURNAL).exists() and running.poll() is None and time.monotonic() < deadline:
        time.sleep(0.01)
    assert running.poll() is None, running.communicate()[0]
    (worker,) = cluster.worker_nodes
    cluster.remove_node(worker, allow_graceful=False)
    said, _ = running.communicate(timeout=300)
    assert running.returncode == 0, said
    assert output_of(folder) == expected
    assert record_of(folder)["resumed_items"] == 0


def test_an_error_on_a_node_names_its_item_and_keeps_what_its_task_had_finished(
    cluster: Any, built: tuple[Path, dict[str, Any], dict[str, bytes]]
) -> None:
    folder, params, expected = built
    shutil.rmtree(folder / "data/responses", ignore_errors=True)
    # A task for each slot's share, a row at a time: the prompt that fails, last in order, has others before it.
    write_params(folder, params, cluster="auto", rows_per_batch=1, pass_tokens=4)
    broken = "import stages.infer as verb\nmade = verb.prepare\n"
    broken += "def prepare(*given):\n    answers, forms = made(*given)\n    answers[0].part.items[20].append(70_000)\n"
    broken += "    return answers, forms\nverb.prepare = prepare\n"
    said = infer(folder, broken, status=1)
    assert "found on the benign item benign20" in said and "what was finished is kept" in said
    assert len((folder / JOURNAL).read_text(encoding="utf-8").splitlines()) > 1
    infer(folder)
    assert output_of(folder) == expected


def test_a_killed_driver_goes_on_from_its_journal(
    cluster: Any, built: tuple[Path, dict[str, Any], dict[str, bytes]]
) -> None:
    folder, params, expected = built
    shutil.rmtree(folder / "data/responses")
    write_params(folder, params, cluster="auto")
    stopped = "import os, signal, safety_tax.dispatch.journal as journal\nwhole, count = journal.Journal.note, 0\n"
    stopped += "def note(self, *line):\n    global count\n    count += 1\n    whole(self, *line)\n"
    stopped += "    count == 20 and os.kill(os.getpid(), signal.SIGKILL)\njournal.Journal.note = note\n"
    infer(folder, stopped, status=-9)
    infer(folder)
    assert record_of(folder)["resumed_items"] == 20
    assert output_of(folder) == expected


@pytest.fixture
def client_address() -> Iterator[str]:
    """The address of a node's client server, on loopback."""
    ports = []
    for _ in range(2):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            ports.append(free.getsockname()[1])
    with tempfile.TemporaryDirectory(prefix="ray") as short:  # a socket's path may not be long
        options = {"port": ports[0], "ray-client-server-port": ports[1], "num-cpus": 1, "temp-dir": short}
        options |= {"node-ip-address": "127.0.0.1", "include-dashboard": "false"}
        command = [f"{Path(sys.executable).parent}/ray", "start", "--head", "--block", "--disable-usage-stats"]
        command += [f"--{name}={value}" for name, value in options.items()]
        head = psutil.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            deadline = time.monotonic() + 120
            while time.monotonic() < deadline and head.is_running():
                with socket.socket() as probe:
                    if probe.connect_ex(("127.0.0.1", ports[1])) == 0:
                        break
                time.sleep(0.2)
            yield f"ray://127.0.0.1:{ports[1]}"
        finally:
            started = head.children(recursive=True)
            head.terminate()
            psutil.wait_procs([head, *started], timeout=20)
            for process in started:
                with contextlib.suppress(psutil.NoSuchProcess):
                    process.kill()


def test_a_client_outside_the_cluster_gets_the_same_bytes(
    client_address: str, built: tuple[Path, dict[str, Any], dict[str, bytes]]
) -> None:
    folder, params, expected = built
    shutil.rmtree(folder / "data/responses")
    write_params(folder, params, cluster=client_address)
    infer(folder)
    assert output_of(folder) == expected


def test_weights_come_from_the_dvc_remote_where_no_path_is_shared(
    built: tuple[Path, dict[str, Any], dict[str, bytes]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from safety_tax.dispatch import cluster as cluster_module
    from safety_tax.dispatch.cluster import Weights, _look, _pulled
    from safety_tax.dispatch.journal import folder_digest
    from safety_tax.settings.stages import Run

    folder, params, _ = built
    output = Path("models/onnx/tiny_llama/base")
    project = tmp_path / "project"
    shutil.copytree(folder / output, project / output)
    definition = {"stages": {"export": {"cmd": "true", "outs": [str(output)]}}}
    (project / "dvc.yaml").write_text(json.dumps(definition), encoding="utf-8")
    for command in (
        ["init", "--no-scm", "-q"],
        ["remote", "add", "-d", "-q", "store", str(tmp_path / "store")],
        ["commit", "-f", "-q"],
        ["push", "-q"],
    ):
        subprocess.run([sys.executable, "-m", "dvc", *command], cwd=project, check=True)
    files = {name: (project / name).read_text(encoding="utf-8") for name in ("dvc.yaml", "dvc.lock", ".dvc/config")}
    weights = Weights(Path("/no/such/place") / output, folder_digest(project / output), files)
    shutil.rmtree(project)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    pulls = []
    pull = cluster_module._pull
    monkeypatch.setattr(cluster_module, "_pull", lambda *given: (pulls.append(given), pull(*given)))
    # What the workers of a node do with their first tasks: one of them pulls, the others wait for it.
    with ThreadPoolExecutor(3) as pool:
        folders = list(pool.map(lambda _: _pulled(weights.folder, weights.digest, files), range(3)))
    assert len(pulls) == 1 and len(set(folders)) == 1
    kind, value = _look(weights, Run(**params["run"]))
    assert (kind, value) == ("choice", ("CPUExecutionProvider", True))
    # A file that somebody damaged since is pulled again.
    (folders[0] / "model.onnx").write_bytes(b"other bytes")
    assert _pulled(weights.folder, weights.digest, files) == folders[0]
    assert len(pulls) == 2
