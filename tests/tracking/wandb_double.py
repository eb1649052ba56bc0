"""A local double of the W&B server: as much of its API as the client needs to log runs, kept in memory.

It answers on loopback only. It can fall silent or be shut down in the middle of a run, and what arrived can be read
back line by line, so that a row that came twice or never shows.
"""

import json
import os
import re
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar

import pytest

API_KEY = "0123456789abcdef0123456789abcdef01234567"
"""Has the form of a key; opens nothing."""

ENTITY = "tester"


@dataclass
class RunOnServer:
    """What the server holds of one run."""

    name: str
    project: str
    entity: str
    lines: dict[str, dict[int, str]] = field(default_factory=dict)
    """Streamed files by name: their lines by offset."""
    config: dict[str, Any] = field(default_factory=dict)
    uploads: dict[str, bytes] = field(default_factory=dict)
    about: dict[str, Any] = field(default_factory=dict)
    """Variables of the last upsert: group, job type, display name, tags."""
    exit_code: int | None = None
    complete: bool = False

    def rows(self) -> list[dict[str, Any]]:
        """History rows in the order in which the server stores them."""
        stored = self.lines.get("wandb-history.jsonl", {})
        return [json.loads(stored[offset]) for offset in sorted(stored)]

    @property
    def summary(self) -> dict[str, Any]:
        """The run's summary."""
        stored = self.lines.get("wandb-summary.json", {})
        return json.loads(stored[max(stored)]) if stored else {}

    def lose(self, count: int) -> None:
        """Be as if the last rows had never come."""
        stored = self.lines["wandb-history.jsonl"]
        for offset in sorted(stored)[-count:]:
            del stored[offset]
        self.lines["wandb-summary.json"] = {0: json.dumps(self.rows()[-1])}

    def bucket(self) -> dict[str, Any]:
        """What a query for the run answers."""
        history = self.lines.get("wandb-history.jsonl", {})
        events = self.lines.get("wandb-events.jsonl", {})
        return {
            "id": f"id-{self.name}",
            "name": self.name,
            "displayName": self.about.get("displayName") or self.name,
            "description": None,
            "notes": None,
            "tags": self.about.get("tags") or [],
            "sweepName": None,
            "config": json.dumps(self.config),
            "summaryMetrics": json.dumps(self.summary),
            "historyLineCount": len(history),
            "eventsLineCount": len(events),
            "logLineCount": 0,
            "historyTail": json.dumps([history[max(history)]] if history else []),
            "eventsTail": json.dumps([events[max(events)]] if events else []),
            "wandbConfig": json.dumps({"t": {}}),
            "project": {"id": "p", "name": self.project, "entity": {"id": "e", "name": self.entity}},
        }


class WandbDouble:
    """A running server; `url` is its base address."""

    def __init__(self) -> None:
        self.runs: dict[str, RunOnServer] = {}
        self.requests: list[str] = []
        self.resuming: set[str] = set()
        """Runs that were asked for: what follows is added to them. Without that, one that is over is overwritten."""
        self.silent = threading.Event()
        """While set, requests are accepted and never answered."""
        self.broken = threading.Event()
        """While set, requests are answered with an error that says to try again."""
        self.lock = threading.Lock()
        handler = type("Handler", (_Handler,), {"double": self})
        self._server = _Server(("127.0.0.1", 0), handler)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)
        self._thread.start()

    @property
    def url(self) -> str:
        """Base address."""
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    @property
    def only_run(self) -> RunOnServer:
        """The run, where there is one."""
        (run,) = self.runs.values()
        return run

    def shut_down(self) -> None:
        """Die: further connections are refused."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(5)

    def log_in(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Make this the user's server, and the user known to it."""
        monkeypatch.setenv("WANDB_BASE_URL", self.url)
        monkeypatch.setenv("WANDB_API_KEY", API_KEY)


