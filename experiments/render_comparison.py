"""The paper's table, on real data, for docs/results.md."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from nevus.comparison.plan import INITIALIZATIONS
from nevus.comparison.table import ResultRow
from nevus.metrics.report import MetricEstimate
from nevus.metrics.significance import DeLong, McNemar
from nevus.models.registry import BACKBONES
from nevus.report import comparison_plots, plots
from nevus.report.comparison_cells import cells, heads, names
from nevus.report.comparison_plots import label

TITLES = {
    "official": "isic-malignant-benign, official split",
    "leak-free": "isic-malignant-benign, leak-free",
    "random": "isic-malignant-benign, official split, networks from random weights",
    "batch-8": "Group normalization with weight standardization against batch normalization, batch 8",
    "batch-64": "The same, batch 64",
    "ham10000": "HAM10000, seven classes, the fold of lesions that comes with the package",
}
ALPHA = 0.05
"""Of a corrected p from which on a difference is called one."""
LEFT_OUT = ("starts from",)
"""A column that stands below the table, in a list."""


def row_of(plain: Mapping[str, Any]) -> ResultRow:
    """A row as it was kept."""
    nan = float("nan")

    def number(value: float | None) -> float:
        return nan if value is None else value

    def figures(held: Mapping[str, Mapping[str, Any]] | None) -> dict[str, MetricEstimate] | None:
        if held is None:
            return None
        return {
            name: MetricEstimate(number(f["value"]), f["n"], number(f["low"]), number(f["high"]), f["method"])
            for name, f in held.items()
        }

    kept: dict[str, Any] = {}
    for key, value in plain.items():
        if isinstance(value, list):
            kept[key] = tuple(value)
        elif value is None and key not in ("parameters", "looks", "mcnemar", "delong"):
            kept[key] = nan
        else:
            kept[key] = value
    kept["figures"], kept["elsewhere"] = figures(plain["figures"]), figures(plain["elsewhere"])
    kept["mcnemar"] = McNemar(**plain["mcnemar"]) if plain["mcnemar"] else None
    kept["delong"] = DeLong(**{k: number(v) for k, v in plain["delong"].items()}) if plain["delong"] else None
    return ResultRow(**kept)


def comparison(found: Mapping[str, Any], docs: Path) -> str:
    """A table for each protocol, and the paper's figures."""
    lines = [
        "## The table of the paper, with intervals",
        "",
        "Each system on the same split and machine, chosen on validation; *looks* counts those at the test split "
        "and at images from elsewhere. In percent with 95 % intervals. McNemar's and DeLong's tests are against "
        "the BiT that began alike, what learns from handcrafted features against the pretrained one, p after "
        "Holm's correction. Networks that began differently are not ranked with one another. *Elsewhere*: isic2017 "
        "without the lesions of this set, melanoma against the rest. *Gap*: training less validation accuracy. "
        "Over seeds stands what was repeated.",
        "",
    ]
    for key, title in TITLES.items():
        if key in found:
            lines += _part(key, title, found[key], docs)
    return "\n".join(lines)


def _part(key: str, title: str, one: Mapping[str, Any], docs: Path) -> list[str]:
    found = [row_of(plain) for plain in one["rows"]]
    columns, shown = [head for part in heads(found).values() for head in part], names(found)
    kept = [k for k, head in enumerate(columns) if head not in LEFT_OUT]
    away = any(row.elsewhere for row in found)
    lines = [
        f"### {title}",
        "",
        f"{one['about']['n']['test']} test images"
        + (f", {one['about']['n']['elsewhere']:,} from elsewhere" if away else "")
        + f"; on {one['machine']['device']}, {one['machine']['threads']} threads."
        + _earlier(found, one.get("earlier", {})),
        "",
        "| system | " + " | ".join(columns[k] for k in kept) + " |",
        "|---|" + "---|" * len(kept),
    ]
    for half, words in INITIALIZATIONS.items():
        ours = [row for row in found if row.half == half]
        if ours:
            lines.append(f"| *{words}* |" + " |" * len(kept))
        for row in ours:
            if row.failure:
                lines.append(f"| {label(row)} | {row.failure} |" + " |" * (len(kept) - 1))
                continue
            values = cells(row, shown, elsewhere=away)
            lines.append(f"| {label(row)} | " + " | ".join(values[k] for k in kept) + " |")
    lines += ["", *_reproduced(found), *_normalized(found)]
    starts = {f"{label(row)}: {_start(row)}": None for row in found if row.half != "features" and row.start}
    lines += ["The networks start from:", "", *(f"- {text}" for text in starts), ""]
    lines += [f"Manifest of the test split: `{one['about']['data']['test']['digest']}`", ""]
    lines += ["```", *one["commands"], "```", ""]
    for name, draw in (
        ("accuracy", comparison_plots.accuracies),
        ("time", comparison_plots.times),
        ("trade", comparison_plots.trade),
    ):
        file = f"comparison-{key}-{name}.svg"
        plots.save(draw(found), docs / "figures" / file)
        lines += [f"![{title}: {name}](figures/{file})", ""]
    return lines


