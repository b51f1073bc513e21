"""The command line: `nevus COMMAND ...`."""

from __future__ import annotations

import importlib
import signal
import sys
import threading
import warnings
from collections.abc import Callable, Sequence
from dataclasses import fields
from types import FrameType
from typing import Any

from nevus._progress import console
from nevus.errors import NevusError

COMMANDS = {
    "Everyday": {
        "predict": "predict images and folders",
        "train": "train a classifier on labeled images",
        "explain": "draw heat maps of predictions",
        "evaluate": "compute metrics with intervals on a labeled data set",
        "audit": "find duplicates, leakage, shortcuts and label errors in a data set",
        "serve": "serve a bundle over HTTP, with a web page and a register",
        "monitor": "show volume, drift and results of a register",
        "models": "list backbones and built-in classifiers",
    },
    "Sharing": {
        "export": "write a bundle for ONNX Runtime, OpenVINO or PyTorch",
        "ensemble": "make one bundle of several",
        "split": "make a leak-free split of a data set",
        "cache": "show or clear the cache",
    },
    "Research": {
        "crossval": "cross-validate by lesion or patient, or leave one source out",
        "compare": "train several methods on the same split, with intervals and tests",
        "pretrain": "pretrain a backbone on labeled images",
        "distill": "train a backbone from other networks, without labels",
        "phantom": "draw synthetic dermoscopic images",
    },
}
"""Commands by group. Each is a module of this package with a frozen dataclass `Command` whose method `run` returns the
exit status. What takes long to import is imported inside `run`, after the flags were checked, so that the help and the
errors of a user are there at once."""

NAMES = [name for group in COMMANDS.values() for name in group]
LEFT = "Files that were written are complete; a training goes on with --resume."


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command.

    Args:
        arguments: by default those of the process.

    Returns:
        Exit status: 0, 2 for a user-correctable error, 3 if some images could not be used, 130 after an interrupt,
        143 after SIGTERM.

    """
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    if arguments and arguments[0] == "help":
        arguments = [*arguments[1:2], "--help"]
    if not arguments or arguments[0] in ("-h", "--help"):
        print(_help())
        return 0
    if arguments[0] == "--version":
        from importlib.metadata import version

        print(f"nevus {version('nevus')}")
        return 0
    name = arguments[0]
    if name not in NAMES:
        return _fail(f"Cannot run '{name}': there is no such command.{_near(name)} nevus --help lists all.")
    # Pillow warns of odd tags in files; what matters of a file is said in its own sentence.
    warnings.filterwarnings("ignore", module="PIL")
    before = _terminable()
    try:
        return _run(name, arguments[1:])
    except NevusError as error:
        return _fail(str(error))
    except ImportError as error:
        if error.name is None or error.name.startswith("nevus"):
            raise
        return _fail(_missing(name, error.name))
    except KeyboardInterrupt:
        return _fail(f"Interrupted. {LEFT}", 130)
    except Terminated:
        return _fail(f"Terminated. {LEFT}", 143)
    except MemoryError:
        return _fail("There is not enough memory. Set a lower batch_size, micro_batch_size or image_size.")
    except BrokenPipeError:
        sys.stderr.close()  # whoever read our output has gone; there is nobody to tell
        return 141
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        return _fail(f"{where}{error.strerror or error}. Check the path, its permissions and the free space.")
    finally:
        if before is not None:
            signal.signal(signal.SIGTERM, before)


def _run(name: str, arguments: Sequence[str]) -> int:
    import tyro

    command = importlib.import_module(f"nevus.cli.{name}").Command
    if set(arguments) & {"-h", "--help", "--help-all"}:
        from nevus.cli._help import print_help

        print_help(command, f"nevus {name}", everything="--help-all" in arguments)
        return 0
    arguments = _merged(arguments)
    several = {f"--{one.name.replace('_', '-')}" for one in fields(command) if "tuple[" in str(one.type)}
    flags = [word.partition("=")[0] for word in arguments]
    twice = next((flag for flag in flags if flag in several and flags.count(flag) > 1), "")
    if twice:
        raise NevusError(f"Cannot use {twice} twice: only the last would count. Give all its values after one.")
    parsed: Any = tyro.cli(command, prog=f"nevus {name}", args=list(arguments), config=(tyro.conf.FlagCreatePairsOff,))
    return int(parsed.run())


def _merged(arguments: Sequence[str]) -> list[str]:
    """Collect the values of every `--set` after the first one, so that it may be repeated."""
    merged: list[str] = []
    values: list[str] = []
    place, taking = -1, False
    for word in arguments:
        if word == "--set":
            place, taking = (len(merged) if place < 0 else place), True
        elif taking and not word.startswith("-") and "=" in word:
            values.append(word)
        else:
            taking = False
            merged.append(word)
    return [*merged[:place], "--set", *values, *merged[place:]] if place >= 0 else merged


class Terminated(BaseException):
    """SIGTERM came: a queue's time is up, or a machine goes down."""


def _terminable() -> signal.Handlers | Callable[[int, FrameType | None], Any] | int | None:
    """Turn SIGTERM into an exception, so that files are closed and the lock is released; return the handler before."""
    if threading.current_thread() is not threading.main_thread():
        return None  # Python delivers signals to the main thread only

    def leave(_number: int, _frame: FrameType | None) -> None:
        raise Terminated

    return signal.signal(signal.SIGTERM, leave)


EXTRAS = {
    **dict.fromkeys(("pydicom", "pynetdicom", "highdicom"), "dicom"),
    **dict.fromkeys(("onnx", "openvino"), "export"),
    **dict.fromkeys(
        (
            "fastapi",
            "starlette",
            "uvicorn",
            "sqlalchemy",
            "alembic",
            "multipart",
            "python_multipart",
            "prometheus_client",
            "markdown_it",
            "pydantic",
        ),
        "serve",
    ),
}
"""Extra that brings a package; `train` brings the others."""


def _missing(command: str, package: str) -> str:
    extra = EXTRAS.get(package.partition(".")[0], "train")
    return f'Cannot run nevus {command}: {package} is missing. Install it with pip install "nevus[{extra}]".'


def _fail(sentence: str, status: int = 2) -> int:
    console.quiet = False  # an error is printed by whichever process meets it
    console.print(f"nevus: {sentence}", style="red")
    return status


def _near(name: str) -> str:
    import difflib

    near = difflib.get_close_matches(name, NAMES, 1)
    return f" Did you mean {near[0]}?" if near else ""


def _help() -> str:
    width = max(map(len, NAMES))
    groups = "\n\n".join(
        f"{title}\n" + "\n".join(f"  {name:<{width}}  {what}" for name, what in group.items())
        for title, group in COMMANDS.items()
    )
    return (
        "usage: nevus COMMAND [OPTIONS]\n\nBiT (Big Transfer) transfer learning for images of skin lesions. "
        f"Research use only, not a medical device.\n\n{groups}\n\n"
        "nevus COMMAND --help explains a command; nevus --version prints "
        "the version."
    )
