"""A loopback server that speaks the Hub's API, for the unmodified clients: info, tree, paths-info, resolve, and faults.

Files that the Hub keeps in LFS are redirected to a store of their own with `X-Linked-Etag` (their sha256), as there.
"""

import hashlib
import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Lock, Thread
from typing import Any, Literal
from urllib.parse import parse_qs, unquote, urlsplit

Kind = Literal["models", "datasets"]
LFS = (".safetensors", ".bin", ".gz", ".xz", ".parquet", ".model", ".pt")
ROUTE = re.compile(
    r"/api/(?P<kind>models|datasets)/(?P<name>[^/]+/[^/]+)"
    r"(/(?P<call>revision|tree|paths-info)/(?P<revision>[^/]+)(/(?P<under>.+))?)?$"
)
RESOLVE = re.compile(r"/(?P<kind>datasets/)?(?P<name>[^/]+/[^/]+)/resolve/(?P<revision>[^/]+)/(?P<file>.+)$")


@dataclass(frozen=True)
class Repository:
    """What is served under one name, at one commit."""

    folder: Path
    commit: str
    gated: bool = False
    """Everybody may list it; its files want a token, and one that is in `Hub.approved`."""

    def files(self) -> list[str]:
        """Paths inside the repository, sorted."""
        return sorted(file.relative_to(self.folder).as_posix() for file in self.folder.rglob("*") if file.is_file())


@dataclass
class Fault:
    """What happens instead of an answer, to requests whose path matches `path`, the first `times` times."""

    path: str
    kind: Literal["status", "truncated", "changed", "huge"]
    """`truncated` and `changed` spoil a stored file's body, `changed` one in Git, too; `huge` is a petabyte of size."""
    status: int = 500
    headers: dict[str, str] = field(default_factory=dict)
    times: int = 1_000_000


@dataclass
class Hub:
    """A running server: what it serves, what goes wrong, and what it was asked."""

    address: str
    repositories: dict[tuple[Kind, str], Repository] = field(default_factory=dict)
    approved: set[str] = field(default_factory=set)
    """Tokens of accounts that may read gated repositories."""
    accounts: dict[str, dict[str, Any]] = field(default_factory=dict)
    """Token -> what `whoami` says of it."""
    faults: list[Fault] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)
    """`METHOD /path`, and the `Range` where one was asked for."""
    lock: Lock = field(default_factory=Lock)
    stored: dict[str, Path] = field(default_factory=dict)
    """sha256 of an LFS file -> where it lies."""

    def add(self, kind: Kind, name: str, folder: Path, commit: str, gated: bool = False) -> None:
        """Serve a folder under a name."""
        self.repositories[kind, name] = Repository(folder, commit, gated)

    def fault(self, path: str, *kinds: str) -> Fault | None:
        """The next fault that is due for a path."""
        with self.lock:
            for fault in self.faults:
                if fault.kind in kinds and fault.times > 0 and re.search(fault.path, path):
                    fault.times -= 1
                    return fault
        return None

    def environment(self, home: Path, **more: str) -> dict[str, str]:
        """Variables that send a client here, with a cache of its own."""
        # A proxy of the machine must not come between; the variable has two spellings.
        direct = {"NO_PROXY": "127.0.0.1", "no_proxy": "127.0.0.1"}
        return {"HF_ENDPOINT": self.address, "HF_HOME": str(home), "HF_HUB_DISABLE_TELEMETRY": "1", **direct, **more}


def is_lfs(name: str) -> bool:
    """Whether the Hub would keep the file in LFS."""
    return name.endswith(LFS)


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def git_blob(content: bytes) -> str:
    """The name that Git gives a file's content: the ETag of files outside of LFS."""
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


