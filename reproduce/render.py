"""Render `docs/results.md` and the headline of `README.md` from the tables in `results/`.

    python -m reproduce.render

Every number on these pages is a cell of a committed csv file; this module only chooses, rounds and words.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pandas as pd

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "results"
PAGE = ROOT / "docs" / "results.md"
README = ROOT / "README.md"
TEXT = Path(__file__).with_name("results.md")
"""The page with a mark for each table."""
BEGIN, END = "<!-- {}: begin -->", "<!-- {}: end -->"
DATA = "isic-malignant-benign"
PAPER_ACCURACY = "BiT"
Row = pd.Series


def interval(row: Any, name: str, factor: float = 100.0, digits: int = 1) -> str:
    """Return a value with its 95 % interval."""
    value, low, high = (row.get(f"{name}{part}", math.nan) for part in ("", "_low", "_high"))
    if pd.isna(value):
        return "–"
    text = f"{factor * value:.{digits}f}"
    return text if pd.isna(low) else f"{text} ({factor * low:.{digits}f}–{factor * high:.{digits}f})"


def number(value: Any, digits: int = 0, factor: float = 1.0) -> str:
    """Return a rounded number; a dash where there is none."""
    return "–" if pd.isna(value) else f"{factor * float(value):,.{digits}f}"


def p_value(p: Any) -> str:
    """Return a p value with three digits."""
    return "–" if pd.isna(p) else "< 0.001" if p < 0.001 else f"{p:.3f}"


def markdown(rows: list[dict[str, str]]) -> str:
    """Return rows as a Markdown table."""
    heads = list(rows[0])
    lines = [heads, ["---"] * len(heads), *([row[head] for head in heads] for row in rows)]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def read(name: str) -> pd.DataFrame:
    """Read a table of results."""
    return pd.read_csv(RESULTS / f"{name}.csv")


def auroc(row: Any) -> str:
    """Return the AUROC, or the macro AUROC of more than two classes."""
    return interval(row, "auroc" if not pd.isna(row.get("auroc", math.nan)) else "auroc_macro", 1, 3)


def headline() -> str:
    """Return the rows of the presets below that of the paper."""
    paper = read("comparison").query(f"method == '{PAPER_ACCURACY}' and protocol == 'official'").iloc[0]
    rows = [
        {
            "classifier": "the paper",
            "data": DATA,
            "split": "official",
            "n": number(paper["n"]),
            "accuracy %": number(paper["paper_accuracy"], 2, 100),
            "AUROC": "–",
            "minutes": number(paper["paper_seconds"] / 60, 1),
            "machine": "P100 GPU",
        }
    ]
    for _, row in read("headline").iterrows():
        rows.append(
            {
                "classifier": f"`{row['preset']}`",
                "data": f"{row['data']}, {row['classes']} classes",
                "split": row["protocol"],
                "n": number(row["n"]),
                "accuracy %": interval(row, "accuracy", digits=2),
                "AUROC": auroc(row),
                "minutes": number(row["minutes"], 1),
                "machine": row["machine"],
            }
        )
    return markdown(rows)


def paper_table() -> str:
    """Return the methods of the paper's table, on the official and on the leak-free split."""
    table = read("comparison")
    official, free = (table[table["table"] == name].set_index("method") for name in ("official", "leak-free"))
    rows = []
    for method, row in official[official["initialization"].isin(["pretrained", "features"])].iterrows():
        clean = free.loc[method]
        rows.append(
            {
                "method": str(method),
                "accuracy in the paper %": number(row["paper_accuracy"], 2, 100),
                "accuracy %": interval(row, "accuracy"),
                "AUROC": auroc(row),
                "DeLong p": "reference" if method == PAPER_ACCURACY else p_value(row["delong_p_holm"]),
                "accuracy, leak-free %": interval(clean, "accuracy"),
                "AUROC, leak-free": auroc(clean),
                "seconds": number(row["seconds"], 1),
            }
        )
    return markdown(rows)


