"""What is said of an image that cannot be used."""


class ImageError(ValueError):
    """An image that cannot be used; `reason` is a short phrase for the quarantine table without values of the image."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason
