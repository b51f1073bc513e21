"""Phantoms: synthetic dermoscopic lesions for demos and tests, with known truth."""
