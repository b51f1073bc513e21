"""The floor on HAM10000: bit-r26x0.5 from random weights, seven classes, split by lesion, test looked at once.

    python -m experiments.ham10000

Recipe `default` for fewer passes than its 40, so that it ends within the hour on two cores.
"""

from __future__ import annotations

from experiments.common import DATA, RUNS, evaluate, keep, train

EPOCHS = 20

if __name__ == "__main__":
    out = RUNS / "ham10000"
    flags = ["--trunk", "bit-r26x0.5", "--epochs", EPOCHS, "--seed", 0, "--split.test", 0.2]
    trained = train(out, DATA / "ham10000", *flags)
    judged = evaluate(out, out / "manifest.parquet")
    keep("ham10000", {"data": "ham10000", "split": "by lesion", "train": trained, "evaluate": judged})
