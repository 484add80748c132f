"""A W&B server of the smallest kind that a run talks to, which can fail in the ways that servers and networks do."""

from __future__ import annotations

import json
import re
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

KEY = "0123456789" * 4


class _Handler(BaseHTTPRequestHandler):
    server: _Server

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        fake = self.server.fake
        if self.path.endswith("/file_stream"):
            operation = "file_stream"
        else:
            match = None
            if self.path.endswith("/graphql"):
                match = re.search(r"\b(?:query|mutation)\s+(\w+)", json.loads(body)["query"])
            operation = match[1] if match else self.path
        fake.asked.append(operation)
        if fake.mode == "hang":
            fake.released.wait(600)
            return
        if fake.mode.isdigit():
            self._answer(int(fake.mode), {"errors": [{"message": "it is on fire"}]})
            return
        if operation.startswith("/"):  # telemetry
            self._answer(200, {})
            return
        if operation == "file_stream":
            for name, content in (json.loads(body).get("files") or {}).items():
                fake.lines.setdefault(name, []).extend(content.get("content", []))
            self._answer(200, {"exitcode": None, "limits": {}})
            return
        if operation == "CreateArtifact":  # the tables of an online run are more than it can do
            self._answer(200, {"data": None, "errors": [{"message": "no artifacts here"}]})
            return
        self._answer(200, {"data": fake.data(operation, json.loads(body or b"{}").get("variables") or {})})

    def do_PUT(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self._answer(200, {})

    def do_GET(self) -> None:
        self._answer(200, {})

    def _answer(self, status: int, content: dict[str, Any]) -> None:
        body = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        pass


class _Server(ThreadingHTTPServer):
    fake: FakeWandb
    daemon_threads = True

    def handle_error(self, *args: Any) -> None:  # clients that go away
        pass


class FakeWandb:
    """Its ``address`` is for ``WANDB_BASE_URL``.

    Attributes:
        mode: ``"ok"``; ``"500"``, ``"401"``: every answer is this error; ``"hang"``: takes requests, never answers.
        asked: the operations that were asked for.
        lines: of each streamed file its lines; ``wandb-history.jsonl`` holds what was logged.
    """

    def __init__(self, mode: str = "ok") -> None:
        self.mode = mode
        self.asked: list[str] = []
        self.lines: dict[str, list[str]] = {}
        self.released = threading.Event()
        self._http = _Server(("127.0.0.1", 0), _Handler)
        self._http.fake = self
        self.address = f"http://127.0.0.1:{self._http.server_port}"
        threading.Thread(target=self._http.serve_forever, daemon=True, kwargs={"poll_interval": 0.05}).start()

    def refuse(self) -> None:
        """Goes away: connections are refused from now on."""
        self._http.shutdown()
        self._http.server_close()
        self.released.set()

    def wait_for(self, operation: str, timeout: float = 60) -> None:
        deadline = time.monotonic() + timeout
        while operation not in self.asked:
            assert time.monotonic() < deadline, self.asked
            time.sleep(0.02)

    def data(self, operation: str, variables: dict[str, Any]) -> dict[str, Any]:
        if operation == "UpsertBucket":
            name = variables.get("name") or "run"
            project = {"id": "p", "name": "project", "entity": {"id": "e", "name": "entity"}}
            bucket = {
                "id": f"id-{name}",
                "name": name,
                "displayName": variables.get("displayName") or name,
                "description": "",
                "config": "{}",
                "sweepName": None,
                "project": project,
                "historyLineCount": 0,
            }
            return {"upsertBucket": {"bucket": bucket, "inserted": True}}
        if operation == "RunResumeStatus":
            return {"model": {"id": "p", "name": "project", "entity": {"id": "e", "name": "entity"}, "bucket": None}}
        if operation == "Viewer":
            return {"viewer": {"id": "u", "entity": "entity", "flags": "{}", "teams": {"edges": []}}}
        if operation == "ServerFeaturesQuery":
            return {"serverInfo": {"features": []}}
        if operation == "ArtifactType":
            return {"project": {"artifact": None}}
        if operation == "CreateRunFiles":
            files = [
                {"name": name, "uploadUrl": f"{self.address}/put/{k}"}
                for k, name in enumerate(variables.get("files") or [])
            ]
            return {"createRunFiles": {"runID": "id", "uploadHeaders": [], "files": files}}
        return {}