def random_table() -> str:
    """Return the networks from random weights."""
    table = read("comparison")
    table = table[table["table"].str.startswith("random") & (table["initialization"] == "random")]
    return markdown(
        [
            {
                "method": row["method"],
                "accuracy %": interval(row, "accuracy"),
                "AUROC": auroc(row),
                "DeLong p": p_value(row["delong_p_holm"]),
                "seconds": number(row["seconds"]),
            }
            for _, row in table.iterrows()
        ]
    )


MEMBERS = {
    "bit": "BiT alone",
    "lite2": "EfficientNet-Lite2 alone",
    "sklesion": "Xception of sklesion alone",
    "malignant-benign": "`malignant-benign`",
}
SOURCES = {
    "ham10000:rosendahl": "rosendahl",
    "ham10000:vidir_modern": "vidir_modern",
    "ham10000:vienna_dias": "vienna_dias",
    "isic2017": "isic2017",
    "isic-other": "isic-other",
    "pad-ufes-20": "pad-ufes-20",
}


def left_out() -> str:
    """Return the AUROC of the built-in classifier on sources that were left out, beside that of its networks."""
    table = read("sources")
    rows = []
    for name, text in MEMBERS.items():
        mine = table[(table["classifier"] == name) & (table["task"] == "melanoma or nevus")].set_index("source")
        areas = [mine.loc[source, "auroc"] for source in SOURCES]
        cells = {short: number(mine.loc[source, "auroc"], 3) for source, short in SOURCES.items()}
        if name == "malignant-benign":
            cells = {short: auroc(mine.loc[source]) for source, short in SOURCES.items()}
        both = f"{sum(areas) / len(areas):.3f} ({sum(areas[3:]) / 3:.3f})"
        rows.append({"classifier": text, **cells, "mean (of the last three)": both})
    return markdown(rows)


def left_out_decisions() -> str:
    """Return sensitivity and specificity of the built-in classifier on sources that were left out."""
    table = read("sources").query("classifier == 'malignant-benign'")
    point = table[table["task"] == "malignant or benign"].set_index("source")
    return markdown(
        [
            {
                "source": short,
                "images (malignant)": f"{number(point.loc[source, 'n'])} ({number(point.loc[source, 'positives'])})",
                "AUROC": auroc(point.loc[source]),
                "sensitivity %": interval(point.loc[source], "sensitivity"),
                "specificity %": interval(point.loc[source], "specificity"),
            }
            for source, short in SOURCES.items()
        ]
    )


DECIDED = {"best-official": "`best`, official", "best-leak-free": "`best`, leak-free"}


def decisions() -> str:
    """Return what operating points, sets and calibration are worth on the test split and on other sources."""
    rows = []
    for _, row in read("decisions").iterrows():
        name = row["classifier"]
        flagged = row["flagged_foreign"] + row["flagged_blurred"] + row["flagged_unvalidated_kind"]
        malignant, benign = (number(row[f"coverage_{name}"], 1, 100) for name in ("malignant", "benign"))
        rows.append(
            {
                "classifier": DECIDED.get(name, f"`{name.removeprefix('built-in ')}` (built in)"),
                "images (malignant)": f"{row['data']}: {number(row['n'])} ({number(row['positives'])})",
                "AUROC": interval(row, "auroc", 1, 3),
                "sensitivity %": interval(row, "sensitivity"),
                "specificity %": interval(row, "specificity"),
                "in set %, malignant / benign": f"{malignant} / {benign}",
                "ECE": f"{number(row['ece_before'], 2)} to {number(row['ece'], 2)}",
                "flagged %": number(flagged, 0, 100),
            }
        )
    return markdown(rows)


def image_check() -> str:
    """Return the rates of the image check on sources that it was not fitted on."""
    return markdown(
        [
            {
                "images": row["images"],
                "n": number(row["n"]),
                "foreign %": number(row["flagged_foreign"], 1, 100),
                "blurred %": number(row["flagged_blurred"], 1, 100),
                "called a photograph %": number(row["recognized_as_photograph"], 1, 100),
                "AUROC, lesions or not": number(row["auroc_foreign"], 3),
                "foreign % at 5 % false alarms": number(row["flagged_foreign_at_5_percent"], 1, 100),
            }
            for _, row in read("image_check").iterrows()
        ]
    )


