"""The floor: bit-r26x0.5 from random weights on isic-malignant-benign, official split, test looked at once.

    python -m experiments.first_light

Recipe `default` in both modes, validation cut from train. What pre-training brings must beat this.
"""

from __future__ import annotations

from experiments.common import DATA, RUNS, evaluate, keep, train

if __name__ == "__main__":
    data = DATA / "isic-malignant-benign"
    runs = []
    for mode in ("head", "full"):
        out = RUNS / "first-light" / mode
        trained = train(out, data, "--trunk", "bit-r26x0.5", "--mode", mode, "--seed", 0)
        runs.append({"mode": mode, "train": trained, "evaluate": evaluate(out, data)})
        keep("first-light", {"data": "isic-malignant-benign", "split": "official", "runs": runs})
