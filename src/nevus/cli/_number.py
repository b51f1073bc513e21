"""A number as the value of a flag."""

from __future__ import annotations

from typing import Annotated

from tyro.constructors import PrimitiveConstructorSpec


def _number(text: list[str]) -> float:
    try:
        return float(text[0])
    except ValueError:
        raise ValueError(f"'{text[0]}' is no number") from None


OptionalFloat = Annotated[
    float | None,
    PrimitiveConstructorSpec(
        nargs=1,
        metavar="NUMBER",
        instance_from_str=_number,
        is_instance=lambda value: value is None or isinstance(value, int | float),
        str_from_instance=lambda value: ["none" if value is None else str(value)],
    ),
]
"""A number that need not be given."""
