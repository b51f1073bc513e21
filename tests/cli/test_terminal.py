"""What a person sees: the bars, on a real (pseudo) terminal."""

import os
import pty
import re
import sys

import pytest


def on_a_terminal(*arguments) -> tuple[int, str]:
    pid, handle = pty.fork()
    if pid == 0:
        os.environ.update(TERM="xterm", COLUMNS="180", LINES="50")
        os.execv(sys.executable, [sys.executable, "-m", "nevus", *map(str, arguments)])
    output = b""
    while True:
        try:
            piece = os.read(handle, 65536)
        except OSError:  # the other side is closed
            break
        if not piece:
            break
        output += piece
    os.close(handle)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), output.decode(errors="replace")


@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
def test_training_shows_loss_accuracy_speed_and_time_left(phantoms, tmp_path):
    quick = [
        "--set",
        "image_size=32",
        "--set",
        "batch_size=8",
        "--set",
        "steps=9",
        "--set",
        "warmup_steps=1",
        "--set",
        "eval_interval=3",
    ]
    status, shown = on_a_terminal("train", phantoms, "--out", tmp_path / "run", *quick)
    assert status == 0, shown
    assert "Traceback" not in shown
    plain = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", shown)
    assert "decoding train" in plain
    assert re.search(r"training .*9/9 steps .*left", plain)
    assert re.search(r"loss \d\.\d+  accuracy [\d.]+%  \d+ images/s  validation: loss", plain)
