"""`nevus models`."""

from __future__ import annotations

from dataclasses import dataclass

from rich.console import Console
from rich.table import Table

from nevus.models.registry import TRUNKS, network, parameter_count


@dataclass(frozen=True)
class Command:
    """List the networks: name, parameters of the backbone, features, side and weights."""

    def run(self) -> int:
        """Print the table; exit status."""
        table = Table()
        for name in ("name", "parameters", "features", "side", "weights"):
            table.add_column(name, justify="left" if name in ("name", "weights") else "right")
        for spec in TRUNKS.values():
            size = parameter_count(network(spec.name, classes=0))
            table.add_row(spec.name, f"{size:,}", str(spec.features), f"{spec.side} px", spec.weights)
        Console().print(table)
        return 0
