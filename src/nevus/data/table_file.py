"""csv files as people and programs write them."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from nevus._progress import console
from nevus.errors import NevusError

SEPARATORS = (",", ";", "\t", "|")
MISSING_LABELS = frozenset({"", "nan", "na", "n/a", "#n/a", "none", "null", "?"})
"""Labels, in lower case, that mean that there is none."""
_BYTE_ORDER_MARKS = {b"\xff\xfe": "utf-16", b"\xfe\xff": "utf-16", b"\xef\xbb\xbf": "utf-8-sig"}
MAX_BYTES = 2_000_000_000


def read_csv(path: Path, columns: Sequence[str] = ()) -> tuple[pd.DataFrame, list[str]]:
    """Read a csv file: comma, semicolon, tab or | as separator; UTF-8, UTF-16 or, with a notice, Windows-1252.

    Args:
        path: the file.
        columns: that must be there.

    Returns:
        A table of text without surrounding blanks, and the place of each of its rows as an editor counts lines.

    Raises:
        NevusError: the file cannot be read, is empty, a row has another number of values, or a column is missing.

    """
    lines, rows = _lines(path, _text(path))
    head = lines[0]
    for row, line in zip(rows[1:], lines[1:], strict=True):
        if len(line) != len(head):
            raise NevusError(f"Cannot read '{path}', {row}: it has {len(line)} values for {len(head)} columns.")
    twice = next((name for name in head if name and head.count(name) > 1), None)
    if twice:
        raise NevusError(f"Cannot read '{path}': it has two columns '{twice}'. Rename one.")
    for column in columns:
        if column not in head:
            raise NevusError(f"Cannot read '{path}': it has no column '{column}' (it has: {', '.join(head)}).")
    table = pd.DataFrame(lines[1:], columns=head, dtype=str)
    return table.loc[:, [bool(name) for name in head]], rows[1:]  # spreadsheets leave columns without a name


def csv_columns(path: Path | None) -> tuple[str, ...]:
    """Return the columns of a csv file; none where it cannot be read. It never fails."""
    if path is None:
        return ()
    try:
        with path.open("rb") as file:
            head = file.read(65_536)
        line = _decoded(head, path, quiet=True).splitlines()[0]
        return tuple(cell.strip() for cell in next(csv.reader([line], delimiter=_separator(line))))
    except (OSError, NevusError, IndexError, StopIteration, csv.Error):
        return ()


def _text(path: Path) -> str:
    try:
        if path.stat().st_size > MAX_BYTES:
            raise NevusError(f"Cannot read '{path}': it has more than {MAX_BYTES:,} bytes.")
        content = path.read_bytes()
    except OSError as error:
        raise NevusError(f"Cannot read '{path}': {error.strerror}.") from None
    return _decoded(content, path)


def _decoded(content: bytes, path: Path, *, quiet: bool = False) -> str:
    encoding = next((name for mark, name in _BYTE_ORDER_MARKS.items() if content.startswith(mark)), "utf-8")
    try:
        return content.decode(encoding)
    except UnicodeDecodeError as error:
        if b"\0" in content or encoding != "utf-8":
            raise NevusError(f"Cannot read '{path}': it is no text (byte {error.start}). Give a csv file.") from None
        if not quiet:
            console.print(f"'{path}' is not UTF-8 text and is read as Windows-1252.", style="yellow")
        return content.decode("cp1252", "replace")


def _separator(header: str) -> str:
    return max(SEPARATORS, key=header.count)


def _lines(path: Path, text: str) -> tuple[list[list[str]], list[str]]:
    header = next((line for line in text.split("\n") if line.strip()), "")
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=_separator(header))
    lines: list[list[str]] = []
    rows: list[str] = []
    try:
        for line in reader:
            if any(cell.strip() for cell in line):
                lines.append([cell.strip() for cell in line])
                rows.append(f"row {reader.line_num}")
    except csv.Error as error:
        raise NevusError(f"Cannot read '{path}', row {reader.line_num}: {error}. Correct the row.") from None
    if not lines:
        raise NevusError(f"Cannot read '{path}': it is empty. Give a file with a header and a row for each image.")
    return lines, rows
