"""The command line: `nevus COMMAND ...`."""

from __future__ import annotations

import importlib
import signal
import sys
import threading
import warnings
from collections.abc import Callable, Sequence
from dataclasses import fields
from importlib.metadata import version
from types import FrameType
from typing import Any

from nevus._progress import console
from nevus.errors import NevusError

COMMANDS = {
    "train": "fine-tune a BiT on labeled images",
    "audit": "copies, leaks, shortcuts and doubtful labels of a data set",
    "compare": "the table of the paper: several systems on the same split, with intervals and tests",
    "split": "a leak-free split of a data set",
    "evaluate": "figures of a bundle on a data set, each with its interval",
    "predict": "probabilities for images and folders",
    "distill": "teach a trunk what other networks see in images without labels",
    "pretrain": "train a trunk on labeled images of any kind, before it is fine-tuned",
    "export": "a bundle for ONNX Runtime, OpenVINO or PyTorch, checked against itself",
    "recipe": "what each recipe would do with a data set",
    "models": "the networks by name",
    "phantom": "draw synthetic dermoscopic lesions",
}
"""Each is a module of this package with a frozen dataclass `Command` and its method `run() -> exit status`."""


LEFT = "what was written is whole; a training goes on with --resume."


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command.

    Args:
        arguments: by default those of the process.

    Returns:
        Exit status: 0, 2 for a fault that the user can mend, 3 where some images could not be used, 130 after
        an interrupt, 143 after SIGTERM.

    """
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    if not arguments or arguments[0] in ("-h", "--help"):
        print(_help())
        return 0
    if arguments[0] == "--version":
        print(f"nevus {version('nevus')}")
        return 0
    if arguments[0] not in COMMANDS:
        return _told(f"there is no command '{arguments[0]}'; choose one of {', '.join(COMMANDS)}.")
    import tyro

    # Pillow warns of odd tags in files; what matters of a file is said in its own sentence.
    warnings.filterwarnings("ignore", module="PIL")
    module = importlib.import_module(f"nevus.cli.{arguments[0]}")
    several = {f"--{one.name.replace('_', '-')}" for one in fields(module.Command) if "tuple[" in str(one.type)}
    flags = [word.partition("=")[0] for word in arguments[1:]]
    twice = next((flag for flag in flags if flag in several and flags.count(flag) > 1), "")
    if twice:
        return _told(f"{twice} is given twice, and only the last would count; give all its values after one.")
    before = _terminable()
    try:
        command = tyro.cli(module.Command, prog=f"nevus {arguments[0]}", args=arguments[1:])
        return int(command.run())
    except NevusError as error:
        return _told(str(error))
    except KeyboardInterrupt:
        return _told(f"interrupted; {LEFT}", 130)
    except Terminated:
        return _told(f"terminated; {LEFT}", 143)
    except MemoryError:
        return _told("there is not enough memory; lower --batch, --micro-batch or --side.")
    except BrokenPipeError:
        sys.stderr.close()  # whoever read our output has gone; there is nobody to tell
        return 141
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        return _told(f"{where}{error.strerror or error}; check the path, its permissions and the free space.")
    finally:
        if before is not None:
            signal.signal(signal.SIGTERM, before)


class Terminated(BaseException):
    """SIGTERM came: a queue's time is up, or a machine goes down."""


def _terminable() -> signal.Handlers | Callable[[int, FrameType | None], Any] | int | None:
    """Turn SIGTERM into an exception, so that files are closed and the lock is let go; the handler before."""
    if threading.current_thread() is not threading.main_thread():
        return None  # Python delivers signals to the main thread only

    def leave(_number: int, _frame: FrameType | None) -> None:
        raise Terminated

    return signal.signal(signal.SIGTERM, leave)


def _told(sentence: str, status: int = 2) -> int:
    console.quiet = False  # a fault is told by whichever process meets it
    console.print(f"nevus: {sentence}", style="red")
    return status


def _help() -> str:
    width = max(map(len, COMMANDS))
    listed = "\n".join(f"  {name:<{width}}  {what}" for name, what in COMMANDS.items())
    return (
        "usage: nevus COMMAND ...\n\nBiT transfer learning for images of skin lesions. Research use only, "
        f"not a medical device.\n\n{listed}\n\nnevus COMMAND --help says more; nevus --version the version."
    )
