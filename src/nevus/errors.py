"""Faults that a user can mend."""

from __future__ import annotations


class NevusError(Exception):
    """A fault that a user can mend.

    The message is one sentence that says what is wrong, with which file or row, and what to do. The
    command line prints it without a traceback and exits with status 2.
    """


class ImageError(NevusError):
    """One image that cannot be used; long work reports it and goes on with the rest."""
