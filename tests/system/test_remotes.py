"""A folder, an S3 server and an SSH server as DVC remotes of the real pipeline, all on loopback.

The pipeline is the project's own dvc.yaml; its outputs are small, made by hand and recorded by `dvc commit`.
"""

import json
import os
import re
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import yaml
from conftest import ROOT, Project, tiny_params
from sample_project import prompt_of
from test_compare import MAIN

from safety_tax.checkup.machine import Finding, check_remote
from safety_tax.core.rows import Response, write_rows

Settings = dict[str, str]
COMMITTED = {"url", "endpointurl", "port", "verify"}  # all others are a person's own: `--local`


@dataclass(frozen=True)
class Remote:
    """What Git tracks of a remote, and what a writer, a reader and a stranger add of their own."""

    shared: Settings
    writer: Settings = field(default_factory=dict)
    reader: Settings | None = None
    stranger: Settings | None = None


class Clone(Project):
    """Another person's copy of a project."""

    def __init__(self, origin: Project, folder: Path, own: Settings) -> None:
        self.folder = folder
        origin.run("git", "clone", "--quiet", str(origin.folder), str(folder))
        self.run("git", "config", "user.email", "test@localhost")
        self.run("git", "config", "user.name", "test")
        self.params = yaml.safe_load((folder / "params.yaml").read_text(encoding="utf-8"))
        modify(self, own)

    def refused(self, *arguments: str) -> str:
        """Run a dvc command that must fail, and return what it says; DVC has more exit statuses than one."""
        environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
        result = subprocess.run(
            [sys.executable, "-m", "dvc", *arguments],
            cwd=self.folder,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=300,
        )
        output = result.stdout + result.stderr
        assert result.returncode != 0, output
        assert "ERROR" in output and "Traceback" not in output, output
        return output


def modify(project: Project, settings: Settings) -> None:
    """`dvc remote modify store`, with --local for what is a person's own."""
    for key, value in settings.items():
        local = [] if key in COMMITTED else ["--local"]
        project.dvc("remote", "modify", "--quiet", *local, "store", key, value)


def content(folder: Path) -> dict[str, bytes]:
    """Path -> bytes of every output that DVC keeps."""
    kept = [folder / "models", *(folder / "data" / name for name in ("benchmarks", "responses", "verdicts"))]
    files = [file for top in kept for file in top.rglob("*") if file.is_file() and file.name != ".gitignore"]
    return {file.relative_to(folder).as_posix(): file.read_bytes() for file in files}


KINDS = ("merged", "onnx")


