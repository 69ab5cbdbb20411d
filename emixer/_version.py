"""The package version, in a separate file so that reading it imports nothing heavy."""

__version__ = "0.1.0"
