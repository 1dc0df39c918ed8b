"""A hub on this machine: the few calls of it that uploading and loading need, in memory."""

import base64
import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote, urlsplit

import pytest

Answer = tuple[int, dict[str, str], bytes]


class LocalHub:
    """Repositories by id, and what was asked for.

    Attributes:
        files: Repository -> name -> content.
        private: The repositories that are private.
        gated: The repositories whose files nobody is given.
        calls: Method and path of each request.
        token: The one that may write; None: any.
    """

    def __init__(self) -> None:
        self.files: dict[str, dict[str, bytes]] = {}
        self.private: set[str] = set()
        self.gated: set[str] = set()
        self.calls: list[str] = []
        self.token: str | None = None
        self.url = ""

    def answer(self, method: str, path: str, body: bytes, token: str) -> Answer:
        """Returns status, headers and body."""
        self.calls.append(f"{method} {path}")
        parts = path.strip("/").split("/")
        if method == "POST" and self.token is not None and token != f"Bearer {self.token}":
            return 401, {}, b"{}"
        if parts == ["api", "validate-yaml"]:
            return _json({"errors": [], "warnings": []})
        if parts == ["api", "repos", "create"]:
            return self._create(json.loads(body))
        if parts[:2] == ["api", "models"]:
            return self._api("/".join(parts[2:4]), parts[4:], body)
        if parts[0] == "api":  # Calls that the library makes besides.
            return 404, {}, b"{}"
        return self._file("/".join(parts[:2]), parts[3], "/".join(parts[4:]))

    def sha(self, repo_id: str) -> str:
        """Returns the commit of a repository's content."""
        content = sorted(self.files[repo_id].items())
        return hashlib.sha1(repr(content).encode()).hexdigest()

    def _create(self, asked: dict[str, str]) -> Answer:
        repo_id = "/".join(filter(None, (asked.get("organization"), asked["name"])))
        if repo_id in self.files:
            return 409, {}, json.dumps({"url": f"{self.url}/{repo_id}"}).encode()
        self.files[repo_id] = {}
        if asked.get("private") or asked.get("visibility") == "private":
            self.private.add(repo_id)
        return _json({"url": f"{self.url}/{repo_id}"})

    def _api(self, repo_id: str, rest: list[str], body: bytes) -> Answer:
        if repo_id not in self.files:
            return 404, {"X-Error-Code": "RepoNotFound"}, b"{}"
        if rest[:1] == ["preupload"]:
            asked = json.loads(body)["files"]
            modes = {"uploadMode": "regular", "shouldIgnore": False, "oid": None}
            return _json({"files": [{"path": file["path"], **modes} for file in asked]})
        if rest[:1] == ["commit"]:
            for line in map(json.loads, body.splitlines()):
                if line["key"] == "file":
                    value = line["value"]
                    self.files[repo_id][value["path"]] = base64.b64decode(value["content"])
            oid = self.sha(repo_id)
            return _json({"commitUrl": f"{self.url}/{repo_id}/commit/{oid}", "commitOid": oid})
        if rest[:1] == ["revision"] and rest[1] not in ("main", self.sha(repo_id)):
            return 404, {"X-Error-Code": "RevisionNotFound"}, b"{}"
        siblings = [{"rfilename": name} for name in self.files[repo_id]]
        info = {"id": repo_id, "modelId": repo_id, "sha": self.sha(repo_id)}
        return _json({**info, "private": repo_id in self.private, "siblings": siblings})

    def _file(self, repo_id: str, revision: str, name: str) -> Answer:
        if repo_id not in self.files:
            return 404, {"X-Error-Code": "RepoNotFound"}, b"{}"
        if repo_id in self.gated:
            return 403, {"X-Error-Code": "GatedRepo"}, b"{}"
        commit = {"X-Repo-Commit": self.sha(repo_id)}
        if name not in self.files[repo_id]:
            return 404, {**commit, "X-Error-Code": "EntryNotFound"}, b"{}"
        content = self.files[repo_id][name]
        return 200, {**commit, "ETag": f'"{hashlib.sha1(content).hexdigest()}"'}, content


def _json(content: object) -> Answer:
    return 200, {"Content-Type": "application/json"}, json.dumps(content).encode()


@contextmanager
def serve_hub() -> Iterator[LocalHub]:
    """Serves an empty hub on a free port of this machine; `url` is its address."""
    hub = LocalHub()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def answer(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            path = unquote(urlsplit(self.path).path)
            token = self.headers.get("Authorization", "")
            status, headers, content = hub.answer(self.command, path, body, token)
            self.send_response(status)
            for name, value in {**headers, "Content-Length": str(len(content))}.items():
                self.send_header(name, value)
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(content)

        do_GET = do_HEAD = do_POST = answer  # noqa: N815

        def log_message(self, format: str, *arguments: object) -> None:
            """Prints nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        hub.url = f"http://127.0.0.1:{server.server_port}"
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield hub
        finally:
            server.shutdown()


def use_hub(hub: LocalHub, cache: str, patch: pytest.MonkeyPatch) -> None:
    """Sends this process to a hub, with a local cache of its own."""
    from huggingface_hub import constants, hf_api

    # What HF_ENDPOINT, HF_HUB_OFFLINE and HF_HUB_CACHE set when the library is imported.
    patch.setattr(constants, "HF_HUB_OFFLINE", False)
    patch.setattr(constants, "ENDPOINT", hub.url)
    files = f"{hub.url}/{{repo_id}}/resolve/{{revision}}/{{filename}}"
    patch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", files)
    patch.setattr(constants, "HF_HUB_CACHE", cache)
    patch.setattr(hf_api.api, "endpoint", hub.url)
    patch.setenv("HF_TOKEN", "secret")
