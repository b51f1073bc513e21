"""What the C library does with freed memory, in processes of their own."""

import subprocess
import sys

import pytest

CODE = """
import sys
from nevus.runtime import allocator

assert getattr(allocator, sys.argv[1])()

def resident():
    return int(open("/proc/self/statm").read().split()[1]) * 4096

before = resident()
for _ in range(2):
    blocks = [bytearray(1 << 20) for _ in range(50)]
    pin = [bytearray(1 << 10) for _ in range(50)]  # behind them on the heap, which therefore cannot shrink
    del blocks
print(resident() - before)
"""


def kept(function):
    """Return the bytes that stay resident after 50 blocks of a MiB were freed."""
    done = subprocess.run([sys.executable, "-c", CODE, function], capture_output=True, text=True, check=True)
    return int(done.stdout)


pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="settings of glibc")


def test_freed_blocks_are_given_back():
    assert kept("return_memory") < 5e6


def test_garbage_is_collected_often_where_memory_is_given_back():
    code = (
        "import gc; gc.set_threshold(20_000, 10, 10); from nevus.runtime.allocator import return_memory\n"
        "return_memory(); print(gc.get_threshold()[0])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert int(done.stdout) == 700


def test_freed_blocks_are_kept():
    assert kept("retain_heap") > 45e6
