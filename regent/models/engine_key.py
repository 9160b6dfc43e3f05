"""Demands the engine's key on every route of its server.

vLLM's own `--api-key` guards the paths under /v1 only; its development routes (which can load any
weights) and /metrics stay open. This ASGI layer, given to the server as its outermost middleware,
answers 401 to every HTTP request, whatever its path, that does not carry the key, and closes every
WebSocket. Does not cover encryption: the server listens on the loopback interface only.
"""

from __future__ import annotations

import hmac
import os
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

KEY_VARIABLE = "REGENT_ENGINE_KEY"

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]


class DemandKey:
    """ASGI middleware: passes on only what carries `Authorization: Bearer $REGENT_ENGINE_KEY`.

    Raises KeyError at the server's start where the variable is not set: nothing is served then.
    """

    def __init__(self, app: App) -> None:
        self._app = app
        self._expected = f"Bearer {os.environ[KEY_VARIABLE]}".encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan" or self._admits(scope):
            await self._app(scope, receive, send)
        elif scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008})
        else:
            headers = [(b"content-type", b"application/json")]
            await send({"type": "http.response.start", "status": 401, "headers": headers})
            await send({"type": "http.response.body", "body": b'{"error": "the key is missing"}'})

    def _admits(self, scope: Scope) -> bool:
        given = dict(scope["headers"]).get(b"authorization", b"")
        return scope["type"] == "http" and hmac.compare_digest(given, self._expected)