@pytest.fixture(scope="module")
def origin(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """The project with one model, two recipes and outputs of a few kilobytes, all committed."""
    folder = tmp_path_factory.mktemp("origin")
    project = Project(folder, tiny_params({"tiny": folder / "nowhere"}))
    for out in outs(project):
        path = folder / out
        if path.parts[-3:-1] == ("verdicts", "tiny"):
            write_rows(path, MAIN["base"])
        elif path.parent.name == "benchmarks":
            write_rows(path, [prompt_of(verdict) for verdict in MAIN["base"] if verdict.kind == path.stem])
        elif path.suffix:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text('{"base": {"safety": 0.5}}\n', encoding="utf-8")
        else:
            path.mkdir(parents=True)
            for name in ("config.json", "weights.json", "model.onnx"):
                (path / name).write_text(f"{name} of {out}\n", encoding="utf-8")
            # The ONNX of a variant has the very file of its weights.
            variant = [*path.parts[-2:-1], *([] if path.name == "base" else [path.name])]
            of = "/".join(variant) if path.parts[-3] == "onnx" else out.partition("/")[2].partition("/")[2]
            (path / "model.safetensors").write_bytes(f"weights of {of}\n".encode() * 200)
            if path.parts[-3] == "responses":
                answered = [verdict.id for verdict in MAIN["base"] if verdict.kind != "choice"]
                answers = [Response(id=item, text="An answer.", finish_reason="stop", tokens=3) for item in answered]
                write_rows(path / "responses.jsonl", answers)
    project.dvc("commit", "--force", "--quiet")
    project.commit("outputs")
    return project


def outs(project: Project) -> list[str]:
    """Paths that the stages of dvc.yaml write."""
    from dvc.repo import Repo

    with Repo(str(project.folder)) as repo:
        return [Path(out.fs_path).relative_to(project.folder).as_posix() for out in repo.index.outs]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@pytest.fixture(scope="module")
def folder_remote(tmp_path_factory: pytest.TempPathFactory) -> Remote:
    return Remote({"url": str(tmp_path_factory.mktemp("shared") / "store"), "verify": "true"})


@pytest.fixture(scope="module")
def s3_remote() -> Iterator[Remote]:
    """moto's server, with a user who may write, one who may read, and access checked as AWS does."""
    boto3 = pytest.importorskip("boto3")
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    try:
        endpoint = f"http://127.0.0.1:{server.get_host_and_port()[1]}"
        common = {"endpoint_url": endpoint, "region_name": "us-east-1"}
        root = {"aws_access_key_id": "root", "aws_secret_access_key": "root"}
        boto3.client("s3", **common, **root).create_bucket(Bucket="artifacts")
        iam = boto3.client("iam", **common, **root)
        keys = {}
        for user, actions in {"writer": ["s3:*"], "reader": ["s3:Get*", "s3:List*", "s3:Head*"]}.items():
            iam.create_user(UserName=user)
            statement = {"Effect": "Allow", "Action": actions, "Resource": "*"}
            policy = json.dumps({"Version": "2012-10-17", "Statement": [statement]})
            iam.put_user_policy(UserName=user, PolicyName=user, PolicyDocument=policy)
            key = iam.create_access_key(UserName=user)["AccessKey"]
            keys[user] = {
                "access_key_id": key["AccessKeyId"],
                "secret_access_key": key["SecretAccessKey"],
                "region": "us-east-1",
            }
        post(f"{endpoint}/moto-api/reset-auth", b"0")
        stranger = keys["reader"] | {"secret_access_key": "not the reader's"}
        yield Remote(
            {"url": "s3://artifacts/store", "endpointurl": endpoint, "verify": "true"},
            keys["writer"],
            keys["reader"],
            stranger,
        )
        post(f"{endpoint}/moto-api/reset-auth", b"inf")
    finally:
        server.stop()


def post(url: str, body: bytes) -> None:
    import urllib.request

    headers = {"Content-Type": "text/plain"}  # else the server reads the body as a form
    with urllib.request.urlopen(urllib.request.Request(url, body, headers, method="POST"), timeout=10):
        pass


def sshd_program() -> str:
    """sshd, which wants to be called by its absolute path."""
    found = shutil.which("sshd", path=f"{os.environ['PATH']}:/usr/sbin:/usr/local/sbin")
    if not found:
        pytest.skip("there is no sshd here (Debian: openssh-server)")
    return found


@pytest.fixture(scope="module")
def ssh_remote(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Remote]:
    """An sshd of its own port and keys; the reader's key may only read."""
    program = sshd_program()
    folder = tmp_path_factory.mktemp("ssh")
    for name in ("host", "writer", "reader", "stranger"):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(folder / name)], check=True)
    public = {name: (folder / f"{name}.pub").read_text(encoding="utf-8") for name in ("writer", "reader")}
    authorized = public["writer"] + 'restrict,command="internal-sftp -R" ' + public["reader"]
    (folder / "authorized").write_text(authorized, encoding="utf-8")
    port = free_port()
    lines = {
        "Port": port,
        "ListenAddress": "127.0.0.1",
        "HostKey": folder / "host",
        "PidFile": "none",
        "AuthorizedKeysFile": folder / "authorized",
        "StrictModes": "no",
        "UsePAM": "no",
        "PasswordAuthentication": "no",
        "KbdInteractiveAuthentication": "no",
        "Subsystem": "sftp internal-sftp",
    }
    (folder / "config").write_text("".join(f"{key} {value}\n" for key, value in lines.items()), encoding="utf-8")
    if os.geteuid() == 0:
        Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)  # where sshd drops its privileges
    with (folder / "log").open("wb") as log:
        server = subprocess.Popen([program, "-D", "-e", "-f", str(folder / "config")], stderr=log)
    try:
        for _ in range(100):
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
            assert server.poll() is None, (folder / "log").read_text(encoding="utf-8")
            time.sleep(0.1)
        user = os.environ.get("USER") or Path.home().name
        own = {name: {"user": user, "keyfile": str(folder / name)} for name in ("writer", "reader", "stranger")}
        shared = {"url": f"ssh://127.0.0.1{folder / 'store'}", "port": str(port), "verify": "true"}
        yield Remote(shared, own["writer"], own["reader"], own["stranger"])
    finally:
        server.terminate()
        server.wait(timeout=10)


SERVERS = [pytest.param(name, marks=pytest.mark.slow) for name in ("s3", "ssh")]