def isolate(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Give the test a home and a working directory below `directory`, and take away every W&B variable."""
    for name in [*os.environ]:
        if name.startswith("WANDB_") or name == "NETRC":
            monkeypatch.delenv(name)
    for name in ("home", "work"):
        (directory / name).mkdir()
    monkeypatch.setenv("HOME", str(directory / "home"))
    for name in ("XDG_CACHE_HOME", "XDG_CONFIG_HOME", "XDG_DATA_HOME"):
        monkeypatch.delenv(name, raising=False)
    # Whatever still tries to leave this machine is refused at once.
    monkeypatch.setenv("WANDB_BASE_URL", "http://127.0.0.1:9")
    monkeypatch.chdir(directory / "work")


@contextmanager
def serving() -> Iterator[WandbDouble]:
    """A double for the duration of a block."""
    double = WandbDouble()
    try:
        yield double
    finally:
        double.silent.clear()
        double.shut_down()


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that ends closes its connections in the middle; that is no error of ours."""
        if not isinstance(sys.exception(), OSError):
            super().handle_error(request, client_address)


class _Handler(BaseHTTPRequestHandler):
    double: ClassVar[WandbDouble]
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: Any) -> None:
        """Tests want no access log."""

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding") == "chunked":
            body = b""
            while size := int(self.rfile.readline(), 16):
                body += self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
            return body
        return self.rfile.read(int(self.headers.get("Content-Length") or 0))

    def _answer(self, value: Any) -> None:
        while self.double.silent.is_set():
            time.sleep(0.05)
        body = json.dumps(value).encode()
        try:
            self.send_response(503 if self.double.broken.is_set() else 200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)
        except OSError:
            self.close_connection = True

    def do_GET(self) -> None:
        """Nothing is downloaded."""
        self.double.requests.append(f"GET {self.path}")
        self._answer({})

    def do_PUT(self) -> None:
        """A file's upload."""
        self.double.requests.append(f"PUT {self.path}")
        body = self._body()
        _, _, run, name = self.path.split("/", 3)
        with self.double.lock:
            self.double.runs[run].uploads[name] = body
        self._answer({})

    def do_POST(self) -> None:
        """GraphQL and the file stream."""
        raw = self._body()
        if self.path.startswith("/sdk/otel"):
            # The client's reports about itself, in another format.
            self._answer({})
            return
        body = json.loads(raw or b"{}")
        if self.double.silent.is_set() or self.double.broken.is_set():
            self._answer({})
            return
        streamed = re.fullmatch(r"/files/([^/]+)/([^/]+)/([^/]+)/file_stream", self.path)
        if streamed:
            self.double.requests.append("POST file_stream")
            with self.double.lock:
                self._stream(self.double.runs[streamed[3]], body)
            self._answer({"exitcode": None, "limits": {}})
            return
        query = body.get("query", "")
        operation = (re.search(r"(?:query|mutation)\s+(\w+)", query) or [None, "?"])[1]
        self.double.requests.append(f"GraphQL {operation}")
        with self.double.lock:
            data = self._graphql(operation, body.get("variables") or {})
        self._answer({"data": data})

    def _stream(self, run: RunOnServer, body: dict[str, Any]) -> None:
        for name, chunk in (body.get("files") or {}).items():
            stored = run.lines.setdefault(name, {})
            offset = chunk["offset"]
            for i, line in enumerate(chunk["content"]):
                stored[offset + i] = line
        run.complete = body.get("complete") or False
        if run.complete:
            run.exit_code = body.get("exitcode")

    def _graphql(self, operation: str, v: dict[str, Any]) -> dict[str, Any]:
        runs = self.double.runs
        if operation == "Viewer":
            return {"viewer": {"id": "u", "entity": ENTITY, "username": ENTITY, "email": "t@t", "flags": "{}",
                               "teams": {"edges": []}}}  # fmt: skip
        if operation == "RunResumeStatus":
            run = runs.get(v["name"])
            self.double.resuming.add(v["name"])
            project = {"id": "p", "name": v.get("project"), "entity": {"id": "e", "name": ENTITY}}
            return {"model": {**project, "bucket": run.bucket() if run else None}}
        if operation == "UpsertBucket":
            name = v.get("name") or v["id"].removeprefix("id-")
            inserted = name not in runs
            if not inserted and runs[name].complete:
                if name not in self.double.resuming:
                    del runs[name]
                else:
                    runs[name].complete = False
            self.double.resuming.discard(name)
            run = runs.setdefault(name, RunOnServer(name, v.get("project") or "p", v.get("entity") or ENTITY))
            run.about |= {key: value for key, value in v.items() if value is not None}
            if v.get("config"):
                run.config |= json.loads(v["config"])
            return {"upsertBucket": {"bucket": run.bucket(), "inserted": inserted}}
        if operation == "CreateRunFiles":
            files = [{"name": f, "uploadUrl": f"{self.double.url}/upload/{v['run']}/{f}"} for f in v["files"]]
            return {"createRunFiles": {"runID": "id", "uploadHeaders": [], "files": files}}
        if operation == "ServerFeaturesQuery":
            return {"serverInfo": {"features": []}}
        if operation == "RunStoppedStatus":
            return {"project": {"run": {"stopped": False}}}
        return {}
