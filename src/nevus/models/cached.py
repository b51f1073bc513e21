"""Which weights are on this machine, found without torch."""

from __future__ import annotations

from pathlib import Path

from nevus._io import cache_folder
from nevus.models.registry import RANDOM, BackboneSpec


def cached_file(spec: BackboneSpec) -> Path:
    """Where the authors' file of a backbone lies, or would lie."""
    return cache_folder("weights") / spec.address.rsplit("/", 1)[-1]


def on_this_machine(spec: BackboneSpec) -> bool:
    """Whether a backbone's weights are here, so that it can be used offline."""
    if spec.origin == RANDOM:
        return True
    if spec.origin == "builtin":
        return True
    if spec.origin == "npz":
        return cached_file(spec).is_file()
    return in_hub_cache(spec)


def in_hub_cache(spec: BackboneSpec) -> bool:
    """Whether a model of the Hugging Face hub is in the hub's own cache."""
    from huggingface_hub import try_to_load_from_cache

    from nevus.models.timm_library import timm

    if spec.address.startswith("hf-hub:"):
        repository = spec.address.removeprefix("hf-hub:")
    else:
        known = timm.get_pretrained_cfg(spec.address, allow_unregistered=True)
        repository = getattr(known, "hf_hub_id", None) or ""
    if not repository:
        return False
    names = ("model.safetensors", "pytorch_model.bin")
    return any(isinstance(try_to_load_from_cache(repository, name), str) for name in names)