@pytest.fixture(scope="module", params=["folder", *SERVERS])
def shared(
    request: pytest.FixtureRequest, origin: Project, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Project, Remote]:
    """A clone whose outputs are pushed to a remote, and the remote."""
    remote: Remote = request.getfixturevalue(f"{request.param}_remote")
    folder = tmp_path_factory.mktemp(request.param)
    project = Clone(origin, folder / "writer", {})
    project.dvc("cache", "dir", "--local", str(origin.folder / ".dvc/cache"))
    project.dvc("remote", "add", "--quiet", "--default", "store", remote.shared["url"])
    modify(project, {key: value for key, value in remote.shared.items() if key != "url"} | remote.writer)
    project.dvc("push", "--quiet")
    project.commit("name the remote")
    return project, remote


def test_a_colleague_gets_the_bytes_and_runs_nothing(
    shared: tuple[Project, Remote], origin: Project, tmp_path: Path
) -> None:
    project, remote = shared
    expected = content(origin.folder)
    clone = Clone(project, tmp_path / "clone", remote.writer if remote.reader is None else remote.reader)
    assert content(clone.folder) == {}
    # The verdicts alone are what `safety-tax compare` reads.
    clone.dvc("pull", "--quiet", "judge_base", "judge")
    verdicts = {path for path in expected if path.startswith("data/verdicts/")}
    assert len(verdicts) == 3
    assert set(content(clone.folder)) == verdicts
    clone.dvc("pull", "--quiet")
    assert content(clone.folder) == expected
    assert clone.repro() == []
    # Lose the cache and the outputs: they come back.
    shutil.rmtree(clone.folder / ".dvc/cache")
    shutil.rmtree(clone.folder / "models")
    shutil.rmtree(clone.folder / "data/responses")
    clone.dvc("pull", "--quiet")
    assert content(clone.folder) == expected


def test_each_weight_is_in_the_store_once_and_the_onnx_comes_without_the_merge(
    shared: tuple[Project, Remote], origin: Project, tmp_path: Path
) -> None:
    project, remote = shared
    expected = content(origin.folder)
    weights = {path: expected[path] for path in (f"models/{kind}/tiny/ties/model.safetensors" for kind in KINDS)}
    assert len(set(weights.values())) == 1
    clone = Clone(project, tmp_path / "clone", remote.writer if remote.reader is None else remote.reader)
    clone.dvc("pull", "--quiet", "export_base", "export")
    assert content(clone.folder) == {path: text for path, text in expected.items() if path.startswith("models/onnx/")}
    # What no commit names goes; what a variant shares with its merge stays, and the merge comes without a transfer.
    (clone.folder / "stray").write_bytes(b"an object that nothing names")
    clone.dvc("add", "--quiet", "stray")
    (clone.folder / "stray.dvc").unlink()
    clone.dvc("gc", "--quiet", "--workspace", "--force")
    assert objects(clone.folder / ".dvc/cache", "an object that nothing names") == 0
    clone.dvc("pull", "--quiet", "merge")
    paths = [clone.folder / path for path in weights]
    assert {path.read_bytes() for path in paths} == set(weights.values())
    assert paths[0].samefile(paths[1])
    assert objects(clone.folder / ".dvc/cache", "weights of tiny/ties") == 1
    if remote.shared["url"].startswith("/"):
        assert objects(Path(remote.shared["url"]), "weights of tiny/ties") == 1


def objects(store: Path, start: str) -> int:
    """How many objects of a folder begin with these words."""
    files = [file for file in store.rglob("*") if file.is_file()]
    return sum(file.read_bytes().startswith(start.encode()) for file in files)


def test_after_a_change_only_what_it_needs_is_fetched(shared: tuple[Project, Remote], tmp_path: Path) -> None:
    project, remote = shared
    clone = Clone(project, tmp_path / "clone", remote.writer if remote.reader is None else remote.reader)
    clone.params["metrics"]["price"]["helpfulness"] = 0.5
    clone.write_params(clone.params)
    # Named, since `dvc repro --pull` cannot bring the folder of several stages' outputs that `metrics` reads.
    clone.dvc("pull", "--quiet", "fetch_data", "baseline", "infer", "judge_base", "judge")
    assert set(clone.repro("--allow-missing")) == {"metrics@tiny", "models", "plots@tiny"}
    needed = {("data", "verdicts"), ("data", "responses"), ("data", "benchmarks")}
    assert {Path(path).parts[:2] for path in content(clone.folder)} == needed
    assert "safety" in json.loads((clone.folder / "metrics/tiny.json").read_text(encoding="utf-8"))["base"]


