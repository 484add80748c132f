"""A web server on this machine that can be told to misbehave, request by request."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest


@dataclass
class Answer:
    """How one request is answered; the defaults are a good server's."""

    status: int | None = None  # instead of the content
    headers: dict[str, str] = field(default_factory=dict)  # more, or others; an empty value: none
    drop_after: int | None = None  # bytes of the body
    hang_after: int | None = None  # bytes of the body
    more: bytes = b""  # behind the body
    ignore_range: bool = False
    shift: int = 0  # bytes by which a range begins elsewhere
    chunked: bool = False


class Server:
    """Serves `content` under every path. `answers` are used one after the other, then the good one."""

    def __init__(self) -> None:
        self.content = b""
        self.etag: str | None = '"first"'
        self.answers: list[Answer] = []
        self.requests: list[dict[str, Any]] = []
        self.files: dict[str, bytes] = {}
        self.closing = threading.Event()
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_HEAD(self) -> None:
                outer.answer(self)

            def do_GET(self) -> None:
                outer.answer(self)

            def log_message(self, *_: object) -> None:
                pass

        self._http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._http.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._http.server_address[1]}"
        self._thread = threading.Thread(target=self._http.serve_forever, kwargs={"poll_interval": 0.01})
        self._thread.start()

    def close(self) -> None:
        self.closing.set()
        self._http.shutdown()
        self._http.server_close()
        self._thread.join()

    def answer(self, request: BaseHTTPRequestHandler) -> None:
        answer = self.answers.pop(0) if self.answers else Answer()
        content = self.files.get(request.path, self.content)
        self.requests.append({"method": request.command, "path": request.path, **dict(request.headers)})
        request.close_connection = True
        headers, status, body = {"Connection": "close"}, 200, content
        wanted = re.fullmatch(r"bytes=(\d+)-", request.headers.get("Range", ""))
        same = request.headers.get("If-Range", self.etag) == self.etag
        if wanted and not answer.ignore_range and same:
            start = int(wanted[1]) + answer.shift
            if start >= len(content):
                status, body, headers["Content-Range"] = 416, b"", f"bytes */{len(content)}"
            else:
                status, body = 206, content[start:]
                headers["Content-Range"] = f"bytes {start}-{len(content) - 1}/{len(content)}"
        if answer.status is not None:
            status, body = answer.status, b"" if answer.status < 400 else b"sorry"
        if self.etag is not None:
            headers["ETag"] = self.etag
        headers["Transfer-Encoding" if answer.chunked else "Content-Length"] = (
            "chunked" if answer.chunked else str(len(body))
        )
        headers |= answer.headers
        request.send_response(status)
        for name, value in headers.items():
            if value:
                request.send_header(name, value)
        request.end_headers()
        if request.command == "HEAD":
            return
        end = next((n for n in (answer.drop_after, answer.hang_after) if n is not None), len(body))
        body = body[:end] + answer.more
        if answer.chunked:
            body = b"".join(b"%x\r\n%s\r\n" % (len(piece), piece) for piece in (body[:7], body[7:]) if piece)
            body += b"0\r\n\r\n" if answer.drop_after is None else b""
        request.wfile.write(body)
        request.wfile.flush()
        if answer.hang_after is not None:
            self.closing.wait(20)


@pytest.fixture
def server() -> Iterator[Server]:
    """A server of its own for each test."""
    made = Server()
    yield made
    made.close()


@pytest.fixture
def answer() -> type[Answer]:
    """``answer(drop_after=10)`` says how to answer the next request, see ``server.answers``."""
    return Answer
