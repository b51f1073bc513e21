import gc
import subprocess
import sys
from importlib import import_module

import pytest

from nevus.cli._help import _flags
from nevus.cli.main import COMMANDS, NAMES


def test_help_lists_every_command(nevus):
    status, out, _ = nevus("--help")
    assert status == 0
    for name in NAMES:
        assert f"  {name} " in out
    assert "not a medical device" in out
    assert all(title in out for title in COMMANDS)
    assert nevus()[1] == nevus("help")[1] == out


@pytest.mark.parametrize("name", NAMES)
def test_each_command_has_help(nevus, name):
    status, out, _ = nevus(name, "--help")
    assert status == 0
    assert f"nevus {name}" in out
    assert nevus("help", name)[1] == out


def test_unknown_commands_and_flags_exit_with_2(nevus):
    status, _, err = nevus("trian")
    assert status == 2
    assert "Did you mean train?" in err
    assert nevus("train", "data", "--oot", "x")[0] == 2


def test_an_option_that_is_given_twice_is_told(nevus):
    """Only the last would count, and nobody would see it."""
    status, _, err = nevus("audit", "data", "--reference", "a", "--reference", "b", "--out", "x")
    assert status == 2
    assert "Cannot use --reference twice" in err


def test_a_number_that_is_none_is_told(nevus):
    status, _, err = nevus("train", "data", "--epochs", "three")
    assert status == 2
    assert "'three' is no number" in err


def test_every_flag_is_explained(nevus):
    """Each shown flag has a text, and none refers to another command's help alone."""
    for name in NAMES:
        out = nevus(name, "--help-all")[1]
        assert "As in" not in out
    for command in NAMES:
        module = import_module(f"nevus.cli.{command}")
        unexplained = [flag.name for flag in _flags(module.Command) if len(flag.text.split(" [")[0]) < 8]
        assert not unexplained, command


def test_version(nevus):
    assert nevus("--version")[1].startswith("nevus 0.")


def test_the_process_of_a_command_ends_without_a_last_garbage_collection():
    code = (
        "import gc, sys; sys.argv = ['nevus', 'trian']; from nevus.__main__ import run\n"
        "print(run(), gc.get_freeze_count() > 0, gc.get_threshold())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split(maxsplit=2)[:2] == ["2", "True"]
    assert not done.stdout.strip().endswith(str(gc.get_threshold()))


def test_as_a_module_without_importing_torch_for_help():
    code = "import sys; sys.argv = ['nevus', '--help']\nfrom nevus.cli.main import main\nmain()\n"
    code += "assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)
    done = subprocess.run([sys.executable, "-m", "nevus", "--version"], check=True, capture_output=True)
    assert done.stdout.startswith(b"nevus")


def test_an_interrupt_is_told(nevus, monkeypatch, bundle_folder, picture, tmp_path):
    from nevus.bundle.classifier import Classifier

    picture().save(tmp_path / "a.png")

    def interrupted(*_args, **_more):
        raise KeyboardInterrupt

    monkeypatch.setattr(Classifier, "stream", interrupted)
    status, _, err = nevus("predict", tmp_path / "a.png", "--bundle", bundle_folder)
    assert status == 130
    assert "Interrupted" in err
