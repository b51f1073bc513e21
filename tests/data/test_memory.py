import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.long
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="Linux says what memory is a process' own")
def test_private_memory_does_not_grow_with_the_images():
    grown = []
    for count in (500, 8_000):
        words = [sys.executable, "-m", "benchmarks.memory", str(count)]
        done = subprocess.run(words, cwd=ROOT, check=True, capture_output=True, text=True)
        found = json.loads(done.stdout)
        grown.append(found["after"] - found["before"])
    held = 7_500 * 128 * 128 * 3 / 2**20  # what the further images would take
    assert grown[1] - grown[0] < 0.1 * held
