"""Optional dependencies: how to install those that are missing."""


def to_install(extra: str) -> str:
    """The command as messages give it. pip needs a clone of the repository: emixer is on no package index."""
    return f"`pip install '.[{extra}]'` in a clone of emixer"
