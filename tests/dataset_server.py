"""A loopback server with the Hub's `resolve` endpoint for dataset files, for the unmodified client."""

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from urllib.parse import unquote

# What the Hub answers for a repository that is not served: status and X-Error-Code.
REFUSALS = {"gated": (401, "GatedRepo"), "forbidden": (403, "GatedRepo")}


def handler(root: Path, commits: dict[str, str], refused: dict[str, str]) -> type[BaseHTTPRequestHandler]:
    """Serves `root/<owner>/<name>/<file>` at the commit of each repository."""

    class Handler(BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            self.answer(with_body=False)

        def do_GET(self) -> None:
            self.answer(with_body=True)

        def answer(self, with_body: bool) -> None:
            place, _, rest = unquote(self.path).removeprefix("/datasets/").partition("/resolve/")
            commit, _, name = rest.partition("/")
            if place in refused:
                return self.refuse(*REFUSALS[refused[place]])
            if place not in commits:
                return self.refuse(404, "RepoNotFound")
            if commit != commits[place]:
                return self.refuse(404, "RevisionNotFound")
            file = root / place / name
            if not file.is_file():
                return self.refuse(404, "EntryNotFound")
            content = file.read_bytes()
            self.send_response(200)
            self.send_header("ETag", f'"{hashlib.sha256(content).hexdigest()}"')
            self.send_header("X-Repo-Commit", commit)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            if with_body:
                self.wfile.write(content)

        def refuse(self, status: int, code: str) -> None:
            body = json.dumps({"error": code}).encode()
            self.send_response(status)
            self.send_header("X-Error-Code", code)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    return Handler


@contextmanager
def serving(root: Path, commits: dict[str, str], refused: dict[str, str]) -> Iterator[str]:
    """Yield the address of a server that ends with the block."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler(root, commits, refused))
    thread = Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
