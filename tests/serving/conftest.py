"""A running service, as a user starts it."""

import contextlib
import os
import re
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest


@dataclass
class Running:
    """A service in a process of its own."""

    url: str
    process: subprocess.Popen
    folder: Path

    @property
    def database(self) -> str:
        return f"sqlite:///{self.folder / 'register.sqlite'}"

    @property
    def client(self) -> httpx.Client:
        return httpx.Client(base_url=self.url, timeout=60)

    def get(self, path, **options):
        return httpx.get(self.url + path, timeout=60, **options)

    def post(self, path, **options):
        return httpx.post(self.url + path, timeout=60, **options)

    def delete(self, path):
        return httpx.delete(self.url + path, timeout=60)

    def stop(self, number=signal.SIGTERM) -> int:
        if self.process.poll() is None:
            self.process.send_signal(number)
        return self.process.wait(30)


def start(folder: Path, bundle, *flags, port: int = 0, database: str | None = None, **environment) -> Running:
    """Start `nevus serve`, by default on a free port, and wait until it is ready."""
    log = folder / "serve.log"
    command = [sys.executable, "-m", "nevus", "serve", "--bundle", str(bundle), "--port", str(port)]
    database = database or f"sqlite:///{folder / 'register.sqlite'}"
    with log.open("wb") as file:
        process = subprocess.Popen(
            [*command, "--database", database, *flags],
            stderr=file,
            stdout=file,
            env={**os.environ, **environment},
        )
    until = time.monotonic() + 60
    while time.monotonic() < until and process.poll() is None:
        found = re.search(r"page: (http://\S+)", log.read_text())
        if found:
            with contextlib.suppress(httpx.TransportError):
                if httpx.get(f"{found[1]}/readyz", timeout=5).status_code == 200:
                    return Running(found[1], process, folder)
        time.sleep(0.05)
    process.kill()
    raise AssertionError(f"the service did not start: {log.read_text()}")


@pytest.fixture(scope="module")
def server(bundle_folder, tmp_path_factory):
    """The service with a small bundle."""
    running = start(tmp_path_factory.mktemp("served"), bundle_folder)
    yield running
    running.stop()


@pytest.fixture
def jpeg(picture):
    """Make the content of a JPEG: `jpeg(seed)`."""
    import io

    def make(seed=0, size=(64, 48), format="JPEG") -> bytes:
        out = io.BytesIO()
        picture(*size, seed).save(out, format=format)
        return out.getvalue()

    return make


def sent(*contents, name="image.jpg"):
    """The multipart field of files."""
    return [("files", (name, content, "application/octet-stream")) for content in contents]
