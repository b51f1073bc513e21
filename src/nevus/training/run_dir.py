"""The Run: a folder that one training writes, from which it can go on after any interruption."""

from __future__ import annotations

import fcntl
import io
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from tensorboardX import SummaryWriter
from torch import Tensor

from nevus._io import save_tensors, to_json, ensure_writable, write_json, write_text
from nevus.errors import NevusError

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
    _lock: io.TextIOWrapper | None
    _board: SummaryWriter | None = field(default=None, repr=False)
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
        path = folder / CONFIG
        begun = (folder / CHECKPOINT).exists() or (folder / "bundle").exists()
        if path.exists() and begun:
            if not resume:
                raise NevusError(
                    f"{folder} holds a run already; add --resume to go on with it, or choose another "
                    "folder with --out."
                )
            differing = _differences(_read_json(path), plain)
            if differing:
                raise NevusError(
                    f"the run in {folder} was made with other settings ({'; '.join(differing[:3])}); "
                    "repeat them, or choose another folder with --out."
                )
        elif not path.exists() and folder.is_dir() and any(not p.name.startswith(".") for p in folder.iterdir()):
            raise NevusError(f"{folder} holds other files and no run; choose another folder with --out.")
        ensure_writable(folder)
        lock = (folder / ".lock").open("w")
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            lock.close()
            raise NevusError(
                f"another process is training in {folder}; wait for it or choose another folder."
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
            self._board = SummaryWriter(str(self.folder / "tensorboard"), purge_step=int(values["step"]))
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
            raise NevusError(f"{path} is damaged ({error}); delete its last line.") from None

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
                return {key: file.get_tensor(key) for key in file.keys()}, notes  # noqa: SIM118 - no mapping
        except (SafetensorError, KeyError, ValueError, OSError) as error:
            raise NevusError(f"{path} is damaged ({error}); delete {self.folder} and train again.") from None

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
            self._lock.close()

    def __enter__(self) -> RunDir:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _read_json(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise NevusError(f"{path} is damaged ({error}); choose another folder with --out.") from None
    if not isinstance(value, dict):
        raise NevusError(f"{path} is no run's settings; choose another folder with --out.")
    return value


LEGACY_DEFAULTS = {"mean_of": 1}
"""What was done before there was a setting for it, where that is not nothing."""


def _differences(old: Mapping[str, Any], new: Mapping[str, Any], prefix: str = "") -> list[str]:
    """Settings that differ. One that was not there yet when the run was begun was off, and may be now."""
    found = []
    for key in sorted(set(old) | set(new)):
        before, now = old.get(key, LEGACY_DEFAULTS.get(key)), new.get(key)
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
