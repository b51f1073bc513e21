"""Look at pairs that an audit found, drawn at random, and keep what was seen.

    python -m experiments.judge "isic-malignant-benign" --sheet sheet.png
    python -m experiments.judge "isic-malignant-benign" --verdicts yyyny?y...

The first draws the pairs side by side, numbered row by row; the second keeps a letter a pair in
results/judged-pairs.json: `y` they show one lesion, `n` they do not, `?` it cannot be told.
"ham10000, pairs with two ids" draws from those only that the data set takes for two lesions.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import pandas as pd
from PIL import Image, ImageDraw

from experiments.common import DATA, RESULTS, RUNS, keep, read
from nevus.data.readers.dispatch import read as read_data

PAIRS = 120
COLUMNS = 8
TWO_IDS = "pairs with two ids"
SIDE = 120
HOW = (
    "A random draw of the pairs that an audit found, no image in two of them and none of equal pictures, laid side "
    "by side and looked at. Whether they show one lesion was told from shape, pattern, hairs and surroundings, "
    "by no dermatologist."
)


def drawn(name: str) -> pd.DataFrame:
    """The pairs to be looked at, no image in two of them; the draw is fixed by the audit."""
    audit, _, only = name.partition(", ")
    pairs = pd.DataFrame(read(RUNS / "audits" / audit.replace(" ", "-") / "audit.json")["pairs"])
    if only == TWO_IDS:
        table = read_data(DATA / audit).table
        lesion = dict(zip(f"{audit}/" + table["image"], table["lesion_id"], strict=True))
        pairs = pairs[pairs["a"].map(lesion) != pairs["b"].map(lesion)]
    pairs = pairs[pairs["kind"] != "exact"].sort_values(["a", "b"]).sample(frac=1, random_state=0)
    used: set[str] = set()
    rows = []
    for row, pair in enumerate(pairs.to_dict("records")):
        if len(rows) < PAIRS and not used & {pair["a"], pair["b"]}:
            used |= {pair["a"], pair["b"]}
            rows.append(row)
    return pairs.iloc[rows]


def sheet(pairs: pd.DataFrame, path: Path) -> None:
    """All pairs on one picture."""
    rows = -(-len(pairs) // COLUMNS)
    page = Image.new("RGB", (COLUMNS * (2 * SIDE + 10), rows * (SIDE + 4)), "white")
    pen = ImageDraw.Draw(page)
    for number, pair in enumerate(pairs.to_dict("records")):
        x, y = number % COLUMNS * (2 * SIDE + 10), number // COLUMNS * (SIDE + 4)
        for place, side in enumerate("ab"):
            with Image.open(DATA / str(pair[side])) as image:
                page.paste(image.convert("RGB").resize((SIDE, SIDE)), (x + place * SIDE, y))
        pen.text((x + 3, y + 2), str(number), fill="yellow", stroke_width=2, stroke_fill="black")
    page.save(path)


if __name__ == "__main__":
    words = argparse.ArgumentParser()
    words.add_argument("audit")
    words.add_argument("--sheet", type=Path)
    words.add_argument("--verdicts")
    given = words.parse_args()
    chosen = drawn(given.audit)
    if given.sheet:
        sheet(chosen, given.sheet)
    if given.verdicts:
        if len(given.verdicts) != len(chosen) or set(given.verdicts) - set("yn?"):
            sys.exit(f"{len(given.verdicts)} verdicts for {len(chosen)} pairs; give a letter y, n or ? for each.")
        path = RESULTS / "judged-pairs.json"
        before = read(path)["verdicts"] if path.exists() else {}
        command = (
            'python -m experiments.judge NAME --sheet sheet.png; python -m experiments.judge NAME --verdicts "..."'
        )
        keep("judged-pairs", {"how": HOW, "command": command, "verdicts": {**before, given.audit: given.verdicts}})