def handler(hub: Hub) -> type[BaseHTTPRequestHandler]:
    """Answers for `hub`."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_HEAD(self) -> None:
            self.answer()

        def do_GET(self) -> None:
            self.answer()

        def do_POST(self) -> None:
            self.answer()

        def answer(self) -> None:
            self.sent = self.rfile.read(int(self.headers.get("Content-Length") or 0)).decode()
            address = urlsplit(self.path)
            path, self.query = unquote(address.path), parse_qs(address.query)
            span = self.headers.get("Range")
            with hub.lock:
                hub.requests.append(f"{self.command} {path}" + (f" {span}" if span else ""))
            fault = hub.fault(path, "status")
            if fault:
                self.reply(fault.status, b"", {"Content-Type": "text/plain", **fault.headers})
            elif path == "/api/whoami-v2":
                self.send_account()
            elif path.startswith("/store/"):
                self.send_stored(path.removeprefix("/store/"))
            elif found := ROUTE.match(path):
                self.send_metadata(found)
            elif found := RESOLVE.match(path):
                self.resolve(found)
            else:
                self.refuse(404, "EntryNotFound", f"no such address: {path}")

        def repository(self, kind: str, name: str, revision: str | None) -> Repository | None:
            """The repository at the revision, or None after a refusal was sent."""
            found = hub.repositories.get(("datasets" if kind.startswith("datasets") else "models", name))
            if found is None:
                # The Hub tells strangers nothing about what may be private.
                self.refuse(404 if self.token() else 401, "RepoNotFound", "Repository not found")
            elif revision not in (None, "main", found.commit):
                self.refuse(404, "RevisionNotFound", f"Invalid rev id: {revision}")
            else:
                return found
            return None

        def token(self) -> str | None:
            return (self.headers.get("Authorization") or "").removeprefix("Bearer ") or None

        def send_account(self) -> None:
            account = hub.accounts.get(self.token() or "")
            if account is None:
                self.refuse(401, "", "Invalid user token.")
            else:
                self.send_json(account)

        def send_metadata(self, route: re.Match[str]) -> None:
            found = self.repository(route["kind"], route["name"], route["revision"])
            if found is None:
                return
            if route["call"] in (None, "revision"):
                siblings = [self.sibling(found, name) for name in found.files()]
                gated = "manual" if found.gated else False
                self.send_json(
                    {"id": route["name"], "sha": found.commit, "private": False, "gated": gated, "tags": []}
                    | {"downloads": 0, "likes": 0, "siblings": siblings}
                )
            elif route["call"] == "tree":
                recursive = self.query.get("recursive", ["false"])[0].lower() == "true"
                self.send_json(self.tree(found, route["under"] or "", recursive))
            else:
                wanted = parse_qs(self.sent).get("paths", [])
                everything = {entry["path"]: entry for entry in self.tree(found, "", True)}
                self.send_json([everything[path] for path in wanted if path in everything])

        def described(self, found: Repository, name: str) -> dict[str, Any]:
            content = (found.folder / name).read_bytes()
            size = 10**15 if hub.fault(name, "huge") else len(content)
            entry: dict[str, Any] = {"size": size, "oid": git_blob(content)}
            if is_lfs(name):
                entry["lfs"] = {"oid": sha256(content), "size": size, "pointerSize": 134}
            return entry

        def sibling(self, found: Repository, name: str) -> dict[str, Any]:
            if "blobs" not in self.query:
                return {"rfilename": name}
            entry = self.described(found, name)
            sibling = {"rfilename": name, "size": entry["size"], "blobId": entry["oid"]}
            if "lfs" in entry:
                sibling["lfs"] = {**entry["lfs"], "sha256": entry["lfs"]["oid"]}
            return sibling

        def tree(self, found: Repository, under: str, recursive: bool) -> list[dict[str, Any]]:
            entries: dict[str, dict[str, Any]] = {}
            for name in found.files():
                if under and not name.startswith(under + "/"):
                    continue
                inner = name.removeprefix(under + "/" if under else "")
                parents = inner.split("/")[:-1]
                for depth in range(len(parents) if recursive else min(1, len(parents))):
                    folder = "/".join([*([under] if under else []), *parents[: depth + 1]])
                    entries[folder] = {"type": "directory", "path": folder, "oid": "0" * 40, "size": 0}
                if recursive or not parents:
                    entries[name] = {"type": "file", "path": name, **self.described(found, name)}
            return list(entries.values())

        def resolve(self, route: re.Match[str]) -> None:
            found = self.repository(route["kind"] or "models", route["name"], route["revision"])
            if found is None:
                return
            if found.gated and self.token() not in hub.approved:
                return self.refuse(403 if self.token() else 401, "GatedRepo", "Access to this repository is restricted")
            file = found.folder / route["file"]
            headers = {"X-Repo-Commit": found.commit}
            if not file.is_file():
                return self.refuse(404, "EntryNotFound", "Entry not found", headers)
            content = file.read_bytes()
            if not is_lfs(route["file"]):
                digest = git_blob(content)
                if self.command == "GET" and hub.fault(route["file"], "changed"):
                    content = content[:-1] + b" "
                return self.send_content(content, headers | {"ETag": f'"{digest}"'})
            digest = sha256(content)
            hub.stored[digest] = file
            size = 10**15 if hub.fault(self.path, "huge") else len(content)
            linked = {"X-Linked-Size": str(size), "X-Linked-Etag": f'"{digest}"'}
            self.reply(302, b"", headers | linked | {"Location": f"{hub.address}/store/{digest}"})

        def send_stored(self, digest: str) -> None:
            file = hub.stored[digest]
            content = file.read_bytes()
            if hub.fault(file.name, "changed"):
                content = content[:-1] + bytes([content[-1] ^ 1])
            half = len(content) // 2 if hub.fault(file.name, "truncated") else None
            self.send_content(content, {"ETag": f'"{digest}"'}, half)

        def send_content(self, content: bytes, headers: dict[str, str], cut: int | None = None) -> None:
            """The content, or the part that `Range` asks for; `cut` ends the connection after so many bytes of it."""
            span = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range") or "")
            status, headers = 200, headers | {"Accept-Ranges": "bytes"}
            if span:
                first, last = int(span[1]), min(int(span[2] or len(content)), len(content) - 1)
                if first > last:
                    return self.reply(416, b"", headers | {"Content-Range": f"bytes */{len(content)}"})
                headers |= {"Content-Range": f"bytes {first}-{last}/{len(content)}"}
                status, content = 206, content[first : last + 1]
            self.reply(status, content, headers, cut)

        def send_json(self, value: Any) -> None:
            self.reply(200, json.dumps(value).encode(), {"Content-Type": "application/json"})

        def refuse(self, status: int, code: str, message: str, headers: dict[str, str] | None = None) -> None:
            told = {"X-Error-Code": code, "X-Error-Message": message, "Content-Type": "application/json"}
            self.reply(status, json.dumps({"error": message}).encode(), (headers or {}) | told)

        def reply(self, status: int, body: bytes, headers: dict[str, str], cut: int | None = None) -> None:
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body[:cut])
            if cut is not None:
                self.close_connection = True

        def log_message(self, *_: object) -> None:
            pass

    return Handler


@contextmanager
def serving() -> Iterator[Hub]:
    """Yield an empty Hub that ends with the block."""
    hub = Hub("")
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler(hub))
    server.daemon_threads = True
    hub.address = f"http://127.0.0.1:{server.server_port}"
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