def class_sources() -> str:
    """Return in which public data sets the images of each class are."""
    table = read("duplicates").query("table == 'class sources'")
    return markdown(
        [{"images": row["what"], "found": number(row["value"]), "of": number(row["n"])} for _, row in table.iterrows()]
    )


def attention() -> str:
    """Return the share of heat maps inside the lesion."""
    return markdown(
        [
            {
                "classifier": f"`{row['classifier']}`",
                "images": row["data"],
                "n": number(row["n"]),
                "share of the map inside the lesion %": interval(row, "share"),
                "share of the area %": number(row["area"], 1, 100),
            }
            for _, row in read("attention").iterrows()
        ]
    )


def skin_tone() -> str:
    """Return the association of the typology angle with the skin type."""
    return markdown(
        [
            {
                "images": row["data"],
                "pixels": row["pixels"],
                "n": number(row["n"]),
                "Spearman's correlation": interval(row, "spearman", 1, 3),
            }
            for _, row in read("skin_tone").iterrows()
        ]
    )


def detection() -> str:
    """Return precision and recall of the duplicate check; of the single edits the one that is found least."""
    table = read("duplicates").query("table == 'detection'")
    edits = table[table["what"].str.startswith("recall of edited copies: ")]
    table = table.drop(edits.index.difference([edits["value"].idxmin()]))
    return markdown(
        [{"": row["what"], "%": interval(row, "value"), "n": number(row["n"])} for _, row in table.iterrows()]
    )


def audits() -> str:
    """Return the counts of the audits of public data sets."""
    table = read("duplicates")
    table = table[table["table"].str.startswith("audit: ")]
    rows = []
    for name, group in table.groupby("table", sort=False):
        values = group.set_index("what")["value"]
        rows.append({"data": str(name).removeprefix("audit: "), **{what: number(n) for what, n in values.items()}})
    return markdown(rows)


def peers() -> str:
    """Return other programs for near-duplicates on the same copies."""
    table = read("duplicates").query("table == 'peers'")
    return markdown(
        [
            {
                "program": row["what"],
                "recall %": number(row["value"], 1, 100),
                "precision %": number(row["precision"], 1, 100),
                "seconds": number(row["seconds"], 1),
            }
            for _, row in table.iterrows()
        ]
    )


def scale() -> str:
    """Return the time of the duplicate check by the number of images, and ten times the largest by its last growth."""
    rows = read("duplicates").query("table == 'scale'").sort_values("n")
    times = ", ".join(f"{number(row['value'], 1)} for {number(row['n'])}" for _, row in rows.iterrows())
    before, last = rows.iloc[-2], rows.iloc[-1]
    hours = last["seconds"] * last["seconds"] / before["seconds"] / 3600
    return f"{times}. {number(last['n'] ** 2 / before['n'])} would take {number(hours, 1)} h (extrapolated)."


def reviewed() -> str:
    """Return the pairs that were reviewed by eye."""
    table = read("duplicates").query("table == 'reviewed pairs'")
    return markdown(
        [
            {
                "pairs of": row["what"],
                "reviewed": number(row["n"]),
                "one lesion %": number(row["value"], 1, 100),
                "uncertain": number(row["uncertain"]),
                "wrong": number(row["wrong"]),
            }
            for _, row in table.iterrows()
        ]
    )


def lesion_ids() -> str:
    """Return what the lesions with several ids mean for splits by lesion id."""
    table = read("duplicates").query("table == 'lesion ids'")
    return markdown(
        [
            {"": row["what"], "n": interval(row, "value", 1, 0 if pd.isna(row["value_low"]) else 1)}
            for _, row in table.iterrows()
        ]
    )


def speed() -> str:
    """Return images a second of training steps and inference beside peers."""
    return markdown(
        [
            {
                "work": row["work"],
                "network": f"`{row['network']}`, {row['image_size']} px",
                "batch": number(row["batch"]),
                "precision": row["precision"],
                "images/s": number(row["nevus"], 1),
                "over timm": number(row["over_timm"], 2),
                "over torch.compile": number(row["over_compiled"], 2),
                "over transformers": number(row["over_transformers"], 2),
            }
            for _, row in read("speed").iterrows()
        ]
    )


