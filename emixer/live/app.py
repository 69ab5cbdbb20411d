"""Endpoints of the live page: facts of the model, pairs, and downloads of the shown pairs."""

import hmac
from base64 import b64encode
from collections.abc import Callable
from functools import partial
from typing import Any, TypeVar

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.routing import Route

from emixer.generation.encoding import encode_png
from emixer.generation.sampler import Sampler
from emixer.live.downloads import FORMATS, Download, download
from emixer.live.draw_request import DrawRequest, read_draw_request
from emixer.live.drawing import DrawingThread, Drawn, draw
from emixer.live.limits import RateLimit
from emixer.live.page import page_html, page_policy
from emixer.web.access import bearer_token, digest_of
from emixer.web.headers import SecurityHeaders
from emixer.web.requests import RefusedError, answer_refused, read_body

_T = TypeVar("_T")


def live_app(drawing: DrawingThread, limit: RateLimit, token_digest: str, name: str) -> Starlette:
    """Create the application. name: of the run, as shown on the page."""
    pages = _Pages(drawing, limit, token_digest, name)
    app = Starlette(
        routes=[
            Route("/", pages.index),
            Route("/api/model", pages.model),
            Route("/api/draw", pages.draw, methods=["POST"]),
            Route("/api/download/{file_format}", pages.download, methods=["POST"]),
        ],
        middleware=[Middleware(SecurityHeaders, policy=page_policy())],
        exception_handlers={RefusedError: answer_refused},
    )
    app.router.redirect_slashes = False  # a redirect would name the Host header, and neither a proxy's https nor prefix
    return app


class _Pages:
    def __init__(self, drawing: DrawingThread, limit: RateLimit, token_digest: str, name: str) -> None:
        self._drawing, self._limit, self._token_digest, self._name = drawing, limit, token_digest, name

    async def index(self, request: Request) -> Response:
        """Page, the same for everyone: the token is in the part of the URL that browsers do not send."""
        return HTMLResponse(page_html())

    async def model(self, request: Request) -> Response:
        """Facts of the model, its labels and conditions."""
        self._require_token(request)
        sampler = self._drawing.sampler
        trained = sampler.trained
        return JSONResponse({
            "name": self._name, "kind": trained.config.kind, "side_px": trained.config.side_px,
            "images": trained.images, "labels": sampler.label_names, "conditions": sampler.conditions,
        })  # fmt: skip

    async def draw(self, request: Request) -> Response:
        """Pairs, with their images as data URIs."""
        wanted = await self._draw_request(request)
        return JSONResponse(await self._run(partial(_answer, self._drawing.sampler, wanted)))

    async def download(self, request: Request) -> Response:
        """The same pairs, sampled again, as a file."""
        file_format = request.path_params["file_format"]
        if file_format not in FORMATS:
            raise RefusedError(404, f"There are downloads as {' and '.join(FORMATS)} only.")
        wanted = await self._draw_request(request)
        made = await self._run(partial(_file, self._drawing.sampler, wanted, file_format))
        return Response(made.content, media_type=made.media_type)

    async def _draw_request(self, request: Request) -> DrawRequest:
        self._require_token(request)
        return read_draw_request(await read_body(request))

    async def _run(self, work: Callable[[], _T]) -> _T:
        taken = self._limit.take()
        try:
            return await self._drawing.run(work)
        except RefusedError:
            self._limit.give_back(taken)
            raise

    def _require_token(self, request: Request) -> None:
        token = bearer_token(request.headers.get("authorization"))
        if token is None or not hmac.compare_digest(digest_of(token), self._token_digest):
            raise RefusedError(
                401, "This link is not complete or is of an earlier server. Please open the whole link that "
                "`emixer serve` printed, up to its end.",
            )  # fmt: skip


def _answer(sampler: Sampler, wanted: DrawRequest) -> dict[str, Any]:
    drawn = draw(sampler, wanted)
    return {"kind": wanted.kind, "pairs": _shown(drawn)}


def _shown(drawn: Drawn) -> list[dict[str, Any]]:
    pairs = drawn.pairs
    columns = zip(encode_png(pairs.images), pairs.reports, drawn.captions, pairs.rows.tolist(), strict=True)
    return [
        {
            "image": f"data:image/png;base64,{b64encode(encoded).decode()}",
            "report": report,
            "caption": caption,
            "row": row,
        }
        for encoded, report, caption, row in columns
    ]


def _file(sampler: Sampler, wanted: DrawRequest, file_format: str) -> Download:
    return download(sampler, wanted, draw(sampler, wanted), file_format)
