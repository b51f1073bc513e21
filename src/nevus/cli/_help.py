"""Help of a command in titled groups, from its dataclass."""

from __future__ import annotations

import ast
import inspect
import re
import textwrap
import types
from collections.abc import Iterator
from dataclasses import MISSING, Field, dataclass, fields, is_dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from rich.console import Console
from rich.table import Table

ORDER = ("Arguments", "Options", "Data", "Model", "Optimization", "Output")
"""Order of the groups."""
WIDEST = 40
"""Longest list of choices that stays with the flag; a longer one is part of the text."""


@dataclass(frozen=True)
class Flag:
    """A flag as help shows it.

    Attributes:
        group: title of its group.
        name: with its dashes and the form of its value.
        text: what it means, with its default.
        advanced: whether only `--help-all` shows it.

    """

    group: str
    name: str
    text: str
    advanced: bool


def print_help(command: type[Any], prog: str, *, everything: bool) -> None:
    """Print the help of a command.

    Args:
        command: a dataclass, whose docstring says what it does.
        prog: as in `nevus train`.
        everything: show advanced flags too.

    """
    flags = list(_flags(command))
    positional = [flag for flag in flags if not flag.name.startswith("-")]
    out = Console(markup=False, highlight=False, width=None if Console().is_terminal else 100)
    out.print(f"usage: {prog} {''.join(f'{flag.name} ' for flag in positional)}[OPTIONS]\n", soft_wrap=True)
    out.print(inspect.cleandoc(command.__doc__ or ""))
    shown = [flag for flag in flags if everything or not flag.advanced]
    titles = dict.fromkeys(flag.group for flag in shown)
    for group in sorted(titles, key=lambda title: ORDER.index(title) if title in ORDER else len(ORDER)):
        out.print(f"\n{group}")
        table = Table.grid(padding=(0, 2))
        table.add_column(no_wrap=True)
        table.add_column()
        for flag in shown:
            if flag.group == group:
                table.add_row(f"  {flag.name}", flag.text)
        out.print(table)
    if everything and hasattr(command, "more_help"):
        out.print()
        command.more_help(out)
    if not everything and any(flag.advanced for flag in flags):
        out.print(f"\n{prog} --help-all shows all flags.")


def visible_flags(command: type[Any]) -> list[str]:
    """Return the flags that plain help shows."""
    return [flag.name for flag in _flags(command) if not flag.advanced and flag.name.startswith("-")]


def _flags(
    command: type[Any], prefix: str = "", group: str = "", advanced: bool = False, show: tuple[str, ...] = ()
) -> Iterator[Flag]:
    docs, hints = field_docs(command), get_type_hints(command, include_extras=True)
    for one in fields(command):
        kind, markers = _plain(hints[one.name])
        hidden = advanced or one.metadata.get("advanced", False)
        if show:
            hidden = one.name not in show
        title = group or one.metadata.get("group", "Options")
        name = next((m.name for m in markers if getattr(m, "name", None) is not None), one.name)
        if is_dataclass(kind):
            inner = f"{prefix}{name}." if name else prefix
            shown = one.metadata.get("show", ()) or (show if not name else ())
            yield from _flags(kind, inner, title, hidden and not shown, shown)  # type: ignore[arg-type]
            continue
        text = " ".join(docs.get(one.name, "").split())
        metavar = _metavar(kind)
        opening = text.partition(" ")[0].strip(",;:")
        if opening.islower() and opening not in metavar:  # the name of a choice keeps its case
            text = text[:1].upper() + text[1:]
        if any("POSITIONAL" in repr(m) or "Positional" in repr(m) for m in markers):
            yield Flag("Arguments", f"{one.name.upper()}...", text, False)
            continue
        default = _default(one)
        if kind is bool:
            word = f"--no-{prefix}{name}" if default is True else f"--{prefix}{name}"
            yield Flag(title, word.replace("_", "-"), text, hidden)
            continue
        end = "" if default in ((), None, "") else f" [default: {_text(default)}]"
        if default is MISSING:
            end = " [required]"
        if len(metavar) > WIDEST:  # a column of this width would leave no room for the text
            text, metavar = f"{text} One of {', '.join(re.findall(r'[^{}|,.]+', metavar))}.", "NAME"
        yield Flag(title, f"--{prefix}{name} {metavar}".replace("_", "-"), f"{text}{end}", hidden)


def _plain(hint: Any) -> tuple[Any, tuple[Any, ...]]:
    markers: tuple[Any, ...] = ()
    while hasattr(hint, "__metadata__"):
        markers += hint.__metadata__
        hint = hint.__origin__
    return hint, markers


def _default(one: Field[Any]) -> Any:
    if one.default is not MISSING:
        return one.default
    return one.default_factory() if one.default_factory is not MISSING else MISSING


def _text(value: Any) -> str:
    return " ".join(map(str, value)) if isinstance(value, tuple) else str(value)


def _metavar(kind: Any) -> str:
    kind = _plain(kind)[0]
    origin = get_origin(kind)
    if origin is Literal:
        return "{" + ",".join(map(str, get_args(kind))) + "}"
    if origin is tuple:
        return f"{_metavar(get_args(kind)[0])}..."
    if origin in (Union, types.UnionType):
        inner = [one for one in get_args(kind) if one is not type(None)]
        return "|".join(dict.fromkeys(_metavar(one) for one in inner))
    return {int: "N", float: "NUMBER", str: "TEXT", Path: "PATH"}.get(kind, "VALUE")


def field_docs(command: type[Any]) -> dict[str, str]:
    """Return the docs of a dataclass's fields: the string behind a field, else its entry under `Attributes:`."""
    docs: dict[str, str] = {}
    for base in reversed(command.__mro__[:-1]):
        docs.update(_attributes(base.__doc__ or ""))
        try:
            tree = ast.parse(textwrap.dedent(inspect.getsource(base)))
        except (OSError, TypeError, SyntaxError):
            continue
        body = tree.body[0].body if isinstance(tree.body[0], ast.ClassDef) else []
        for before, after in pairwise(body):
            if isinstance(before, ast.AnnAssign) and isinstance(after, ast.Expr):
                value = after.value
                if isinstance(before.target, ast.Name) and isinstance(value, ast.Constant):
                    docs[before.target.id] = str(value.value)
    return docs


def _attributes(doc: str) -> dict[str, str]:
    lines = inspect.cleandoc(doc).split("\n")
    if "Attributes:" not in lines:
        return {}
    docs, name = {}, ""
    for line in lines[lines.index("Attributes:") + 1 :]:
        if line and not line.startswith(" "):
            break
        head, sign, rest = line.strip().partition(":")
        if line.startswith("    ") and not line.startswith("     ") and sign and head.isidentifier():
            name, docs[head] = head, rest.strip()
        elif name and line.strip():
            docs[name] += f" {line.strip()}"
    return docs
