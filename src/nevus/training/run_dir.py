"""The Run: a folder that one training writes, from which it can go on after any interruption."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock, Timeout
from safetensors import SafetensorError, safe_open
from torch import Tensor

from nevus._io import ensure_writable, save_tensors, to_json, write_json, write_text
from nevus._progress import ignored_warnings
from nevus.errors import NevusError, printable
from nevus.models.checkpoint import check_finite

CONFIG = "config.json"
CHECKPOINT = "checkpoint.safetensors"
BEST = "best.safetensors"
METRICS = "metrics.jsonl"


@dataclass
class RunDir:
    """A training's folder.

    It holds `config.json` (everything that decides the result), `manifest.parquet`, `metrics.jsonl` (a line a
    step, and a line each time the validation split is looked at), `tensorboard/`, `checkpoint.safetensors`
    (weights, momentum, step), `best.safetensors`, figures, and in the end `bundle/`.

    Attributes:
        folder: of the run.
        config: what was written to `config.json`.

    """

    folder: Path
    config: dict[str, Any]
    _lock: FileLock | None
    _board: Any = field(default=None, repr=False)
    _pending: list[str] = field(default_factory=list, repr=False)

    @classmethod
    def open(cls, folder: Path, config: Mapping[str, Any], *, resume: bool = False, writes: bool = True) -> RunDir:
        """Begin a run, or go on with one.

        Args:
            folder: of the run.
            config: everything that decides the result.
            resume: go on with the run that is there.
            writes: False for a process that trains along with the one that writes: it reads the checkpoint
                and leaves no trace. Open it after that one.

        Raises:
            NevusError: the folder cannot be written, holds another run or other files, or is in use; or the
                run to resume was made with other settings.

        """
        plain = json.loads(to_json(dict(config)))
        if not writes:
            return cls(folder, plain, None)
        path, begun = folder / CONFIG, _begun(folder)
        check_startable(folder, resume=resume)
        if path.exists() and begun:
            differing = _differences(_read_json(path), plain)
            if differing:
                raise NevusError(
                    f"Cannot resume in {folder}: the run was made with other settings ({'; '.join(differing[:3])}). "
                    "Repeat them, or choose another folder with --out."
                )
        ensure_writable(folder)
        lock = FileLock(folder / ".lock")
        try:
            lock.acquire(blocking=False)
        except Timeout:
            raise NevusError(
                f"Cannot train in {folder}: another process is training there. Wait for it or choose another folder."
            ) from None
        if not begun:  # also after a first try that came to nothing, such as over data at fault
            write_json(path, plain)
        return cls(folder, plain, lock)

    @property
    def bundle(self) -> Path:
        """Folder of the bundle that the run ends with."""
        return self.folder / "bundle"

    def log(self, **values: float) -> None:
        """Note a line of metrics; `step` counts from 1. Written out with the next checkpoint or `close`."""
        if self._lock is None:
            return
        self._pending.append(to_json(values, indent=None))
        if self._board is None:
            self._board = _summary_writer(self.folder / "tensorboard", int(values["step"]))
        for name, value in values.items():
            if name != "step":
                self._board.add_scalar(name, value, int(values["step"]))

    def flush(self) -> None:
        """Write the noted lines."""
        if self._pending:
            with (self.folder / METRICS).open("a", encoding="utf-8") as file:
                file.write("\n".join(self._pending) + "\n")
            self._pending.clear()
        if self._board is not None:
            self._board.flush()

    def metrics(self) -> list[dict[str, float]]:
        """All lines of metrics so far, in order."""
        path = self.folder / METRICS
        text = path.read_text(encoding="utf-8") if path.exists() else ""
        try:
            return [json.loads(line) for line in text.splitlines()]
        except ValueError as error:
            raise NevusError(f"Cannot read {path}: it is damaged ({error}). Delete its last line.") from None

    def save(self, name: str, tensors: Mapping[str, Tensor], notes: Mapping[str, Any]) -> None:
        """Write tensors with JSON notes, whole or not at all; the metrics so far go first."""
        if self._lock is None:
            return
        self.flush()
        save_tensors(self.folder / name, tensors, {"notes": to_json(dict(notes), indent=None)})

    def load(self, name: str) -> tuple[dict[str, Tensor], dict[str, Any]] | None:
        """Read what `save` wrote; None where there is none.

        Raises:
            NevusError: the file is damaged.

        """
        path = self.folder / name
        if not path.exists():
            return None
        try:
            with safe_open(path, "pt") as file:
                notes: dict[str, Any] = json.loads((file.metadata() or {})["notes"])
                tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 - no mapping
        except (SafetensorError, KeyError, ValueError, OSError) as error:
            raise NevusError(f"Cannot read '{path}': it is damaged ({error}). Delete {self.folder}.") from None
        check_finite(tensors, path)
        return tensors, notes

    def check_images(self, digests: Mapping[str, str]) -> None:
        """Refuse to resume where images were replaced since the run began; else note their digests.

        They are in `images.sha256`, in the format of sha256sum.

        Args:
            digests: hexadecimal SHA-256 of each image's file, by its path.

        Raises:
            NevusError: an image has another digest than before.

        """
        path = self.folder / "images.sha256"
        if path.exists():
            lines = path.read_text(encoding="utf-8").splitlines()
            before = {name: digest for digest, _, name in (line.partition("  ") for line in lines)}
            changed = [name for name, digest in digests.items() if before.get(printable(name), digest) != digest]
            if changed and _begun(self.folder):
                raise NevusError(
                    f"Cannot resume in {self.folder}: {len(changed)} images were replaced since it began, the first is "
                    f"'{changed[0]}'. Restore them, or choose another folder with --out."
                )
        if self._lock is not None:
            write_text(path, "".join(f"{digest}  {printable(name)}\n" for name, digest in digests.items()))

    def rewind(self, step: int) -> None:
        """Forget metrics after `step`, of a stretch that is about to be repeated."""
        if self._lock is None:
            return
        kept = [line for line in self.metrics() if line["step"] <= step]
        write_text(self.folder / METRICS, "".join(to_json(line, indent=None) + "\n" for line in kept))

    def close(self) -> None:
        """Write out what is pending and let the folder go."""
        self.flush()
        if self._board is not None:
            self._board.close()
        if self._lock is not None:
            self._lock.release()

    def __enter__(self) -> RunDir:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def check_startable(folder: Path, *, resume: bool) -> None:
    """Refuse a folder in which no run can begin, before time is spent.

    Raises:
        NevusError: it holds a run that is not to be resumed, or other files.

    """
    if _begun(folder) and (folder / CONFIG).exists():
        if not resume:
            raise NevusError(
                f"Cannot train in {folder}: it holds a run already. Add --resume to go on with it, or choose another "
                "folder with --out."
            )
    elif not (folder / CONFIG).exists() and folder.is_dir() and any(p.name[0] != "." for p in folder.iterdir()):
        raise NevusError(
            f"Cannot train in {folder}: it holds other files and no run. Choose another folder with --out."
        )


def _begun(folder: Path) -> bool:
    return (folder / CHECKPOINT).exists() or (folder / "bundle").exists()


class _NoBoard:
    """Stands for TensorBoard's writer where TensorBoard is not installed."""

    def add_scalar(self, *_: Any) -> None: ...

    def flush(self) -> None: ...

    def close(self) -> None: ...


