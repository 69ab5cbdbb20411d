"""Reading requests of a browser, and answering errors with messages that its page can show."""

from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse

MAX_BODY_BYTES = 64 * 2**10


class RefusedError(Exception):
    """A refused request. status: HTTP status code; message: for the person at the browser; retry_after_s: when to try
    again."""

    def __init__(self, status: int, message: str, retry_after_s: int | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.retry_after_s = retry_after_s


async def read_body(request: Request, max_bytes: int = MAX_BODY_BYTES) -> bytes:
    """Read the whole body.

    Raises RefusedError as soon as it exceeds the limit, whatever its header claims, and when the connection is lost.
    """
    parts: list[bytes] = []
    size = 0
    try:
        async for part in request.stream():
            size += len(part)
            if size > max_bytes:
                raise RefusedError(413, f"This is more than {max_bytes // 2**10} KiB, and was not accepted.")
            parts.append(part)
    except ClientDisconnect:  # nobody is there to read the answer, and no operator needs a traceback
        raise RefusedError(400, "The connection was lost before everything had arrived.") from None
    return b"".join(parts)


async def answer_refused(request: Request, error: Exception) -> JSONResponse:
    """Exception handler for `Starlette(exception_handlers=...)`."""
    assert isinstance(error, RefusedError)
    headers = {"WWW-Authenticate": "Bearer"} if error.status == 401 else {}
    if error.retry_after_s is not None:
        headers["Retry-After"] = str(error.retry_after_s)
    return JSONResponse({"message": error.message}, status_code=error.status, headers=headers)
