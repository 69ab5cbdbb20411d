"""Endpoints of the readers' page: the reader's progress, a pair, its image, and saving a rating.

No response depends on whether a pair is real: places have random names, an item shown twice has two, all images have
the same number of bytes, and the server does not read the key.
"""

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.routing import Route

from emixer.errors import StorageError
from emixer.reader_study.folder import StudyFolder
from emixer.reader_study.page import page_html, page_policy
from emixer.reader_study.rating import Rating
from emixer.reader_study.store import Reader, Store
from emixer.web.access import bearer_token, digest_of
from emixer.web.headers import SecurityHeaders
from emixer.web.requests import RefusedError, answer_refused, read_body

logger = logging.getLogger(__name__)


class _Sent(BaseModel):
    """Body of a rating."""

    model_config = ConfigDict(extra="forbid", strict=True)

    rating: Rating
    known_version: int = Field(ge=0)
    request: str = Field(min_length=8, max_length=64)
    """Id of the request; the same if the rating is sent again."""


def study_app(study: StudyFolder, store: Store) -> Starlette:
    """Create the application. Raises RunFolderError when the list of items is missing."""
    pages = _Pages(study, store)
    app = Starlette(
        routes=[
            Route("/", pages.index),
            Route("/api/study", pages.study),
            Route("/api/pairs/{place}", pages.pair),
            Route("/api/pairs/{place}/image", pages.image),
            Route("/api/pairs/{place}/rating", pages.rate, methods=["POST"]),
        ],
        middleware=[Middleware(SecurityHeaders, policy=page_policy())],
        exception_handlers={RefusedError: answer_refused},
    )
    app.router.redirect_slashes = False  # a redirect would name the Host header, and neither a proxy's https nor prefix
    return app


class _Pages:
    def __init__(self, study: StudyFolder, store: Store) -> None:
        self._study, self._store = study, store
        self._reports: Mapping[str, str] = study.reports()
        self._html = page_html(study.facts.title)

    async def index(self, request: Request) -> Response:
        """Page, the same for everyone: the token is in the part of the URL that browsers do not send."""
        return HTMLResponse(self._html)

    async def study(self, request: Request) -> Response:
        """The reader's places in order, with their versions; version 0 is not scored."""
        reader = self._reader(request)
        places = await run_in_threadpool(self._store.progress, reader)
        listed = [{"place": place, "version": version} for place, version in places]
        return JSONResponse({"study": self._study.facts.study_id, "reader": reader.name, "places": listed})

    async def pair(self, request: Request) -> Response:
        """Report of a pair, and the reader's rating of it."""
        place, item = self._item(request)
        version, rating = await run_in_threadpool(self._store.rating_at, place)
        return JSONResponse({"report": self._reports[item], "version": version, "rating": _plain(rating)})

    async def image(self, request: Request) -> Response:
        """Image of a pair as PNG."""
        _, item = self._item(request)
        return Response(await run_in_threadpool(_read, self._study.image(item)), media_type="image/png")

    async def rate(self, request: Request) -> Response:
        """Save a rating; respond once it is on disk."""
        place, _ = self._item(request)
        try:
            sent = _Sent.model_validate_json(await read_body(request))
        except ValidationError as error:
            raise RefusedError(422, "These scores are not complete or not from 1 to 10, and were not saved.") from error
        try:
            saved = await run_in_threadpool(
                self._store.save, place, sent.rating, sent.known_version, sent.request
            )  # fmt: skip
        except StorageError as error:
            logger.error("%s", error)
            raise RefusedError(
                507,
                "The server cannot save just now: its disk may be full. Your scores are kept on this page and will be "
                "sent again. Please tell the person who runs the study.",
            ) from error
        return JSONResponse({"version": saved.version, "replaced": _plain(saved.replaced)})

    def _reader(self, request: Request) -> Reader:
        token = bearer_token(request.headers.get("authorization"))
        found = self._store.reader_of(digest_of(token)) if token else None
        if found is None:
            raise RefusedError(
                401, "This link is not one of this study. Please open the whole link that you were sent, up to its end."
            )
        return found

    def _item(self, request: Request) -> tuple[str, str]:
        """Place and item; 404 for a place of another reader, as for one that does not exist."""
        reader = self._reader(request)
        place: str = request.path_params["place"]
        item = self._store.item_at(reader, place)
        if item is None:
            raise RefusedError(404, "There is no such pair in your list.")
        return place, item


def _read(image: Path) -> bytes:
    try:
        return image.read_bytes()
    except OSError as error:
        logger.error("An image of the study cannot be read: %s", error.strerror)
        raise RefusedError(500, "The image cannot be read. Please tell the person who runs the study.") from error


def _plain(rating: Rating | None) -> dict[str, Any] | None:
    return None if rating is None else rating.model_dump()