def _summary_writer(folder: Path, step: int) -> Any:
    with ignored_warnings():  # TensorBoard's own, about its dependencies
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError:
            return _NoBoard()
        return SummaryWriter(str(folder), purge_step=step)


def _read_json(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise NevusError(f"Cannot read {path}: it is damaged ({error}). Choose another folder with --out.") from None
    if not isinstance(value, dict):
        raise NevusError(f"Cannot read {path}: it holds no settings of a run. Choose another folder with --out.")
    return value


def _differences(old: Mapping[str, Any], new: Mapping[str, Any], prefix: str = "") -> list[str]:
    """Settings that differ. One that was not there yet when the run was begun was off, and may be now."""
    found = []
    for key in sorted(set(old) | set(new)):
        before, now = old.get(key), new.get(key)
        if isinstance(before, dict) and isinstance(now, dict):
            found += _differences(before, now, f"{prefix}{key}.")
        elif before != now and (key in old or now):
            found.append(f"{prefix}{key} was {before}, is {now}")
    return found


def cpu_tensors(state: Mapping[str, Any], prefix: str) -> dict[str, Tensor]:
    """A state dict's tensors under `prefix.`."""
    return {f"{prefix}.{key}": value for key, value in state.items() if isinstance(value, torch.Tensor)}


def strip_prefix(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """The tensors under `prefix.`, without it."""
    return {key[len(prefix) + 1 :]: value for key, value in tensors.items() if key.startswith(prefix + ".")}
