"""Check the English of the documentation for words that the style of this project does not use, and messages for form.

python scripts/english.py [FILE ...]

Without files the messages of errors in src are checked, too: "Cannot X: reason. Fix."
"""

from __future__ import annotations

import ast
import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
BANNED = {
    r"stands (for|in|beside)": "is (given) in, means",
    r"lies (in|at|on|below)": "is in",
    r"(is|are) worth": "scores, achieves",
    r"told|tells": "reported, predicts, distinguishes",
    r"by itself|of itself": "automatically",
    r"in its own words": "its own",
    r"hangs on": "depends on",
    r"comes to nothing|came to nothing": "fails",
    r"insists?": "requires",
    r"likewise": "repeat the sentence",
    r"as it (is|was)": "unchanged",
    r"of ours": "our",
    r"beside": "besides, next to",
    r"looks? at (a|the) test": "test-set evaluation",
    r"taught": "trained",
    r"elsewhere": "external",
    r"(?<!cannot )(?<!cannot[- ]be[- ])judged?": "evaluated",  # "cannot judge" is a decision of nevus
    r"pictures that belong together": "near-duplicates and same-lesion images",
}
"""Pattern to what to write instead."""


def faults(path: Path) -> list[str]:
    """Return one line for each banned word in a file; code blocks are not checked."""
    found = []
    code = False
    for number, line in enumerate(path.read_text("utf-8").splitlines(), 1):
        if line.lstrip().startswith("```"):
            code = not code
        if code:
            continue
        for pattern, instead in BANNED.items():
            match = re.search(rf"\b({pattern})\b", line, re.IGNORECASE)
            if match:
                found.append(f"{path.relative_to(ROOT)}:{number}: '{match[0]}'; write: {instead}")
    return found


def messages(path: Path) -> list[str]:
    """Return one line for each `NevusError` of a module whose text does not begin with "Cannot"."""
    found = []
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "NevusError" and node.args:
            text = node.args[0].values[0] if isinstance(node.args[0], ast.JoinedStr) else node.args[0]
            own = isinstance(text, ast.Constant | ast.FormattedValue)  # anything else is another error's message
            if own and not str(getattr(text, "value", "")).startswith("Cannot "):
                found.append(f"{path.relative_to(ROOT)}:{node.lineno}: write the message as 'Cannot X: reason. Fix.'")
    return found


def main(arguments: list[str]) -> int:
    """Check files, by default README, docs, reproduce and src; exit status 1 where a fault is found."""
    paths = [Path(one).resolve() for one in arguments] or [
        *ROOT.glob("*.md"),
        *(ROOT / "docs").rglob("*.md"),
        *(ROOT / "reproduce").glob("*.md"),
        *(ROOT / "results").glob("*.md"),
    ]
    found = [line for path in sorted(paths) for line in faults(path)]
    if not arguments:
        found += [line for path in sorted((ROOT / "src").rglob("*.py")) for line in messages(path)]
    print("\n".join(found))
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
