"""An OpenAI-compatible server on loopback that answers sums from the prompt: fast and exact.

`MODEL` in the request says how it behaves: `sums` at once, `slow-sums` after a while, `hang`
never. For tests of what stands around a model, where the model itself is not the question.
A test may say itself what is answered where a JSON schema is asked for.
"""

from __future__ import annotations

import json
import re
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from regent.records import Message

SLOW_S = 0.4
Say = Callable[[list[Message], dict[str, Any]], str]
_stop = threading.Event()


class Sums(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self._send({"object": "list", "data": [{"id": "sums", "object": "model"}]})

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if asked["model"] == "hang":
            _stop.wait(60)
            return
        if asked["model"] == "slow-sums":
            time.sleep(SLOW_S)
        schema = (asked.get("response_format") or {}).get("json_schema", {}).get("schema")
        say: Say | None = getattr(self.server, "say", None)
        if schema and say:
            messages = [Message(role=m["role"], content=m["content"]) for m in asked["messages"]]
            text = say(messages, schema)
        elif schema:
            text = '{"direction": "harder", "why": "all was right"}'
        else:
            text = str(_sum(asked["messages"][-1]["content"]))
        self._send(
            {
                "id": "1",
                "object": "chat.completion",
                "created": 0,
                "model": asked["model"],
                "choices": [
                    {
                        "index": 0,
                        "finish_reason": "stop",
                        "message": {"role": "assistant", "content": text},
                    }
                ],
                "usage": {"prompt_tokens": 20, "completion_tokens": 2, "total_tokens": 22},
            }
        )

    def _send(self, value: dict[str, Any]) -> None:
        data = json.dumps(value).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, format: str, *args: Any) -> None:
        """Tests read results, not logs."""


@contextmanager
def scripted_endpoint(say: Say | None = None) -> Iterator[str]:
    """The base URL of a running server; `say` answers one conversation at a time."""
    _stop.clear()
    server = ThreadingHTTPServer(("127.0.0.1", 0), Sums)
    server.daemon_threads = True
    server.say = say and _one_at_a_time(say)  # type: ignore[attr-defined]
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/v1"
    finally:
        _stop.set()
        server.shutdown()
        server.server_close()


def _one_at_a_time(say: Say) -> Say:
    lock = threading.Lock()

    def locked(messages: list[Message], schema: dict[str, Any]) -> str:
        with lock:
            return say(messages, schema)

    return locked


def _sum(prompt: str) -> int:
    """The value of the last sum in the prompt, `4 + 3 - 2 =`."""
    sums = re.findall(r"[-+\d][-+\d ]*(?= =)", prompt)
    terms = re.findall(r"([-+]?)\s*(\d+)", sums[-1]) if sums else []
    return sum(-int(n) if sign == "-" else int(n) for sign, n in terms)
