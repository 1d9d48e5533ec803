"""The release."""

__version__ = "0.2.0"
"""The release, as the installed package's metadata say it."""
