"""Real processes of nevus that are forked from one that has imported it: a start takes milliseconds, not seconds."""

import multiprocessing
import os
import signal
import sys
from multiprocessing import forkserver
from pathlib import Path
from unittest import mock

from nevus.cli.main import main
from nevus.comparison.trial import Trial, run_planned

_CONTEXT = multiprocessing.get_context("forkserver")
# Not nevus.baselines.learners: its import starts a thread, which a forked process may wait for in vain.
_CONTEXT.set_forkserver_preload(
    [
        "nevus.cli.train",
        "nevus.training.trainer",
        "nevus.training.runtime_estimate",
        "nevus.pretraining.distill",
        "nevus.report.training",
        "matplotlib.pyplot",
        "tensorboard.summary.writer",
        "sklearn.ensemble",
    ]
)


class Forked:
    """A process that runs a function; what it prints is kept in a file."""

    def __init__(self, log: Path, target, *arguments):
        self._log = log
        # A sum on one thread and one on two differ in the last bit.
        with mock.patch.dict(os.environ, OMP_NUM_THREADS="1"):
            forkserver.ensure_running()
        self._process = _CONTEXT.Process(target=_run, args=(log, target, arguments))
        self._process.start()

    def poll(self) -> int | None:
        """Return the exit status, or None while the process runs."""
        return self._process.exitcode

    def wait(self) -> int:
        """Wait for the end; return the exit status, negative for the signal that killed the process."""
        self._process.join()
        assert self._process.exitcode is not None
        return self._process.exitcode

    def send_signal(self, number: signal.Signals) -> None:
        """Send a signal unless the process has ended."""
        if self.poll() is None:
            os.kill(self._process.pid, number)

    def output(self) -> str:
        """Return what was printed so far."""
        return self._log.read_text("utf-8") if self._log.exists() else ""


def nevus(log: Path, *words: object) -> Forked:
    """Start the command line with these words."""
    return Forked(log, main, [str(word) for word in words])


def run_trial(out: Path, trial: Trial) -> int:
    """Run one trial of a comparison; return its exit status."""
    return Forked(out / "trial.log", run_planned, out, trial.name).wait()


def _run(log, target, arguments):
    file = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    os.dup2(file, 2)
    os.dup2(file, 1)
    sys.exit(target(*arguments))
