"""`nevus models`."""

from __future__ import annotations

from dataclasses import dataclass

from rich.console import Console
from rich.table import Table

from nevus.bundle.builtin import builtin_names
from nevus.bundle.bundle import load_bundle
from nevus.models.cached import on_this_machine
from nevus.models.registry import BACKBONES, feature_width, parameter_count


@dataclass(frozen=True)
class Command:
    """List backbones (parameters, features, image size, pretraining, license) and built-in classifiers.

    Any other network of timm is timm/NAME, of the Hugging Face hub hf-hub:OWNER/NAME.
    """

    download: str | None = None
    """Name of a backbone whose weights to download."""

    def run(self) -> int:
        """Download, or print the tables; exit status."""
        if self.download is not None:
            from nevus.models.weights import download

            path = download(self.download)
            print(f"{self.download} is on this machine{f', at {path}' if path else ''}")
            return 0
        table = Table(title="backbones")
        for name in ("name", "parameters", "features", "image size", "pretraining", "license", "here"):
            table.add_column(name, justify="right" if name in ("parameters", "features", "image size") else "left")
        for spec in BACKBONES.values():
            table.add_row(
                spec.name,
                f"{parameter_count(spec):,}" if parameter_count(spec) else "-",
                str(feature_width(spec) or "-"),
                f"{spec.image_size} px",
                spec.upstream or spec.origin,
                spec.license,
                "yes" if on_this_machine(spec) else "no",
            )
        Console(width=None if Console().is_terminal else 160).print(table)
        for name in builtin_names():
            bundle = load_bundle(name)
            print(f"classifier {name}: {' / '.join(bundle.classes)}, {bundle.spec.backbone}; {bundle.license}")
        return 0
