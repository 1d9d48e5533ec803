"""A stand-in for the Hugging Face hub on this machine: the few calls that publishing makes, answered over HTTP."""

import base64
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from unittest import mock

import huggingface_hub


class Hub:
    """What the stand-in knows.

    Attributes:
        user: whose token it takes.
        role: of that token.
        refuses: the status that it answers whoami with; 0 answers.
        full: whether a commit is refused.
        repositories: files by path, by repository.
        private: which repositories are.
    """

    def __init__(self) -> None:
        self.user, self.role, self.refuses, self.full = "somebody", "write", 0, False
        self.repositories: dict[str, dict[str, bytes]] = {}
        self.private: dict[str, bool] = {}
        self.address = ""


class _Handler(BaseHTTPRequestHandler):
    hub: Hub

    def log_message(self, *_: Any) -> None:
        """Nothing is written to standard error."""

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        if path == "/api/whoami-v2":
            self._whoami()
            return
        repo = "/".join(path.split("/")[3:5])
        if repo not in self.hub.repositories:
            self._answer({"error": "Repository not found"}, 404, {"X-Error-Code": "RepoNotFound"})
        elif "/tree/" in path:
            files = self.hub.repositories[repo].items()
            self._answer([{"type": "file", "path": name, "size": len(data), "oid": "0"} for name, data in files])
        else:
            names = [{"rfilename": name} for name in self.hub.repositories[repo]]
            self._answer({"id": repo, "sha": "0" * 40, "siblings": names, "private": self.hub.private.get(repo, False)})

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        path = self.path.partition("?")[0]
        if path == "/api/repos/create":
            self._create(json.loads(body))
        elif "/preupload/" in path:
            files = json.loads(body)["files"]
            self._answer(
                {"files": [{"path": one["path"], "uploadMode": "regular", "shouldIgnore": False} for one in files]}
            )
        elif "/commit/" in path:
            self._commit("/".join(path.split("/")[3:5]), body)
        else:
            self._answer({})

    def _whoami(self) -> None:
        if self.hub.refuses:
            self._answer({"error": "Invalid credentials"}, self.hub.refuses)
            return
        access = {"displayName": "token", "role": self.hub.role}
        orgs = [{"name": "an-organisation"}]
        self._answer({"type": "user", "name": self.hub.user, "orgs": orgs, "auth": {"accessToken": access}})

    def _create(self, asked: dict[str, Any]) -> None:
        repo = f"{asked.get('organization') or self.hub.user}/{asked['name']}"
        there = repo in self.hub.repositories
        if not there:
            self.hub.repositories[repo] = {".gitattributes": b""}
            self.hub.private[repo] = asked.get("visibility") == "private" or bool(asked.get("private"))
        self._answer({"url": f"{self.hub.address}/{repo}", "name": repo, "id": repo}, 409 if there else 200)

    def _commit(self, repo: str, body: bytes) -> None:
        if self.hub.full:
            self._answer({"error": "Storage quota exceeded"}, 403)
            return
        for line in body.splitlines():
            one = json.loads(line)
            if one["key"] == "file":
                self.hub.repositories[repo][one["value"]["path"]] = base64.b64decode(one["value"]["content"])
            elif one["key"] == "deletedFile":
                del self.hub.repositories[repo][one["value"]["path"]]
        url = f"{self.hub.address}/{repo}/commit/{'1' * 40}"
        self._answer({"success": True, "commitOid": "1" * 40, "commitUrl": url, "hookOutput": ""})

    def _answer(self, said: Any, status: int = 200, headers: dict[str, str] | None = None) -> None:
        data = json.dumps(said).encode()
        self.send_response(status)
        for name, value in {"Content-Type": "application/json", **(headers or {})}.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)


@contextmanager
def hub_here(token: str | None = "hf_token") -> Iterator[Hub]:
    """A hub on this machine, which huggingface_hub takes for the hub; `token` is the one that it finds."""
    hub = Hub()
    handler = type("Handler", (_Handler,), {"hub": hub})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    hub.address = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    constants = huggingface_hub.constants
    try:
        with (
            mock.patch.object(constants, "ENDPOINT", hub.address),
            mock.patch.object(constants, "HF_HUB_OFFLINE", False),
            mock.patch.object(huggingface_hub, "get_token", return_value=token),
            mock.patch.dict("os.environ", {} if token is None else {"HF_TOKEN": token}),
        ):
            yield hub
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
