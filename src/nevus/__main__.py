"""The process of the command line: `nevus`, or `python -m nevus`."""

import gc
import sys

from nevus.cli.main import main

_THRESHOLDS = 20_000, 10, 10
"""Thresholds of the garbage collector, which are 700, 10, 10 in Python 3.11: the imports of a training make a million
objects that all stay, and a fifth of their time would go into the search for garbage among them."""


def run() -> int:
    """Run the command of this process; return its exit status."""
    gc.set_threshold(*_THRESHOLDS)
    try:
        return main()
    finally:
        gc.freeze()  # Python would look through every object once more before it ends, which takes a second


if __name__ == "__main__":
    sys.exit(run())
