"""What goes wrong for reasons that a user can act on."""


class ClusterError(Exception):
    """Message for the user: what is wrong and what to do, in one paragraph."""

    @property
    def message(self) -> str:
        """The paragraph."""
        return str(self.args[0])