def startup() -> str:
    """Return time and memory of short processes."""
    return markdown(
        [
            {
                "process": f"`{row['process']}`",
                "seconds": number(row["seconds"], 2),
                "memory MB": number(row["memory_mb"]),
                "time / import torch": number(row["seconds_ratio"], 2),
            }
            for _, row in read("startup").iterrows()
        ]
    )


def fast() -> str:
    """Return the time from image files to a bundle, by stage."""
    stages = {"check": "check", "decoding": "decoding", "features": "features", "linear_probe": "probe", "rest": "rest"}
    return markdown(
        [
            {
                "duplicate check": "no" if row["run"] == "without" else "yes",
                "seconds": number(row["seconds"]),
                **{name: number(row[column]) for column, name in stages.items()},
            }
            for _, row in read("fast").iterrows()
        ]
    )


def bulk() -> str:
    """Return images a second of predictions for many images."""
    return markdown(
        [
            {
                "program": f"`{row['what']}`" if row["what"].startswith("nevus") else row["what"],
                "images": number(row["images"]),
                "images/s": number(row["images_per_second"]),
                "MB": number(row["memory_mb"]),
            }
            for _, row in read("bulk").iterrows()
        ]
    )


def serving() -> str:
    """Return throughput and latency of the service and its peers."""
    return markdown(
        [
            {
                "server": row["server"],
                "clients": number(row["clients"]),
                "images/s": number(row["images_per_second"], 1),
                "p50 ms": number(row["p50_ms"]),
                "p99 ms": number(row["p99_ms"]),
                "start s": number(row["ready_seconds"], 1),
                "MB": number(row["memory_mb"]),
            }
            for _, row in read("serving").iterrows()
            if row["clients"] != 8
        ]
    )


TRAINING = "nevus, PyTorch"
"""The engine of trainings, which no prediction uses by default."""


def engines() -> str:
    """Return the milliseconds of an image by engine: of one image on one thread, and of a batch on all threads."""
    table = read("engines")
    keys = ["machine", "network", "image_size", "threads", "batch"]
    wide = table.pivot_table(index=keys, columns="engine", values="ms", sort=False)
    return markdown(
        [
            {
                "network": f"`{network}`, {size} px",
                "threads, images": f"{threads}, {batch}",
                **{str(name).removeprefix("nevus, "): number(ms, 1) for name, ms in row.items() if name != TRAINING},
            }
            for (_, network, size, threads, batch), row in wide.iterrows()
            if (threads == 1) == (batch == 1)
        ]
    )


def int8() -> str:
    """Return what 8 bits cost, in one sentence."""
    names = {"onnx": "ONNX Runtime", "openvino": "OpenVINO"}
    found = []
    for _, row in read("int8").iterrows():
        before, after = (number(row[column], 1, 100) for column in ("before", "after"))
        low, high = (f"{100 * row[column]:+.1f}" for column in ("ci_low", "ci_high"))
        found.append(f"{after} % in {names[row['format']]} ({low} to {high} points)")
    return f"{before} % before, {', '.join(found)}."


def members() -> str:
    """Return how long one image takes in the networks of the built-in classifier, in one sentence."""
    rows = read("members").query("threads == 1")
    whole = rows[rows["network"] == "malignant-benign"].iloc[-1]
    mine = rows[rows["machine"] == whole["machine"]].set_index("network")["ms_a_view"]
    names = {"bit-r26x0.5-dermoscopy": "BiT", "efficientnet-lite2": "EfficientNet-Lite2", "xception-keras": "Xception"}
    parts = ", ".join(f"{text} {number(mine[name], 0)}" for name, text in names.items())
    machine = str(whole["machine"]).partition(",")[0].rpartition(" ")[2]
    return (
        f"{number(whole['ms_an_image'], 0)} ms for {number(whole['views'])} views on one core of the {machine} "
        f"({parts} ms a view)."
    )


def evaluations() -> str:
    """Return how often each test split was evaluated."""
    table = read("selection_history")
    counts = table.groupby(["data", "protocol"], sort=False)["setting"].size()
    return markdown(
        [{"data": data, "split": split, "evaluated settings": number(n)} for (data, split), n in counts.items()]
    )


