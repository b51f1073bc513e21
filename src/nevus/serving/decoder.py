"""Decoding of uploads in processes with hard limits of memory and time."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from nevus.data.images import Pixels
from nevus.errors import ImageError
from nevus.serving.config import ServeLimits
from nevus.serving.decode_worker import REPLY, REQUEST

RENEWED_AFTER = 2000
"""Images after which a process is replaced: decoders leak memory."""
MAX_HEAD = 64 * 1024
MAX_PREVIEW = 8 * 1024 * 1024
"""Largest parts of a reply, in bytes: a process that was taken over could announce more."""
RETRY_SECONDS = 1.0
KEPT_VARIABLES = ("PATH", "LD_LIBRARY_PATH", "SYSTEMROOT", "TMPDIR", "TEMP", "LANG", "PYTHONPATH", "VIRTUAL_ENV")
"""Environment of the processes: no token, no password of a database."""


@dataclass(frozen=True)
class DecodedUpload:
    """An upload that could be decoded.

    Attributes:
        squares: uint8 (size, size, 3) for each size that was asked for.
        preview: a JPEG, of formats that browsers do not show; else empty.

    """

    squares: tuple[Pixels, ...]
    preview: bytes


class Decoder:
    """A few processes that decode, each one image at a time."""

    def __init__(self, sizes: Sequence[int], limits: ServeLimits) -> None:
        """Prepare; `start` starts the processes.

        Args:
            sizes: sides of the squares that are wanted.
            limits: of bytes, pixels, memory, time and processes.

        """
        self._sizes, self._limits = tuple(sizes), limits
        self._most = sum(3 * size * size for size in sizes) + MAX_PREVIEW
        self._starting: set[asyncio.Task[None]] = set()
        self._idle: asyncio.LifoQueue[_Worker] = asyncio.LifoQueue()
        self.restarts = 0

    async def start(self) -> None:
        """Start the processes."""
        for worker in await asyncio.gather(*(self._new() for _ in range(self._limits.decode_workers))):
            self._idle.put_nowait(worker)

    async def decode(self, content: bytes) -> DecodedUpload:
        """Decode one image.

        Args:
            content: of the file. Its name, which may name a patient, is not in the messages.

        Raises:
            ImageError: it cannot be used, or takes too long or too much memory.

        """
        worker = await self._idle.get()
        good = False
        try:
            async with asyncio.timeout(self._limits.decode_timeout):
                head, data = await worker.ask(content, self._most)
            good = worker.served < RENEWED_AFTER
        except (TimeoutError, EOFError, OSError, ValueError, RuntimeError):
            raise ImageError(
                "Cannot read the image: decoding it takes too much time or memory. Save it as a smaller JPEG or PNG."
            ) from None
        finally:  # after a cancellation, too, the process is in the middle of a reply
            if not good:
                self.restarts += worker.served < RENEWED_AFTER
                task = asyncio.create_task(self._replace(worker))
                self._starting.add(task)  # the loop itself keeps no reference
                task.add_done_callback(self._starting.discard)
            else:
                self._idle.put_nowait(worker)
        if "error" in head:
            raise ImageError(str(head["error"]))
        squares, start = [], 0
        for size in self._sizes:
            end = start + size * size * 3
            squares.append(np.frombuffer(data[start:end], np.uint8).reshape(size, size, 3))
            start = end
        return DecodedUpload(tuple(squares), data[start:])

    async def close(self) -> None:
        """End the processes."""
        if self._starting:
            await asyncio.wait(self._starting, timeout=5)
        while not self._idle.empty():
            await self._idle.get_nowait().end()

    async def _new(self) -> _Worker:
        settings = {
            "sizes": self._sizes,
            "pixels": self._limits.max_pixels,
            "bytes": self._limits.max_file_bytes,
            "memory": self._limits.decode_memory,
        }
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "nevus.serving.decode_worker",
            json.dumps(settings),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
            env={
                **{name: os.environ[name] for name in KEPT_VARIABLES if name in os.environ},
                "OMP_NUM_THREADS": "1",
                "OPENBLAS_NUM_THREADS": "1",
            },
            start_new_session=True,  # an interrupt from the keyboard is the service's to handle
        )
        return _Worker(process)

    async def _replace(self, worker: _Worker) -> None:
        await worker.end()
        while True:
            try:
                self._idle.put_nowait(await self._new())
                return
            except OSError:  # no memory or file descriptor is free now
                await asyncio.sleep(RETRY_SECONDS)


class _Worker:
    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process, self.served = process, 0

    async def ask(self, content: bytes, most: int) -> tuple[dict[str, object], bytes]:
        source, out = self._process.stdout, self._process.stdin
        assert source is not None
        assert out is not None
        self.served += 1
        out.write(REQUEST.pack(len(content)))
        out.write(content)
        await out.drain()
        head_size, data_size = REPLY.unpack(await source.readexactly(REPLY.size))
        if head_size > MAX_HEAD or data_size > most:
            raise ValueError("the reply is too large")
        head = json.loads(await source.readexactly(head_size))
        return head, await source.readexactly(data_size)

    async def end(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            self._process.kill()
        if self._process.stdin is not None:
            self._process.stdin.close()
        with contextlib.suppress(TimeoutError):  # asyncio waits for the pipes, too; the process itself is gone
            await asyncio.wait_for(self._process.wait(), 5)
