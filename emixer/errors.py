"""Errors that emixer raises deliberately.

    EmixerError                 something the user can act on; shown without a traceback
    ├── ConfigError             a setting is unknown, out of range or contradicts another
    ├── SourceError             the raw collection does not match its layout
    ├── ShardError              shards are missing, corrupt, or of another schema or version
    ├── CheckpointError         a checkpoint is missing, damaged or belongs to another model
    ├── RunFolderError          a run folder belongs to another stage, config or version
    ├── HubError                the Hugging Face Hub has no such model, refuses, or cannot be reached
    ├── StorageError            a disk is full or a path cannot be written
    ├── DivergenceError         training produced a non-finite loss
    ├── StoppedError            training was asked to stop, and has saved a checkpoint
    └── UnfinishedError         some tasks failed; the results of the others are kept

All messages have one form: what failed · the value · what was expected · what to do.
They never contain report text, patient IDs or study IDs.
"""


class EmixerError(Exception):
    """Base class of all errors meant for the user. Takes a single message, so that it survives pickling by Ray."""

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message

    def __str__(self) -> str:
        return self.message


class ConfigError(EmixerError):
    """A setting is unknown, out of range or contradicts another."""


class SourceError(EmixerError):
    """The raw collection does not match its layout."""


class ShardError(EmixerError):
    """Shards are missing, corrupt, or of another schema or version."""


class CheckpointError(EmixerError):
    """A checkpoint is missing, damaged or belongs to another model."""


class RunFolderError(EmixerError):
    """A run folder belongs to another stage, config or version."""


class HubError(EmixerError):
    """The Hugging Face Hub has no such model, refuses, or cannot be reached."""


class StorageError(EmixerError):
    """A disk is full, or a path may not be written or read."""


class DivergenceError(EmixerError):
    """Training produced a non-finite loss."""


class StoppedError(EmixerError):
    """Training was asked to stop, and has saved a checkpoint."""


class UnfinishedError(EmixerError):
    """Some tasks failed; the results of the others are kept."""


def find_emixer_error(error: BaseException) -> EmixerError | None:
    """Return the EmixerError in `error`: itself, or the one that Ray wrapped when a task or worker raised it."""
    seen: set[int] = set()
    queue: list[BaseException | None] = [error]
    while queue:
        current = queue.pop(0)
        if current is None or id(current) in seen:
            continue
        seen.add(id(current))
        if isinstance(current, EmixerError):
            # Ray raises a class derived from both, whose text is a traceback; the user needs the plain message
            ours = next(kind for kind in type(current).__mro__ if kind.__module__ == __name__)
            assert issubclass(ours, EmixerError)
            return ours(current.message)
        inner = getattr(current, "worker_failures", None)  # Ray Train: {rank: error}
        outer = [getattr(current, name, None) for name in ("cause", "controller_failure")]
        queue += [*outer, current.__cause__, current.__context__]
        queue += list(inner.values()) if isinstance(inner, dict) else []
    return None
