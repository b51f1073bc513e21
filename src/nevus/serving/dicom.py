"""A DICOM node: receives images by C-STORE, and gives back a Structured Report and a heat map for each."""

from __future__ import annotations

import asyncio
import logging
import re
import threading
import time
from collections.abc import Coroutine, Sequence
from concurrent.futures import CancelledError
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from PIL import Image
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.errors import InvalidDicomError
from pydicom.filebase import DicomBytesIO
from pydicom.uid import (
    JPEG2000,
    UID,
    EnhancedSRStorage,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    RLELossless,
    SecondaryCaptureImageStorage,
    VLPhotographicImageStorage,
)
from pynetdicom import AE, evt
from pynetdicom.sop_class import Verification

from nevus._io import atomic_path
from nevus._progress import console
from nevus.errors import NevusError
from nevus.serving.dicom_objects import secondary_capture, structured_report
from nevus.serving.service import Served, Service

T = TypeVar("T")
DERMOSCOPIC = UID("1.2.840.10008.5.1.4.1.1.77.1.7")
"""Dermoscopic Photography Image Storage (PS3.4, B.5)."""
RECEIVED = (DERMOSCOPIC, VLPhotographicImageStorage, SecondaryCaptureImageStorage)
SYNTAXES = (
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEGBaseline8Bit,
    JPEG2000Lossless,
    JPEG2000,
    RLELossless,
)
SUCCESS, REFUSED, NOT_UNDERSTOOD = 0x0000, 0xA700, 0xC000
"""Statuses of C-STORE (PS3.4, B.2.3)."""
PREFIX = "nevus-"
"""Of the names of results: other files in the folder are not sent."""
PEER_SECONDS = 10
ANSWER_SECONDS = 0.3
MAX_ASSOCIATIONS = 10
AE_TITLE = re.compile(r"[ -\[\]-~]{1,16}")
"""Printable ASCII without the backslash, at most 16 characters (PS3.5, 6.2)."""


@dataclass(frozen=True)
class Peer:
    """A node that results are sent to.

    Attributes:
        title: its application entity title.
        host: name or address.
        port: of its C-STORE service.

    """

    title: str
    host: str
    port: int

    @classmethod
    def parse(cls, text: str) -> Peer:
        """Read `AET@HOST:PORT`.

        Raises:
            NevusError: it is none.

        """
        title, at, address = text.partition("@")
        host, colon, port = address.rpartition(":")
        if not (at and colon and host and port.isdigit() and 0 < int(port) < 65536 and AE_TITLE.fullmatch(title)):
            raise NevusError(
                f"Cannot use --dicom-node '{text}': it is no AET@HOST:PORT. Write it as in PACS@10.0.0.5:104."
            )
        return cls(title, host.strip("[]"), int(port))


