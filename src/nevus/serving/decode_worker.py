"""A process that decodes untrusted images: `python -m nevus.serving.decode_worker`.

It reads requests from standard input and writes replies to standard output. A hostile file that crashes a decoder, or
that takes too much memory, ends this process and nothing else. It cannot write files.
"""

from __future__ import annotations

import io
import json
import struct
import sys
import warnings
from typing import Any, BinaryIO

from PIL import Image

from nevus.data.images import Limits, Pixels, decode_content
from nevus.data.preprocess import resize_square
from nevus.errors import ImageError

REQUEST = struct.Struct(">I")
"""Bytes of the content, which follows."""
REPLY = struct.Struct(">II")
"""Bytes of a JSON object and of the data, which follow."""
SHOWN_BY_BROWSERS = (b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"RIFF")
"""First bytes of JPEG, PNG and WebP files. Of others a preview is made."""
PREVIEW_SIDE = 768
NAME = "image"
"""What messages call an upload: its own name may name a patient."""


def main() -> None:
    """Answer requests until standard input ends."""
    settings = json.loads(sys.argv[1])
    _restrict(int(settings["memory"]))
    warnings.simplefilter("ignore")
    limits = Limits(pixels=int(settings["pixels"]), bytes=int(settings["bytes"]))
    source, out = sys.stdin.buffer, sys.stdout.buffer
    while head := source.read(REQUEST.size):
        content = source.read(*REQUEST.unpack(head))
        try:
            pixels = decode_content(content, NAME, limits)
            squares = [resize_square(pixels, int(size)) for size in settings["sizes"]]
            preview = b"" if content.startswith(SHOWN_BY_BROWSERS) else _preview(pixels)
        except ImageError as error:
            _reply(out, {"error": str(error).replace(f"'{NAME}'", "the image")})
        except MemoryError:
            _reply(out, {"error": "Cannot read the image: it needs too much memory. Save it smaller."})
        else:
            _reply(out, {"preview": len(preview)}, *(one.tobytes() for one in squares), preview)


def _restrict(memory: int) -> None:
    """Limit the address space, and forbid files (POSIX; on other systems the time limit alone protects)."""
    try:
        import resource
    except ImportError:
        return
    resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def _preview(pixels: Pixels) -> bytes:
    image = Image.fromarray(pixels)
    image.thumbnail((PREVIEW_SIDE, PREVIEW_SIDE))
    out = io.BytesIO()
    image.save(out, format="JPEG", quality=85)
    return out.getvalue()


def _reply(out: BinaryIO, head: dict[str, Any], *data: bytes) -> None:
    text = json.dumps(head).encode()
    out.write(REPLY.pack(len(text), sum(map(len, data))) + text)
    for one in data:
        out.write(one)
    out.flush()


if __name__ == "__main__":
    main()
