"""The release, as the installed package's metadata say it."""

__version__ = "0.1.0"
