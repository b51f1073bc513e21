"""Work in a process of its own: what it dies of is told, and the memory that it takes is its own."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable
from functools import cache
from multiprocessing.connection import Connection, wait
from multiprocessing.context import ForkServerContext
from typing import Any

from nevus.errors import NevusError


def run_in_subprocess(work: Callable[..., None], *arguments: Any) -> None:
    """Call a function in a process of its own, and wait for it.

    Args:
        work: of a module; its arguments are sent to the process.
        arguments: of it.

    Raises:
        NevusError: it raised something, or died; with the reason.

    """
    context = _context()
    here, there = context.Pipe(duplex=False)
    process = context.Process(target=_called, args=(there, os.getcwd(), dict(os.environ), work, arguments))
    process.start()
    there.close()
    try:
        reason = here.recv()
    except EOFError:
        process.join()
        code = process.exitcode or 0
        name = signal.Signals(-code).name if code < 0 else f"status {code}"
        reason = f"its process died ({name}), perhaps for want of memory"
    except BaseException:  # an interrupt: nobody waits for it any more
        process.terminate()
        process.join()
        raise
    process.join()
    if reason:
        raise NevusError(str(reason))


@cache
def _context() -> ForkServerContext:
    """A server that has imported the program and started no thread: a process is forked from it in no time."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["nevus.comparison.trial"])
    return context


def _with_parent() -> None:
    """End with who waits for the answer, however that ended: else a unit would go on unseen beside the next one."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        wait([parent.sentinel])
        os._exit(1)


def _called(
    answer: Connection,
    folder: str,
    environment: dict[str, str],
    work: Callable[..., None],
    arguments: tuple[Any, ...],
) -> None:
    threading.Thread(target=_with_parent, daemon=True).start()
    os.chdir(folder)  # the server's own may be another
    os.environ.update(environment)
    try:
        work(*arguments)
    except Exception as error:  # any fault of a system is a row of the table
        lines = str(error).splitlines()
        own = isinstance(error, NevusError)
        answer.send(lines[0] if own and lines else f"{type(error).__name__}: {next(iter(lines), '')}")
    else:
        answer.send("")
