"""The Trainer: a Manifest and a configuration to a Bundle."""

from __future__ import annotations

import contextlib
import json
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from nevus._io import write_text
from nevus._progress import console
from nevus.bundle.bundle import load_bundle
from nevus.bundle.classifier import Classifier
from nevus.bundle.image_check import CHECK_IMAGE_SIZE
from nevus.data.cache import Cache
from nevus.data.decoded import decode_dataset
from nevus.data.manifest import Manifest
from nevus.data.perceptual_hash import AUDIT_IMAGE_SIZE
from nevus.errors import NevusError
from nevus.models.label_groups import LabelGroups
from nevus.models.model import build_model
from nevus.models.registry import AUTO, backbone_spec, is_permissive
from nevus.models.spec import ModelSpec
from nevus.models.weights import license_of_weights, load_pretrained, resolve_backbone
from nevus.runtime.distributed import current_world
from nevus.training.config import TrainConfig
from nevus.training.fine_tune import fine_tune, lp_ft
from nevus.training.fit import Fit, Tuner, check_sizes
from nevus.training.history import StageTimer
from nevus.training.linear_probe import linear_probe
from nevus.training.overrides import Overrides, checked, make_config
from nevus.training.preparation import Preparation, dataset_stats, report_faults
from nevus.training.presets import preset_named
from nevus.training.record import save_result
from nevus.training.run_dir import RunDir, check_startable

TUNERS: dict[str, Tuner] = {"linear-probe": linear_probe, "full": fine_tune, "lp-ft": lp_ft}
"""What trains a network, by `TrainConfig.tuning`."""


