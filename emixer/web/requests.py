"""Reading what a browser sends, and answering it in words that its page can show."""

from starlette.requests import Request
from starlette.responses import JSONResponse

MAX_BODY_BYTES = 64 * 2**10


class RefusedError(Exception):
    """A request that is not answered as it wished. status: HTTP's number; message: for the person at the browser;
    retry_after_s: when it may be tried again."""

    def __init__(self, status: int, message: str, retry_after_s: int | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.retry_after_s = retry_after_s


async def read_body(request: Request, max_bytes: int = MAX_BODY_BYTES) -> bytes:
    """The whole body. Raises RefusedError as soon as it is longer than allowed, whatever its header claims."""
    parts: list[bytes] = []
    size = 0
    async for part in request.stream():
        size += len(part)
        if size > max_bytes:
            raise RefusedError(413, f"This is more than {max_bytes // 2**10} KiB, and was not accepted.")
        parts.append(part)
    return b"".join(parts)


async def answer_refused(request: Request, error: Exception) -> JSONResponse:
    """For `Starlette(exception_handlers=...)`."""
    assert isinstance(error, RefusedError)
    headers = {"WWW-Authenticate": "Bearer"} if error.status == 401 else {}
    if error.retry_after_s is not None:
        headers["Retry-After"] = str(error.retry_after_s)
    return JSONResponse({"message": error.message}, status_code=error.status, headers=headers)
