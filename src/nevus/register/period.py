"""The periods of a register."""

from __future__ import annotations

from typing import Literal

PeriodLength = Literal["day", "week", "month"]
