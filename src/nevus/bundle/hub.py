"""Bundles on the Hugging Face hub, through huggingface_hub where it is installed."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from nevus.errors import NevusError

if TYPE_CHECKING:
    from nevus.bundle.bundle import Bundle

SCHEME = "hf://"


def download(address: str) -> Path:
    """Download a bundle, or take it from the hub's own cache.

    Args:
        address: `hf://OWNER/NAME`.

    Returns:
        The folder of the bundle.

    Raises:
        NevusError: the address is malformed, huggingface_hub is not installed, or the download fails.

    """
    name = _repository(address.removeprefix(SCHEME))
    hub = _hub()
    try:
        return Path(hub.snapshot_download(name))
    except Exception as error:  # its errors have no common class
        raise NevusError(f"Cannot download {address}: {_reason(error)}. Check the name and the connection.") from None


def upload(bundle: Bundle, repository: str, *, private: bool) -> str:
    """Upload the files of a bundle; see `nevus.api.push_to_hub`."""
    name, hub = _repository(repository), _hub()
    assert bundle.folder is not None
    try:
        hub.create_repo(name, private=private, exist_ok=True)
        return str(hub.upload_folder(repo_id=name, folder_path=str(bundle.folder), ignore_patterns=["test_log.jsonl"]))
    except Exception as error:  # its errors have no common class
        raise NevusError(f"Cannot upload to {repository}: {_reason(error)}. Check the name and your login.") from None


def _repository(name: str) -> str:
    parts = name.split("/")
    if len(parts) != 2 or not all(part and part.strip(".") for part in parts):
        raise NevusError(f"Cannot find '{name}' on the hub: it is no OWNER/NAME. Write it as in hf://owner/name.")
    return name


def _hub() -> Any:
    try:
        import huggingface_hub
    except ImportError:
        raise NevusError(
            'Cannot reach the hub: huggingface_hub is missing. Install it with pip install "nevus[train]".'
        ) from None
    return huggingface_hub


def _reason(error: Exception) -> str:
    return next(iter(str(error).splitlines()), type(error).__name__).rstrip(".")
