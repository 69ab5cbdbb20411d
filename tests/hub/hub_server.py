"""A Hugging Face Hub in this process: what huggingface_hub (0.36, 2.4) speaks to create, fill and read a repository.

Written from its own requests: create, validate-yaml, preupload, LFS batch, commit, revision, tree, resolve.
Files of more than 1 KB go through LFS, as weights do there. Repositories live in memory.
"""

import base64
import hashlib
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlparse

TOKEN = "hf_of_the_tests"
_REPOSITORY = r"(?P<repository>[^/]+/[^/]+)"
_LFS_BYTES = 1024


@dataclass
class Repository:
    """Files of each commit, by path."""

    private: bool
    commits: dict[str, dict[str, bytes]] = field(default_factory=dict)

    @property
    def head(self) -> str:
        return list(self.commits)[-1]

    def files(self, revision: str) -> tuple[str, dict[str, bytes]] | None:
        sha = self.head if revision == "main" else revision
        return (sha, self.commits[sha]) if sha in self.commits else None


@dataclass
class Hub:
    """Address, what it holds, and what it was asked."""

    repositories: dict[str, Repository] = field(default_factory=dict)
    objects: dict[str, bytes] = field(default_factory=dict)
    requests: list[str] = field(default_factory=list)
    address: str = ""


class _RefusalError(Exception):
    def __init__(self, status: int, code: str = "") -> None:
        super().__init__(status)
        self.status, self.code = status, code


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    hub: Hub

    def log_message(self, *args: Any) -> None:
        pass

    def do_GET(self) -> None:
        self._handle({rf"/api/models/{_REPOSITORY}": self._about,
                      rf"/api/models/{_REPOSITORY}/revision/(?P<revision>.+)": self._revision,
                      rf"/api/models/{_REPOSITORY}/tree/(?P<revision>[^/]+)": self._tree,
                      rf"/{_REPOSITORY}/resolve/(?P<revision>[^/]+)/(?P<file>.+)": self._resolve})  # fmt: skip

    do_HEAD = do_GET

    def do_PUT(self) -> None:
        self._handle({r"/objects/(?P<oid>.+)": self._store})

    def do_POST(self) -> None:
        self._handle({r"/api/repos/create": self._create, r"/api/validate-yaml": self._validate,
                      rf"/api/models/{_REPOSITORY}/preupload/main": self._preupload,
                      rf"/{_REPOSITORY}.git/info/lfs/objects/batch": self._batch,
                      rf"/api/models/{_REPOSITORY}/commit/main": self._commit})  # fmt: skip

    def _handle(self, routes: dict[str, Any]) -> None:
        path = urlparse(self.path).path
        self.hub.requests.append(f"{self.command} {path}")
        self.body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        route, match = next(
            ((call, found) for pattern, call in routes.items() if (found := re.fullmatch(pattern, path))), (None, None)
        )
        try:
            if route is None or match is None:
                raise _RefusalError(404)
            route(**match.groupdict())
        except _RefusalError as refused:
            self._answer(b"{}", refused.status, {"X-Error-Code": refused.code} if refused.code else {})

    def _answer(self, content: bytes, status: int = 200, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(content)), **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def _json(self, value: Any) -> None:
        self._answer(json.dumps(value).encode(), headers={"Content-Type": "application/json"})

    @property
    def _is_known(self) -> bool:
        return self.headers.get("Authorization") == f"Bearer {TOKEN}"

    def _require_token(self) -> None:
        if not self._is_known:
            raise _RefusalError(403)

    def _repository(self, name: str) -> Repository:
        repository = self.hub.repositories.get(name)
        if repository is None or (repository.private and not self._is_known):
            raise _RefusalError(401 if not self._is_known else 404, "RepoNotFound")
        return repository

    def _create(self) -> None:
        self._require_token()
        asked = json.loads(self.body)
        name = f"{asked['organization']}/{asked['name']}"
        if name in self.hub.repositories:
            self._answer(json.dumps({"url": f"{self.hub.address}/{name}"}).encode(), 409)
            return
        self.hub.repositories[name] = Repository(asked.get("private", False) or asked.get("visibility") == "private")
        self._json({"url": f"{self.hub.address}/{name}"})

    def _validate(self) -> None:
        self._json({"errors": [], "warnings": []})

    def _preupload(self, repository: str) -> None:
        self._require_token()
        self._repository(repository)
        files = json.loads(self.body)["files"]
        self._json({"files": [
            {"path": f["path"], "uploadMode": "lfs" if f["size"] > _LFS_BYTES else "regular", "shouldIgnore": False}
            for f in files
        ]})  # fmt: skip

    def _batch(self, repository: str) -> None:
        self._require_token()
        objects = json.loads(self.body)["objects"]
        actions = [
            {
                "oid": o["oid"],
                "size": o["size"],
                "actions": {"upload": {"href": f"{self.hub.address}/objects/{o['oid']}"}},
            }
            for o in objects
        ]
        self._json({"transfer": "basic", "objects": actions})

    def _store(self, oid: str) -> None:
        assert hashlib.sha256(self.body).hexdigest() == oid
        self.hub.objects[oid] = self.body
        self._answer(b"")

    def _commit(self, repository: str) -> None:
        self._require_token()
        there = self._repository(repository)
        files = dict(there.commits[there.head]) if there.commits else {}
        for line in self.body.splitlines():
            item = json.loads(line)
            if item["key"] == "file":
                files[item["value"]["path"]] = base64.b64decode(item["value"]["content"])
            elif item["key"] == "lfsFile":
                files[item["value"]["path"]] = self.hub.objects[item["value"]["oid"]]
        sha = hashlib.sha1(repr(sorted(files.items())).encode()).hexdigest()
        there.commits[sha] = files
        self._json({"commitUrl": f"{self.hub.address}/{repository}/commit/{sha}", "commitOid": sha, "success": True})

    def _about(self, repository: str) -> None:
        self._json({"id": repository, "private": self._repository(repository).private, "downloads": 0, "likes": 0,
                    "tags": [], "siblings": []})  # fmt: skip

    def _revision(self, repository: str, revision: str) -> None:
        found = self._repository(repository).files(revision)
        if found is None:
            raise _RefusalError(404, "RevisionNotFound")
        sha, files = found
        private = self._repository(repository).private
        self._json({"id": repository, "sha": sha, "private": private, "downloads": 0, "likes": 0, "tags": [],
                    "siblings": [{"rfilename": name} for name in files]})  # fmt: skip

    def _tree(self, repository: str, revision: str) -> None:
        found = self._repository(repository).files(revision)
        if found is None:
            raise _RefusalError(404, "RevisionNotFound")
        self._json([
            {"type": "file", "path": name, "size": len(content), "oid": hashlib.sha1(content).hexdigest()}
            for name, content in found[1].items()
        ])  # fmt: skip

    def _resolve(self, repository: str, revision: str, file: str) -> None:
        found = self._repository(repository).files(revision)
        if found is None or file not in found[1]:
            raise _RefusalError(404, "EntryNotFound")
        content = found[1][file]
        etag = hashlib.sha256(content).hexdigest()
        self._answer(content, headers={"ETag": f'"{etag}"', "X-Repo-Commit": found[0]})


@contextmanager
def serve_hub() -> Iterator[Hub]:
    """A hub on a free port of the loopback for the duration of a block."""
    hub = Hub()
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"hub": hub}))
    hub.address = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