TABLES = {
    "headline": headline,
    "paper": paper_table,
    "random": random_table,
    "left_out": left_out,
    "left_out_decisions": left_out_decisions,
    "decisions": decisions,
    "image_check": image_check,
    "class_sources": class_sources,
    "attention": attention,
    "skin_tone": skin_tone,
    "detection": detection,
    "audits": audits,
    "reviewed": reviewed,
    "lesion_ids": lesion_ids,
    "peers": peers,
    "scale": scale,
    "speed": speed,
    "fast": fast,
    "bulk": bulk,
    "startup": startup,
    "serving": serving,
    "engines": engines,
    "int8": int8,
    "members": members,
    "evaluations": evaluations,
}


def readme_rows() -> str:
    """Return the four headline rows of the README."""
    table = read("headline")
    table = table[(table["data"] == DATA) & table["preset"].isin(["best", "fast"])]
    paper = read("comparison").query(f"method == '{PAPER_ACCURACY}' and protocol == 'official'").iloc[0]
    rows = [
        {
            "classifier": "the paper",
            "split": "official",
            "accuracy %": number(paper["paper_accuracy"], 2, 100),
            "AUROC": "–",
            "training": f"{paper['paper_seconds']:.0f} s on a GPU",
        }
    ]
    for _, row in table.sort_values(["preset", "protocol"], ascending=[True, False]).iterrows():
        rows.append(
            {
                "classifier": f"`nevus train --preset {row['preset']}`",
                "split": row["protocol"],
                "accuracy %": interval(row, "accuracy", digits=2),
                "AUROC": interval(row, "auroc", 1, 3),
                "training": f"{row['minutes']:.0f} min on two CPU threads",
            }
        )
    return markdown(rows)


def readme_external() -> str:
    """Return what the built-in classifier scores on sources that were left out."""
    table = read("sources").query("classifier == 'malignant-benign'")
    melanocytic = table[table["task"] == "melanoma or nevus"].set_index("source")
    decided = table[table["task"] == "malignant or benign"].set_index("source")
    photographs = decided.loc["pad-ufes-20"]
    new = [one for one in SOURCES if not one.startswith("ham10000")]
    areas = {short: f"{short} {interval(melanocytic.loc[one], 'auroc', 1, 2)}" for one, short in SOURCES.items()}
    of_new = [areas.pop(SOURCES[one]) for one in new]
    hit, spared = decided.loc[new, "sensitivity"], decided.loc[new, "specificity"]
    low, high, least, most = (number(v, 0, 100) for v in (hit.min(), hit.max(), spared.min(), spared.max()))
    return (
        f"Each source left out in turn, AUROC of melanoma against nevus: {'; '.join(of_new)}; mean "
        f"{melanocytic.loc[new, 'auroc'].mean():.2f}. In HAM10000: {'; '.join(areas.values())}. Malignant against "
        f"benign in photographs (pad-ufes-20): {interval(photographs, 'auroc', 1, 2)}. At the threshold for a "
        f"sensitivity of 95 % on the other two of these three sources, it has {low} to {high} % on the third, and a "
        f"specificity of {least} to {most} %."
    )


def readme_other_sources() -> str:
    """Return how the default recipe does on its own test split and on other sources."""
    rows = read("decisions").query("classifier == 'best-leak-free'")
    own, others = (rows[rows["data"].eq("its test split") == same] for same in (True, False))
    named = "; ".join(
        f"{row['data'].partition(',')[0]} ({number(row['n'])} images): {interval(row, 'auroc', 1, 2)}"
        for _, row in others.iterrows()
    )
    low, high = (number(value, 0, 100) for value in (others["specificity"].min(), others["specificity"].max()))
    sources = read("duplicates").query("table == 'class sources'").set_index("what")["value"].map(number)
    own_area, own_specificity = interval(own.iloc[0], "auroc", 1, 2), number(own["specificity"].iloc[0], 0, 100)
    return (
        f"Of its malignant images {sources['malignant, in isic2017']} are in isic2017, of its benign ones "
        f"{sources['benign, in isic2017']}; {sources['malignant, in ham10000']} and {sources['benign, in ham10000']} "
        f"are in HAM10000. Trained leak-free, `best` has an AUROC of {own_area} on its test split. On other sources, "
        f"melanoma against nevus: {named}. At the threshold for a sensitivity of 95 % it calls nearly every image "
        f"there malignant: specificity {low} to {high} %, and {own_specificity} % on its test split."
    )