def test_a_reader_cannot_push_and_a_stranger_cannot_pull(shared: tuple[Project, Remote], tmp_path: Path) -> None:
    project, remote = shared
    if remote.reader is None or remote.stranger is None:
        pytest.skip("a folder has the rights of the file system, which do not bind root")
    clone = Clone(project, tmp_path / "clone", remote.reader)
    (clone.folder / "new.txt").write_text("an object that the remote lacks\n", encoding="utf-8")
    clone.dvc("add", "--quiet", "new.txt")
    refused = clone.refused("push", "new.txt.dvc")
    assert any(word in refused for word in ("denied", "Denied", "Forbidden", "ermission")), refused
    modify(clone, remote.stranger)
    shutil.rmtree(clone.folder / ".dvc/cache", ignore_errors=True)
    refused = clone.refused("pull", "judge")
    assert any(word in refused for word in ("denied", "Signature", "Forbidden", "ermission")), refused


def test_a_server_that_is_gone_is_an_error(shared: tuple[Project, Remote], tmp_path: Path) -> None:
    project, remote = shared
    clone = Clone(project, tmp_path / "clone", remote.writer)
    modify(clone, {"url": str(tmp_path / "gone")} if remote.reader is None else gone(remote))
    clone.refused("pull", "judge_base")
    assert content(clone.folder) == {}


def test_doctor_says_what_a_person_may_do_with_the_remote(
    shared: tuple[Project, Remote], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from dvc.repo import Repo

    project, remote = shared

    def found(own: Settings) -> Finding:
        modify(clone, own)
        (finding,) = check_remote()
        return finding

    clone = Clone(project, tmp_path / "clone", {})
    monkeypatch.chdir(clone.folder)
    finding = found(remote.writer)
    assert (finding.found, finding.step) == ("answers, may be read and written", None)
    if remote.reader is not None and remote.stranger is not None:
        finding = found(remote.reader)
        assert finding.found.startswith("answers; may be read, not written")
        assert finding.step is None
        finding = found(remote.stranger)
        assert finding.found == "refuses these credentials"
        assert finding.step and "dvc remote modify --local store" in finding.step
        finding = found(remote.writer | gone(remote))
        assert finding.found == "no answer"
        assert finding.step and "correct its address" in finding.step
    with Repo(str(project.folder)) as repo:
        store = repo.cloud.get_remote_odb()
        kept = list(store.fs.find(store.path))
    assert kept and not [path for path in kept if "doctor" in path]


def gone(remote: Remote) -> Settings:
    """The address of a server that does not answer."""
    if "endpointurl" in remote.shared:
        return {"endpointurl": f"http://127.0.0.1:{free_port()}"}
    return {"port": str(free_port())}


def test_a_damaged_object_is_named_and_not_delivered(origin: Project, tmp_path: Path) -> None:
    store = tmp_path / "store"
    project = Clone(origin, tmp_path / "writer", {})
    project.dvc("cache", "dir", "--local", str(origin.folder / ".dvc/cache"))
    project.dvc("remote", "add", "--quiet", "--default", "store", str(store))
    modify(project, {"verify": "true"})
    project.dvc("push", "--quiet", "judge_base")
    project.commit("name the remote")
    (recorded,) = (file for file in store.rglob("*") if file.is_file())
    recorded.chmod(0o644)
    recorded.write_bytes(recorded.read_bytes()[:-40] + b"x" * 40)
    clone = Clone(project, tmp_path / "clone", {})
    refused = clone.refused("pull", "judge_base")
    assert "data/verdicts/tiny/base.jsonl" in refused or recorded.name in refused, refused
    assert content(clone.folder) == {}


def test_no_tracked_file_holds_a_credential(shared: tuple[Project, Remote]) -> None:
    project, remote = shared
    tracked = project.run("git", "grep", "--cached", "-h", "", "--", ":/")
    for person in (remote.writer, remote.reader or {}, remote.stranger or {}):
        for key, value in person.items():
            assert key in ("user", "region") or value not in tracked, key
    assert ".dvc/config.local" not in project.run("git", "ls-files")


CREDENTIAL = re.compile(
    r"AKIA[0-9A-Z]{16}|hf_[A-Za-z0-9]{30,}|gh[pousr]_[A-Za-z0-9]{30,}|github_pat_\w{30,}|-----BEGIN [A-Z ]*PRIVATE KEY"
    r"|^\s*(?:access_key_id|secret_access_key|session_token|password|passphrase)\s*=\s*\S",
    re.M,
)


def test_no_file_of_the_project_holds_a_credential() -> None:
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    files = [ROOT / name for name in listed.split("\0") if name]
    assert len(files) > 150
    assert [file for file in files if CREDENTIAL.search(file.read_text(encoding="utf-8", errors="replace"))] == []
    # What DVC writes for `dvc remote modify` without `--local`, and keys as their issuers form them.
    for found in (
        "    secret_access_key = abc",
        "AKIA" + 16 * "7",
        "hf_" + 34 * "a",
        "-----BEGIN OPENSSH PRIVATE" + " KEY-----",
    ):
        assert CREDENTIAL.search(found), found
