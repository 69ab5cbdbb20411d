"""Every error that emixer raises on purpose.

    EmixerError                 something the user can act on; shown without a traceback
    ├── ConfigError             a setting is unknown, out of range or contradicts another
    ├── SourceError             the raw collection is not what its layout promises
    ├── ShardError              shards are missing, corrupt, or of another schema or version
    ├── CheckpointError         a checkpoint is missing, damaged or belongs to another model
    ├── RunFolderError          a run folder belongs to another stage, config or version
    ├── HubError                the Hugging Face Hub has no such model, refuses, or cannot be reached
    ├── StorageError            a disk is full or a path cannot be written
    ├── DivergenceError         training produced a loss that is not finite
    ├── StoppedError            training was told to end, and has saved
    └── UnfinishedError         some of many pieces of work failed; the others are kept

Messages follow one form: what failed · the value · what was expected · what to do.
They never hold report text, patient ids or study ids.
"""


class EmixerError(Exception):
    """Base of all errors meant for the user. Takes one message, so that it survives pickling by Ray."""

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message

    def __str__(self) -> str:
        return self.message


class ConfigError(EmixerError):
    """A setting is unknown, out of range or contradicts another."""


class SourceError(EmixerError):
    """The raw collection is not what its layout promises."""


class ShardError(EmixerError):
    """Shards are missing, corrupt, or of another schema or version."""


class CheckpointError(EmixerError):
    """A checkpoint is missing, damaged or belongs to another model."""


class RunFolderError(EmixerError):
    """A run folder belongs to another stage, config or version."""


class HubError(EmixerError):
    """The Hugging Face Hub has no such model, refuses, or cannot be reached."""


class StorageError(EmixerError):
    """A disk is full or a path cannot be written."""


class DivergenceError(EmixerError):
    """Training produced a loss that is not finite."""


class StoppedError(EmixerError):
    """Training was told to end, and has saved."""


class UnfinishedError(EmixerError):
    """Some of many pieces of work failed; the others are kept."""


def find_emixer_error(error: BaseException) -> EmixerError | None:
    """The EmixerError inside `error`: itself, or what Ray wrapped around one raised in a task or worker."""
    seen: set[int] = set()
    queue: list[BaseException | None] = [error]
    while queue:
        current = queue.pop(0)
        if current is None or id(current) in seen:
            continue
        seen.add(id(current))
        if isinstance(current, EmixerError):
            # Ray raises a class made of both, whose text is a traceback; the plain message is what the user needs
            ours = next(kind for kind in type(current).__mro__ if kind.__module__ == __name__)
            assert issubclass(ours, EmixerError)
            return ours(current.message)
        inner = getattr(current, "worker_failures", None)  # Ray Train: {rank: error}
        outer = [getattr(current, name, None) for name in ("cause", "controller_failure")]
        queue += [*outer, current.__cause__, current.__context__]
        queue += list(inner.values()) if isinstance(inner, dict) else []
    return None