class DicomNode:
    """Receives images into the service's queue and register.

    Results are written into a folder first. Where there is a peer they are sent to it, and removed from the folder once
    the peer has them; what could not be sent is sent with the next image, or after the next start.
    """

    def __init__(
        self,
        service: Service,
        host: str,
        port: int,
        folder: Path,
        *,
        title: str = "NEVUS",
        peer: Peer | None = None,
        allowed: Sequence[str] = (),
    ) -> None:
        """Prepare a node.

        Args:
            service: that predicts.
            host: address to bind.
            port: to bind; 0 takes a free one.
            folder: for the results.
            title: application entity title.
            peer: that results are sent to.
            allowed: titles of applications that may send; empty for all.

        """
        self._service, self._host, self._port, self._folder = service, host, port, folder
        self._title, self._peer = title, peer
        self._loop: asyncio.AbstractEventLoop | None = None
        self._server: Any = None
        self._active, self._stopping = 0, False
        self._counting = threading.Condition()
        self._wanted = threading.Event()
        self._delivery = threading.Thread(target=self._deliver_all, name="nevus-dicom-delivery", daemon=True)
        self._ae = AE(ae_title=title)
        self._ae.maximum_associations = MAX_ASSOCIATIONS
        self._ae.require_called_aet = True
        self._ae.require_calling_aet = list(allowed)
        self._ae.add_supported_context(Verification)
        for sop_class in RECEIVED:
            self._ae.add_supported_context(sop_class, list(SYNTAXES))
        # pynetdicom logs every message of every association, with the names of patients.
        logging.getLogger("pynetdicom").setLevel(logging.CRITICAL)

    @property
    def port(self) -> int:
        """The port that is bound; that of the constructor before the start."""
        return self._port if self._server is None else int(self._server.server_address[1])

    async def start(self) -> None:
        """Bind the port.

        Raises:
            NevusError: it cannot be bound.

        """
        self._loop = asyncio.get_running_loop()
        handlers = [(evt.EVT_C_STORE, self._received)]
        try:
            self._server = self._ae.start_server((self._host, self._port), block=False, evt_handlers=handlers)
        except OSError as error:
            raise NevusError(
                f"Cannot receive DICOM on {self._host} port {self._port}: {error.strerror or error}. Choose another "
                "--dicom-port."
            ) from None
        if self._peer is not None:
            self._wanted.set()  # for what was left by an earlier run
            self._delivery.start()
        console.print(f"DICOM: {self._title}@{self._host}:{self.port}, results in {self._folder}", highlight=False)

    async def stop(self) -> None:
        """Finish the images that are under way, refuse others, and close the port."""
        self._stopping = True
        if self._server is not None:
            await asyncio.to_thread(self._server.shutdown)
            await asyncio.to_thread(self._finish)
            await asyncio.to_thread(self._ae.shutdown)
        self._wanted.set()

    def _finish(self) -> None:
        with self._counting:
            self._counting.wait_for(lambda: not self._active, timeout=self._service.limits.request_timeout)
        time.sleep(ANSWER_SECONDS)  # the answer of the last image is on its way

    def _received(self, event: Any) -> int:
        """Answer one C-STORE; in a thread of pynetdicom."""
        if self._stopping:
            return REFUSED
        with self._counting:
            self._active += 1
        try:
            return self._stored(event)
        finally:
            with self._counting:
                self._active -= 1
                self._counting.notify_all()

    def _waited(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine of the service, and wait for it as long as a request may take."""
        assert self._loop is not None
        future = asyncio.run_coroutine_threadsafe(coroutine, self._loop)
        try:
            return future.result(self._service.limits.request_timeout)
        except TimeoutError:
            future.cancel()
            raise

    def _stored(self, event: Any) -> int:
        """Predict one image. It is acknowledged once everything is on the disk."""
        content = event.encoded_dataset()
        if len(content) > self._service.limits.max_file_bytes:
            return REFUSED
        client = f"dicom:{event.assoc.requestor.ae_title}"
        try:
            name = str(event.request.AffectedSOPInstanceUID)
            _, (served,) = self._waited(self._service.predict([(name, content)], client))
            if served.entry.probabilities is None:
                return NOT_UNDERSTOOD
            self._write(served, dcmread(DicomBytesIO(content), stop_before_pixels=True))
        except (NevusError, TimeoutError, CancelledError) as error:
            console.print(f"DICOM: an image was refused: {error}", style="red", highlight=False)
            return REFUSED
        except Exception as error:  # a hostile header may raise anything in pydicom or highdicom
            console.print(f"DICOM: an image was refused: {type(error).__name__}", style="red", highlight=False)
            return NOT_UNDERSTOOD
        self._wanted.set()
        return SUCCESS

    def _write(self, served: Served, image: Dataset) -> None:
        """Write the results of an image; each file is written whole or not at all."""
        found = self._waited(self._service.explanation(served.entry.id))
        results = [structured_report(image, served.entry, served.outcome)]
        if found is not None:
            explanation, recent = found
            picture = recent.picture()
            overlay = Image.alpha_composite(picture.convert("RGBA"), explanation.layer(picture.size))
            results.append(secondary_capture(image, served.entry, served.outcome, overlay))
        for result in results:
            with atomic_path(self._folder / f"{PREFIX}{result.SOPInstanceUID}.dcm") as aside:
                result.save_as(aside, enforce_file_format=True)

    def _deliver_all(self) -> None:
        """Send whenever something was written; in a thread of its own, so that no sender waits for the peer."""
        while True:
            self._wanted.wait()
            self._wanted.clear()
            if self._stopping:
                return
            self.deliver()

    def deliver(self) -> int:
        """Send what is in the folder to the peer; return how many files remain."""
        assert self._peer is not None
        waiting = sorted(self._folder.glob(f"{PREFIX}*.dcm"))
        if not waiting:
            return 0
        ae = AE(ae_title=self._title)
        ae.connection_timeout = ae.acse_timeout = ae.dimse_timeout = PEER_SECONDS
        for sop_class in (EnhancedSRStorage, SecondaryCaptureImageStorage):
            ae.add_requested_context(sop_class, [ExplicitVRLittleEndian, ImplicitVRLittleEndian])
        association = ae.associate(self._peer.host, self._peer.port, ae_title=self._peer.title)
        left = len(waiting)
        if association.is_established:
            for path in waiting:
                try:
                    status = association.send_c_store(path)
                except (ValueError, RuntimeError, AttributeError, OSError, InvalidDicomError):
                    # A peer may accept one kind of object and not the other; a file may be gone.
                    continue
                if status and status.Status == SUCCESS:
                    path.unlink(missing_ok=True)
                    left -= 1
            association.release()
        if left:
            console.print(f"DICOM: {left} results wait for {self._peer.title}", style="yellow", highlight=False)
        return left
