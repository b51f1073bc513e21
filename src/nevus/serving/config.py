"""Configuration of the service."""

from __future__ import annotations

import os
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path

from nevus.errors import NevusError

TOKEN_VARIABLE = "NEVUS_TOKEN"
MIN_TOKEN = 16
"""Fewest characters of a token."""


@dataclass(frozen=True)
class ServeLimits:
    """Limits of what a client may ask for.

    Attributes:
        max_file_bytes: Largest image file.
        max_files: Largest number of files in a request.
        max_request_bytes: Largest request.
        max_pixels: Largest number of pixels of an image.
        max_waiting_bytes: Bytes of all requests that are received or wait; more are answered with status 503.
        max_waiting: Requests with images that are received or wait at once; more are answered with status 503.
        request_timeout: Seconds for a request; a longer one is answered with status 503.
        decode_timeout: Seconds for the decoding of one image.
        decode_memory: Bytes of memory for the decoding of one image.
        decode_workers: Processes that decode images.
        max_batch: Images that the model predicts at once.

    """

    max_file_bytes: int = 32 * 1024 * 1024
    max_files: int = 32
    max_request_bytes: int = 128 * 1024 * 1024
    max_waiting_bytes: int = 256 * 1024 * 1024
    max_pixels: int = 50_000_000
    max_waiting: int = 64
    request_timeout: float = 60.0
    decode_timeout: float = 20.0
    decode_memory: int = 1536 * 1024 * 1024
    decode_workers: int = 2
    max_batch: int = 4

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if value <= 0:
                raise NevusError(
                    f"Cannot use --{name.replace('_', '-')} {value}: it must be above 0. Give a larger value."
                )


@dataclass(frozen=True)
class Access:
    """Who may use the service.

    Attributes:
        token: that every request for data must carry; empty for none.
        hosts: names in the `Host` header that are served; empty for any.

    """

    token: str = ""
    hosts: tuple[str, ...] = ()


def access_of(host: str, token_file: Path | None, *, insecure: bool) -> Access:
    """Return who may use a service that is bound to `host`.

    Without a token only programs of this machine may: another host is refused, and so are pages of other sites in a
    browser of this machine, which name their own host.

    Args:
        host: name or address that is bound.
        token_file: with the token; by default the token is that of the environment variable NEVUS_TOKEN.
        insecure: bind another address without a token.

    Raises:
        NevusError: there is no token although one is needed, or it is too short.

    """
    token = os.environ.get(TOKEN_VARIABLE, "")
    if token_file is not None:
        try:
            token = token_file.read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            raise NevusError(f"Cannot read --token-file '{token_file}': {error}. Name a text file.") from None
    if (token or token_file is not None) and (len(token) < MIN_TOKEN or not token.isascii() or not token.isprintable()):
        raise NevusError(
            f"Cannot use the token: it must have at least {MIN_TOKEN} ASCII characters. Make one with: openssl rand "
            "-hex 32"
        )
    if is_loopback(host):
        return Access(token, () if token else ("localhost", "127.0.0.1", "[::1]", host))
    if not token and not insecure:
        raise NevusError(
            f"Cannot serve on {host} without a token: other machines could use it. Set {TOKEN_VARIABLE}, give "
            "--token-file, or add --insecure."
        )
    return Access(token)


def is_loopback(host: str) -> bool:
    """Return whether only this machine reaches an address."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
