"""What is said of a film that cannot be used."""


class FilmError(ValueError):
    """A film that cannot be used; `reason` is a short phrase for the quarantine table without values of the film."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason
