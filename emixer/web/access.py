"""Access tokens for reading and writing. A server stores only their digests; the token itself is in a person's link.

The link carries the token after a `#`: browsers never send that part, so it reaches no log of a server or proxy. The
page sends it as `Authorization: Bearer ...`, never as a cookie, so no other site can act on a reader's behalf.
"""

import hashlib
import secrets

_TOKEN_BYTES = 18
_SCHEME = "bearer"


def new_token() -> str:
    """New token: 24 characters of A-Z a-z 0-9 - _, 144 random bits."""
    return secrets.token_urlsafe(_TOKEN_BYTES)


def digest_of(token: str) -> str:
    """Digest of a token, for storage. Tokens are random and long, so a plain SHA-256 cannot be reversed."""
    return hashlib.sha256(token.encode()).hexdigest()


def bearer_token(authorization: str | None) -> str | None:
    """Token of an `Authorization` header; None if there is none."""
    scheme, _, token = (authorization or "").partition(" ")
    return token.strip() if scheme.lower() == _SCHEME and token.strip() else None


def link(base_url: str, token: str) -> str:
    """Personal link with the token. base_url: with a trailing slash."""
    return f"{base_url}#{token}"
