"""Headers of every response: nothing is cached, framed, sniffed or loaded from elsewhere, and no server is named."""

import base64
import hashlib
from collections.abc import Sequence

from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

_ALWAYS = {
    "Cache-Control": "no-store",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "X-Robots-Tag": "noindex, nofollow",
}


def content_policy(scripts: Sequence[str], styles: Sequence[str]) -> str:
    """Content-Security-Policy that allows only these inline scripts and styles, and requests to their own server."""
    return "; ".join([
        "default-src 'none'",
        f"script-src {' '.join(map(_source, scripts)) or chr(39) + 'none' + chr(39)}",
        f"style-src {' '.join(map(_source, styles)) or chr(39) + 'none' + chr(39)}",
        "connect-src 'self'", "img-src 'self' data:", "base-uri 'none'", "form-action 'none'", "frame-ancestors 'none'",
    ])  # fmt: skip


class SecurityHeaders:
    """Middleware that sets the headers above, and the policy, on every response of `app`."""

    def __init__(self, app: ASGIApp, policy: str) -> None:
        self._app = app
        self._headers = _ALWAYS | {"Content-Security-Policy": policy}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in self._headers.items():
                    headers[name] = value
            await send(message)

        await self._app(scope, receive, send_with_headers)


def _source(inline: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(inline.encode()).digest()).decode()}'"