def _start(row: ResultRow) -> str:
    """What a network started from, and whether other weights have come with the package under that name since."""
    spec = BACKBONES.get(row.start.partition(" ")[0])
    if spec and spec.digest and spec.digest not in row.start:
        return f"{row.start} (as it came with the package before)"
    return row.start


def _earlier(found: Sequence[ResultRow], looks: Mapping[str, int]) -> str:
    """What looked before the table was begun anew on another machine."""
    of = [f"{label(row)} {looks[row.name]}" for row in found if looks.get(row.name)]
    told = ", ".join(of)
    return (
        f" Looks by the same configurations for a table on another machine, before this one: {told}." if of else ""
    )


def _reproduced(found: Sequence[ResultRow]) -> list[str]:
    """A paragraph: what of the paper's table is reproduced. Every word of it follows from the rows."""
    known = [
        row for row in found if row.half in ("pretrained", "features") and row.metrics and row.paper == row.paper
    ]
    ours = next((row for row in known if row.reference), None)
    if ours is None or ours.metrics is None:
        return []

    def here(row: ResultRow) -> str:
        assert row.metrics
        f = row.metrics["accuracy"]
        measured = f"{100 * f.value:.2f} % ({100 * f.low:.1f} to {100 * f.high:.1f})"
        return f"{label(row)} {100 * row.paper:.2f} % there, {measured} here"

    def within(row: ResultRow) -> bool:
        assert row.metrics
        return row.metrics["accuracy"].low <= row.paper <= row.metrics["accuracy"].high

    def named(rows: Sequence[ResultRow]) -> str:
        return ", ".join(label(row) for row in rows) or "none"

    rivals = [row for row in known if row.system != "bit"]
    same, other = [row for row in known if within(row)], [row for row in known if not within(row)]
    above = [
        row for row in rivals if row.metrics and row.metrics["accuracy"].value >= ours.metrics["accuracy"].value
    ]
    sure = [row for row in rivals if row.mcnemar_holm < ALPHA]
    worse, better = [row for row in sure if row not in above], [row for row in sure if row in above]
    areas = [row for row in rivals if row.delong_holm < ALPHA]
    lines = [
        "**What of the paper's table is reproduced.** "
        f"Of the {len(known)} of its figures that stand beside ours, {len(same)} lie within our 95 % intervals"
        f" ({named(same)})" + (f"; not so: {'; '.join(map(here, other))}. " if other else ". "),
        f"That BiT leads: {label(ours)} is right more often than {len(rivals) - len(above)} of {len(rivals)} "
        f"rivals, and not more often than {named(above)}. After Holm's correction McNemar's test finds BiT better "
        f"than {named(worse)}, and worse than {named(better)}; the AUROC differs from that of {named(areas)}. ",
    ]
    slow = next((row for row in rivals if row.system == "inception-v3"), None)
    if slow is not None:
        lines.append(
            f"That it trains fast: Inception-v3 took {slow.paper_seconds / ours.paper_seconds:.1f} times as long "
            f"there, and {slow.seconds / ours.seconds:.1f} times here, frozen both. "
        )
    if ours.elsewhere:
        away = {label(row): row.elsewhere["auroc"] for row in known if row.elsewhere}
        first = max(away, key=lambda name: away[name].value)
        f, g = ours.elsewhere["auroc"], away[first]
        lines.append(
            "What the paper does not ask: on lesions from elsewhere BiT's AUROC falls from "
            f"{ours.metrics['auroc'].value:.3f} to {f.value:.3f} ({f.low:.3f} to {f.high:.3f}), and the best there "
            f"is {first} with {g.value:.3f} ({g.low:.3f} to {g.high:.3f})."
        )
    return ["".join(lines), ""]


def _normalized(found: Sequence[ResultRow]) -> list[str]:
    """A paragraph: what batch normalization does in place of group normalization with weight standardization."""
    begun = {row.system: row for row in found if row.half == "random" and row.metrics}
    ours, other = begun.get("bit"), begun.get("bit-bn")
    if ours is None or other is None or other.delong is None or not (ours.metrics and other.metrics):
        return []

    def told(row: ResultRow) -> str:
        assert row.metrics
        f, g = row.metrics["accuracy"], row.metrics["auroc"]
        shown = f"{100 * f.value:.1f} % ({100 * f.low:.1f} to {100 * f.high:.1f}), AUROC {g.value:.3f}"
        return f"{shown}, {row.seconds:.0f} s"

    by, low, high = (100 * value for value in (other.delong.difference, other.delong.low, other.delong.high))
    verdict = "no difference that could be told" if other.delong_holm >= ALPHA else "a difference"
    return [
        "**Group normalization with weight standardization against batch normalization**, the same network, from "
        f"random weights, given the same time by prediction: {told(ours)}, against {told(other)} in fact; its "
        f"AUROC less the other's {by:+.1f} points ({low:+.1f} to {high:+.1f}), DeLong's p {other.delong_holm:.3f} "
        f"after Holm's correction: {verdict}.",
        "",
    ]


def parts() -> dict[str, Callable[[Mapping[str, Any], Path], str]]:
    """By the name of the result."""
    return {"comparison": comparison}
