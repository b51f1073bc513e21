"""Networks. timm imports torchvision, which must have been made importable before."""

import nevus._torchvision  # noqa: F401 - before timm imports torchvision
