"""User-correctable errors."""

from __future__ import annotations

import unicodedata


def printable(text: str) -> str:
    """Return a text in which control and formatting characters are escaped, as they may be part of file names.

    Escape sequences could recolor a terminal, and a line break could forge the row of a table.
    """
    if text.isprintable():
        return text
    return "".join(
        sign
        if sign.isprintable() or unicodedata.category(sign) == "Zs"
        else sign.encode("unicode_escape", "surrogatepass").decode()
        for sign in text
    )


class NevusError(Exception):
    """A user-correctable error.

    The message is one sentence with the reason, the file or row, and what to do. The command line prints it without a
    traceback and exits with status 2.
    """

    def __init__(self, message: str = "") -> None:
        super().__init__(printable(message))


class ImageError(NevusError):
    """One image that cannot be used; long jobs report it and go on with the rest."""
