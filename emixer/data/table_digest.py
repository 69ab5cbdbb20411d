"""The digest of a table as Arrow serializes it, without the copy of the whole table that `serialize` would make."""

from typing import Protocol

import pyarrow as pa


class Digest(Protocol):
    """What hashlib's objects are."""

    def update(self, data: bytes, /) -> None:
        """Takes in more bytes."""


class _Tap:
    """A file that passes on to a digest what is written while it is open."""

    closed = False

    def __init__(self, digest: Digest) -> None:
        self._digest = digest
        self.is_open = False

    def write(self, data: bytes) -> int:
        if self.is_open:
            self._digest.update(data)
        return len(data)

    def flush(self) -> None:
        """Nothing is held back."""


def update_with(digest: Digest, batch: pa.RecordBatch) -> None:
    """The same as `digest.update(batch.serialize())`, buffer after buffer."""
    tap = _Tap(digest)
    with pa.ipc.new_stream(pa.PythonFile(tap, mode="w"), batch.schema) as stream:
        stream.write_batch(batch.slice(0, 0))  # the schema goes ahead of the first batch
        tap.is_open = True
        stream.write_batch(batch)
        tap.is_open = False
