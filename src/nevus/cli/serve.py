"""`nevus serve`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

from nevus._io import ensure_writable
from nevus._progress import console
from nevus.bundle.model_card import DISCLAIMER
from nevus.cli._flags import flag
from nevus.cli._number import OptionalFloat
from nevus.errors import NevusError
from nevus.runtime.allocator import return_memory
from nevus.serving.config import ServeLimits, access_of, is_loopback

if TYPE_CHECKING:
    from nevus.serving.dicom import DicomNode
    from nevus.serving.service import Service


@dataclass(frozen=True)
class Command:
    """Serve a bundle over HTTP, with a web page and a register of all predictions.

    Research use only, not a medical device. Images are not kept unless --keep-images is given. The command ends on
    SIGTERM or Ctrl-C, after it has finished what is under way.
    """

    bundle: Path = Path("malignant-benign")
    """Folder that training wrote, as in runs/NAME/bundle, or the name of a built-in classifier, see nevus models."""
    host: str = "127.0.0.1"
    """Address to bind. Only this machine reaches the default; another one needs a token."""
    port: int = 8080
    """Port to bind; 0 takes a free one."""
    database: str | None = None
    """Register of predictions: sqlite:///PATH or postgresql://USER@HOST/NAME. By default an SQLite file in the user's
    data folder."""
    token_file: Path | None = None
    """File with the token that requests must carry. By default the environment variable NEVUS_TOKEN, if it is set."""
    insecure: bool = False
    """Bind an address that other machines reach without a token."""
    keep_images: Path | None = None
    """Folder for the images that come in, named by their digest. By default none is kept."""
    sensitivity: OptionalFloat = None
    """Guaranteed sensitivity that decisions are made at, where the bundle has a threshold for it. By default 0.95."""
    prevalence: OptionalFloat = None
    """Share of the positive class where the classifier is used, as 0.02; it re-weights the probabilities."""
    dicom_port: int | None = None
    """Port on which images are received by DICOM C-STORE, as 11112; by default none."""
    dicom_title: str = flag("NEVUS", "DICOM", advanced=True)
    """Application entity title of the service."""
    dicom_out: Path | None = flag(None, "DICOM", advanced=True)
    """Folder for the Structured Reports and heat maps. By default dicom-results in the user's data folder."""
    dicom_node: str | None = flag(None, "DICOM", advanced=True)
    """Node that they are sent to, AET@HOST:PORT. By default they stay in the folder."""
    dicom_allow: tuple[str, ...] = flag((), "DICOM", advanced=True)
    """Titles of the applications that may send; by default all. Needed where other machines reach the port."""
    limits: Annotated[ServeLimits, tyro.conf.arg(name="")] = flag(ServeLimits(), "Limits", advanced=True)

    def run(self) -> int:
        """Serve; exit status."""
        access = access_of(self.host, self.token_file, insecure=self.insecure)
        if self.prevalence is not None and not 0 < self.prevalence < 1:
            raise NevusError(
                f"Cannot use --prevalence {self.prevalence}: it is not between 0 and 1. Give a share, as 0.02."
            )
        if self.keep_images is not None:
            ensure_writable(self.keep_images, "--keep-images")
        from nevus.bundle.classifier import load
        from nevus.bundle.wording import operating_point_sentence
        from nevus.register.register import Register, default_url
        from nevus.serving.app import create_app
        from nevus.serving.server import listen, run
        from nevus.serving.service import Service

        return_memory()
        classifier = load(self.bundle, sensitivity=self.sensitivity)
        if self.prevalence is not None and len(classifier.bundle.rule.class_shares) != 2:
            raise NevusError(
                f"Cannot use --prevalence: {self.bundle} does not know the shares of two classes. Leave it out."
            )
        register = Register(self.database or default_url())
        service = Service(classifier, register, self.limits, prevalence=self.prevalence, keep_images=self.keep_images)
        companions = [] if self.dicom_port is None else [self._dicom_node(service)]
        bound = listen(self.host, self.port)
        port = bound.getsockname()[1]
        host = f"[{self.host}]" if ":" in self.host else self.host
        console.print(f"page: http://{host}:{port}   API: http://{host}:{port}/openapi.json", highlight=False)
        console.print(f"register: {register.url}   {'token needed' if access.token else 'no token'}", highlight=False)
        console.print(operating_point_sentence(classifier.bundle.rule, classifier.classes[-1]), highlight=False)
        console.print(DISCLAIMER, highlight=False)
        run(create_app(service, access, self.bundle.name, companions), bound, self.limits)
        return 0

    def _dicom_node(self, service: Service) -> DicomNode:
        from nevus.register.register import data_folder
        from nevus.serving.dicom import AE_TITLE, DicomNode, Peer

        assert self.dicom_port is not None
        for title in (self.dicom_title, *self.dicom_allow):
            if not AE_TITLE.fullmatch(title):
                raise NevusError(
                    f"Cannot use the DICOM title '{title}': it needs 1 to 16 printable ASCII characters. Correct it."
                )
        if not is_loopback(self.host) and not self.dicom_allow and not self.insecure:
            raise NevusError(
                f"Cannot receive DICOM on {self.host}: any machine could send. Name the senders with --dicom-allow, or "
                "add --insecure."
            )
        folder = self.dicom_out or data_folder() / "dicom-results"
        return DicomNode(
            service,
            self.host,
            self.dicom_port,
            ensure_writable(folder, "--dicom-out"),
            title=self.dicom_title,
            peer=Peer.parse(self.dicom_node) if self.dicom_node else None,
            allowed=self.dicom_allow,
        )
