"""Migrate the built-in backbones: metadata keys and format name of their files, and the digests that follow.

    python tools/migrate_backbones.py FOLDER

The weights are unchanged. Prints the old and the new digest of each file.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from safetensors import safe_open
from safetensors.torch import save_file

from nevus._io import sha256_file, to_json
from nevus.models.checkpoint import FORMAT

KEYS = {"licence": "license"}


def migrate(path: Path) -> tuple[str, str]:
    """Rewrite one file; its digests before and after."""
    before = sha256_file(path)
    with safe_open(path, "pt") as file:
        about = json.loads(file.metadata()["about"])
        weights = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 - no mapping
    about = {KEYS.get(key, key): value for key, value in about.items()}
    save_file(weights, path, {"format": FORMAT, "about": to_json(about, indent=None)})
    return before, sha256_file(path)


if __name__ == "__main__":
    folder = Path(sys.argv[1])
    listed = json.loads((folder / "backbones.json").read_text(encoding="utf-8"))
    for entry in listed.values():
        old, entry["digest"] = migrate(folder / entry["file"])
        print(old, entry["digest"])
    (folder / "backbones.json").write_text(to_json(listed) + "\n", encoding="utf-8")