@dataclass(frozen=True)
class Trainer:
    """Fine-tunes a BiT, or another network.

    Attributes:
        preset: `best`, `fast`, `paper` or `hyperrule`, see `nevus.training.presets`.
        backbone: name of the network; `auto` chooses the largest that this machine can train.
        weights: `auto` for the backbone's own, `random`, or the path of an .npz or .safetensors file.
        overrides: values that replace the preset's, by the field of `TrainConfig`.
        epochs: passes over the training images, instead of the preset's length.
        seed: of the order of the images, of augmentation and MixUp, and of random weights.
        group_labels: coarse classes, each `CLASS=LABEL,LABEL`; see `nevus.models.label_groups`.
        class_prior: factors on the priors of the data's classes, each `LABEL=FACTOR`.
        permissive_only: take only weights that may be used for any purpose.
        license: of the trained weights, where the data's license is not known by name.
        preparation: of the data set: groups, split, leakage.

    Raises:
        NevusError: the seed is out of range.

    """

    preset: str = "best"
    backbone: str = AUTO
    weights: str = "auto"
    overrides: Overrides = field(default_factory=dict)
    epochs: float | None = None
    seed: int = 0
    group_labels: tuple[str, ...] = ()
    class_prior: tuple[str, ...] = ()
    permissive_only: bool = False
    license: str = ""
    preparation: Preparation = Preparation()

    def __post_init__(self) -> None:
        if not 0 <= self.seed < 2**63:
            raise NevusError(f"Cannot use the seed {self.seed}: it must be from 0 to 2^63 - 1. Correct --seed.")
        preset_named(self.preset)
        object.__setattr__(self, "overrides", checked(self.overrides))

    def plan(self, manifest: Manifest) -> tuple[ModelSpec, TrainConfig]:
        """Return what `fit` would train on a prepared data set, and how.

        Raises:
            NevusError: a setting makes no sense.

        """
        backbone = backbone_spec(self.backbone)
        groups = LabelGroups.parse(self.group_labels, manifest.classes, self.class_prior) if self.group_labels else None
        if self.class_prior and groups is None:
            raise NevusError("Cannot use --class-prior: it needs label groups. Give --group-labels too.")
        config = self._config(manifest.split("train"))
        spec = ModelSpec(
            backbone=backbone.name,
            classes=groups.classes if groups else manifest.classes,
            feature_stages=config.feature_stages,
            pooling=config.pooling,
            label_groups=groups,
            image_size=config.image_size,
            mean=backbone.mean,
            std=backbone.std,
        )
        return spec, config

    def fit(
        self, manifest: Manifest, out: Path | str, *, resume: bool = False, timer: StageTimer | None = None
    ) -> Classifier:
        """Train on the split `train`, choose on `validation`, and save the bundle `out/bundle`.

        The test split is not used.

        Args:
            manifest: the data set.
            out: folder of the run.
            resume: go on with the run in that folder.
            timer: counts the seconds of each stage; fine-tuning ends early when its time limit is over.

        Raises:
            NevusError: the data set, the settings or the folder are at fault, or the loss is not finite.

        """
        if self.backbone == AUTO:
            backbone = resolve_backbone(AUTO, permissive=self.permissive_only)
            return replace(self, backbone=backbone).fit(manifest, out, resume=resume, timer=timer)
        # Wrong settings are reported before minutes are spent.
        out, timer, world = Path(out), timer or StageTimer(), current_world()
        check_startable(out, resume=resume)
        self._check_license()
        manifest, protocol = self.preparation.apply(manifest, timer, sizes=self._sizes(manifest))
        spec, config = self.plan(manifest)
        backbone_network, weights = load_pretrained(self.backbone, seed=self.seed, weights=self.weights)
        network = build_model(spec, backbone_network)
        check_sizes(network, spec, config)
        settings = self._settings(manifest, spec, config, weights, protocol)
        if not world.main:
            world.barrier()  # until the folder is there
        with RunDir.open(out, settings, resume=resume, writes=world.main) as run:
            if world.main:
                world.barrier()
            if run.bundle.exists():
                console.print(f"{out} is complete; its bundle is {run.bundle}")
                return Classifier(load_bundle(run.bundle))
            if world.main:
                manifest.save(out / "manifest.parquet")
                write_text(out / "train.toml", self.as_toml())
            with contextlib.closing(Cache(self.preparation.cache)) as cache:
                job = self._decode(manifest, spec, config, run, cache, timer)
                logits = TUNERS[config.tuning](network, job)
                if world.main:
                    save_result(job, network, logits, settings, self.license)
            world.barrier()
        return Classifier(load_bundle(run.bundle))

    def as_toml(self) -> str:
        """Return the settings as `nevus train --config` reads them."""
        own = {name: getattr(self, name) for name in ("preset", "backbone", "weights", "seed", "epochs")}
        own |= {"group_labels": list(self.group_labels), "class_prior": list(self.class_prior)}
        lines = [f"{name} = {_toml(value)}" for name, value in own.items() if value is not None]
        return "\n".join([*lines, "", "[overrides]", *(f"{k} = {_toml(v)}" for k, v in self.overrides.items()), ""])

    def _config(self, train: Manifest) -> TrainConfig:
        stats = dataset_stats(train, backbone_spec(self.backbone))
        return make_config(self.preset, stats, self.overrides, epochs=self.epochs)

    def _sizes(self, manifest: Manifest) -> set[int]:
        """Return the sizes that images will be decoded to, before the splits are known."""
        config = self._config(manifest)
        return {config.image_size, _stored_size(config)}

    def _decode(
        self, manifest: Manifest, spec: ModelSpec, config: TrainConfig, run: RunDir, cache: Cache, timer: StageTimer
    ) -> Fit:
        stored = _stored_size(config)
        world = current_world()
        begin = world.index / world.count
        also = {AUDIT_IMAGE_SIZE, CHECK_IMAGE_SIZE}  # the list of training images and the image check need them
        with timer("decoding"):
            rows = manifest.split("train")
            train = decode_dataset(rows, stored, cache, also=also, begin=begin, what="decoding train")
            rows = manifest.split("validation")
            val = decode_dataset(rows, config.image_size, cache, also=also, begin=begin, what="decoding validation")
        if world.main:
            report_faults(run, manifest, train, val)
            run.check_images(
                {
                    name: digest
                    for one in (train, val)
                    for name, digest in zip(one.manifest.table["image"], one.pixels.digests, strict=True)
                }
            )
        return Fit(manifest, train, val, spec, config, run, cache, timer, self.seed)

    def _check_license(self) -> None:
        license = license_of_weights(backbone_spec(self.backbone), self.weights)
        if self.permissive_only and license is not None and not is_permissive(license):
            name = self.backbone if self.weights == AUTO else self.weights
            raise NevusError(
                f"Cannot use the weights of {name}: their license is {license or 'not known'}, which --permissive-only "
                "excludes. Choose another --backbone."
            )

    def _settings(
        self, manifest: Manifest, spec: ModelSpec, config: TrainConfig, weights: str, protocol: dict[str, Any]
    ) -> dict[str, Any]:
        """Return everything that decides the result, as `config.json` of the run holds it."""
        return {
            "method": "bit",
            "model": spec.as_dict(),
            "config": asdict(config),
            "overrides": dict(self.overrides),
            "backbone_weights": weights,
            "seed": self.seed,
            "split": asdict(self.preparation.split),
            "data": {
                "name": manifest.name,
                "digest": manifest.digest,
                "classes": manifest.classes,
                "positive_class": spec.classes[1] if len(spec.classes) == 2 else None,
                **protocol,
            },
        }


def _stored_size(config: TrainConfig) -> int:
    # A linear probe is trained on whole images, as they are evaluated; other trainings take crops from larger ones.
    return config.image_size if config.tuning == "linear-probe" else config.resize_size


def _toml(value: Any) -> str:
    """Write a string, number, boolean or list, whose JSON is TOML."""
    return json.dumps(list(value) if isinstance(value, tuple) else value, ensure_ascii=False)
