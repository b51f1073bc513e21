"""Files that are written whole or not at all, and their digests."""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
import os
import secrets
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from nevus.errors import NevusError

if TYPE_CHECKING:
    import torch


@contextlib.contextmanager
def atomic_path(path: Path, *, durable: bool = True) -> Iterator[Path]:
    """Give a temporary path beside `path`; on success fsync it and rename it to `path`.

    Whoever reads `path`, at any moment and after any crash, sees the old content or the new one. On an
    error the temporary file is removed and `path` is untouched. What can be made again need not be `durable`: it
    is then not fsynced.

    Raises:
        NevusError: the folder cannot be written, or the disk is full.

    """
    path = Path(path)
    aside = path.with_name(f".{path.name[:100]}.{secrets.token_hex(4)}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        aside.touch()
        mode = aside.stat().st_mode
        yield aside
        aside.chmod(mode)  # some libraries make files that only their owner can read
        if durable:
            with aside.open("rb") as file:
                os.fsync(file.fileno())
        os.replace(aside, path)
        if durable:
            sync_folder(path.parent)
    except OSError as error:
        raise NevusError(
            f"Cannot write {path}: {error.strerror or error}. Free space or choose another folder."
        ) from error
    finally:
        with contextlib.suppress(OSError):
            aside.unlink(missing_ok=True)


def sync_folder(folder: Path) -> None:
    """Make a rename in `folder` survive a power cut (POSIX; elsewhere folders cannot be opened)."""
    with contextlib.suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def write_text(path: Path, text: str) -> None:
    """Write `text` as UTF-8, whole or not at all."""
    with atomic_path(path) as aside:
        aside.write_text(text, encoding="utf-8", newline="\n")


def to_json(value: Any, *, indent: int | None = 2) -> str:
    """JSON text of plain values, dataclasses' dicts, NumPy scalars and paths; NaN and infinities become null.

    JSON has no NaN, and a figure that is undefined must stay undefined for whoever reads the file.
    """
    return json.dumps(_plain(value), indent=indent, ensure_ascii=False, allow_nan=False)


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(v) for v in value]
    if isinstance(value, np.ndarray):
        return _plain(value.tolist())
    if isinstance(value, np.generic):
        return _plain(value.item())
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, Path):
        return str(value)
    return value


def write_json(path: Path, value: Any) -> None:
    """Write `value` as JSON, whole or not at all."""
    write_text(path, to_json(value) + "\n")


def append_line(path: Path, line: str) -> None:
    """Append one line and fsync; one `write` call, so that two processes' lines never mix."""
    try:
        with path.open("ab") as file:
            file.write(line.encode() + b"\n")
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise NevusError(
            f"Cannot write {path}: {error.strerror or error}. Free space or change its permissions."
        ) from error


def cache_folder(name: str) -> Path:
    """Return a folder for what can be computed or downloaded again: below `$NEVUS_CACHE`, else `~/.cache/nevus`."""
    base = os.environ.get("NEVUS_CACHE")
    if base:
        return Path(base) / name
    try:
        return Path.home() / ".cache" / "nevus" / name
    except RuntimeError:  # neither $HOME nor a name for the user id
        return Path(tempfile.gettempdir()) / f"nevus-{os.getuid()}" / name


def sha256_bytes(content: bytes) -> str:
    """SHA-256 as `sha256:<hex>`."""
    return "sha256:" + hashlib.sha256(content).hexdigest()


def sha256_file(path: Path) -> str:
    """SHA-256 of a file's bytes as `sha256:<hex>`, read in pieces."""
    with path.open("rb") as file:
        return "sha256:" + hashlib.file_digest(file, "sha256").hexdigest()


def save_tensors(path: Path, tensors: Mapping[str, torch.Tensor], metadata: dict[str, str]) -> None:
    """Write tensors as safetensors, whole or not at all.

    Raises:
        NevusError: the file cannot be written, or the disk is full.

    """
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    kept = {key: value.detach().cpu().contiguous() for key, value in tensors.items()}
    with atomic_path(path) as aside:
        try:
            save_file(kept, aside, metadata=metadata)
        except SafetensorError as error:  # its way to say that the system refused a write
            raise OSError(str(error)) from error


def ensure_writable(folder: Path, flag: str = "--out") -> Path:
    """Make `folder` if it is missing and try a file in it.

    Args:
        folder: to write into.
        flag: that names it, for the message.

    Raises:
        NevusError: the folder is a file, or cannot be written.

    """
    probe = folder / f".{secrets.token_hex(4)}.probe"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise NevusError(
            f"Cannot write into {folder}: {error.strerror or error}. Choose another folder with {flag}, or change its "
            "permissions."
        ) from error
    return folder
