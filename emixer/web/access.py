"""Tokens: who may read and write. Only their digests are kept by a server; a token itself stands in a person's link.

The link carries the token behind a `#`: browsers send that part to nobody, so it reaches no log of a server or proxy.
The page sends it as `Authorization: Bearer ...`, never as a cookie, so no other site can act in a reader's name.
"""

import hashlib
import secrets

_TOKEN_BYTES = 18
_SCHEME = "bearer"


def new_token() -> str:
    """24 characters of A-Z a-z 0-9 - _, 144 random bits."""
    return secrets.token_urlsafe(_TOKEN_BYTES)


def digest_of(token: str) -> str:
    """What may be stored of a token. It is random and long, so a plain SHA-256 cannot be reversed."""
    return hashlib.sha256(token.encode()).hexdigest()


def bearer_token(authorization: str | None) -> str | None:
    """The token of an `Authorization` header, or None where there is none."""
    scheme, _, token = (authorization or "").partition(" ")
    return token.strip() if scheme.lower() == _SCHEME and token.strip() else None


def link(base_url: str, token: str) -> str:
    """What a person opens. base_url: with a slash at its end."""
    return f"{base_url}#{token}"
