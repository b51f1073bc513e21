"""OpenVINO, without the note that it sends home whenever it is imported.

Nothing here uses the network unless the user asks for a download. With its telemetry package hidden OpenVINO takes
the stub that it has for machines without it.
"""

import sys

_hidden = "openvino_telemetry" not in sys.modules
if _hidden:
    sys.modules["openvino_telemetry"] = None  # type: ignore[assignment]
import openvino  # noqa: E402 - with its telemetry hidden

if _hidden:
    del sys.modules["openvino_telemetry"]

__all__ = ["openvino"]