def readme_leakage() -> str:
    """Return what the audit finds on the published split."""
    table = read("duplicates").query(f"table == 'audit: {DATA} with references ham10000 and isic2017'")
    values = table.set_index("what")["value"]
    test = int(read("headline").query(f"data == '{DATA}'")["n"].iloc[0])
    return (
        f"On the published split of {DATA} `nevus audit` finds {number(values['training images that leak'])} training "
        f"images that share a lesion with {number(values['test images that leak'])} of the {test} test images."
    )


def readme_difference() -> str:
    """Return what other programs reach on the same work."""
    peers = read("duplicates").query("table == 'peers'").set_index("what")
    imagededup = peers[peers.index.str.startswith("imagededup")]["value"]
    copies = number(peers.loc["nevus", "n"])
    speed = read("speed").query("work == 'training step' and network == 'bit-r26x0.5'").set_index("precision")
    start = read("startup").set_index("process").loc["nevus predict photo.jpg"]
    many = read("bulk").sort_values("images").drop_duplicates("what", keep="last").set_index("what")
    ours, timm = many.loc["nevus predict --engine onnx"], many.loc["timm's inference script"]
    found, precision = (number(peers.loc["nevus", column], 1, 100) for column in ("value", "precision"))
    low, high, other = (
        number(value, 1, 100) for value in (imagededup.min(), imagededup.max(), peers.loc["cleanvision", "value"])
    )
    seconds, memory = start["seconds"] / start["seconds_ratio"], start["memory_mb"] / start["memory_ratio"]
    return (
        f"- **Duplicates.** Of {copies} edited copies `nevus audit` finds {found} % at a precision of {precision} %; "
        f"imagededup finds {low} to {high} %, cleanvision {other} %.\n"
        f"- **Speed.** A training step on two CPU threads is {speed.loc['bfloat16', 'over_timm']:.2f} times as fast as "
        f"timm's in bfloat16 and {speed.loc['float32', 'over_timm']:.2f} times in float32. Predictions of "
        f"{number(ours['images'])} images take {number(ours['memory_mb'])} MB and run at "
        f"{number(ours['images_per_second'])} images a second; timm's inference script on "
        f"{number(timm['images'])} takes {number(timm['memory_mb'])} MB, at "
        f"{number(timm['images_per_second'])} images a second.\n"
        f"- **Inference without PyTorch.** A prediction takes {start['seconds']:.2f} s from the start of the process "
        f"and {start['memory_mb']:.0f} MB; `import torch` alone takes {seconds:.2f} s and {memory:.0f} MB."
    )


def insert(page: str, name: str, text: str) -> str:
    """Replace what is between the two marks of a name."""
    begin, end = BEGIN.format(name), END.format(name)
    before, mark, rest = page.partition(begin)
    _, closing, after = rest.partition(end)
    if not mark or not closing:
        raise SystemExit(f"Cannot render: the marks of '{name}' are missing.")
    return f"{before}{begin}\n\n{text}\n\n{end}{after}"


def results_page() -> str:
    """Return the page of results."""
    page = TEXT.read_text("utf-8")
    for name, table in TABLES.items():
        page = page.replace(f"{{{{ {name} }}}}", table())
    return page


def readme_page() -> str:
    """Return the README with its numbers."""
    page = insert(README.read_text("utf-8"), "headline", readme_rows())
    page = insert(page, "external", readme_external())
    page = insert(page, "difference", readme_difference())
    page = insert(page, "other sources", readme_other_sources())
    return insert(page, "leakage", readme_leakage())


def render() -> None:
    """Write both pages."""
    PAGE.write_text(results_page(), "utf-8")
    README.write_text(readme_page(), "utf-8")


if __name__ == "__main__":
    render()
