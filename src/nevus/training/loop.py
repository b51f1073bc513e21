"""The training loop of linear probes, fine-tuning, pretraining and distillation."""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from nevus._progress import console, progress
from nevus.errors import NevusError
from nevus.runtime.device import Device, to_device
from nevus.runtime.distributed import current_world
from nevus.training.batches import Batches
from nevus.training.config import TrainConfig, learning_rate
from nevus.training.losses import Objective
from nevus.training.run_dir import BEST, CHECKPOINT, RunDir, cpu_tensors, strip_prefix

LINE_EVERY = 30.0
"""Seconds between two lines of progress where there is no terminal."""
LONG = 20.0
"""Seconds from which a training is announced with its expected time."""


@dataclass(frozen=True)
class ValidationResult:
    """Result on the validation split.

    Attributes:
        loss: mean loss of the objective.
        score: mean score of the objective: for cross-entropy the accuracy.

    """

    loss: float
    score: float


def train(
    network: nn.Module,
    batches: Batches,
    validate: Callable[[nn.Module], ValidationResult],
    config: TrainConfig,
    run: RunDir,
    device: Device,
    *,
    images: int,
    objective: Objective,
    stop: Callable[[], bool] = lambda: False,
) -> nn.Module:
    """Train a network and return it with the weights that the configuration keeps.

    Args:
        network: inputs to logits (n, classes); trained in place.
        batches: inputs and targets by step.
        validate: evaluates a network on the validation split.
        config: see `TrainConfig`.
        run: for logs and checkpoints; training is resumed from its checkpoint.
        device: where to compute.
        images: in the training set, to count epochs.
        objective: what is minimized.
        stop: asked after every step; True makes this step the last one.

    Raises:
        NevusError: the loss is not finite.

    """
    world = current_world()
    if config.batch_size < world.count:
        raise NevusError(
            f"Cannot train in {world.count} processes: the batch has {config.batch_size} images. Raise batch_size, or "
            "start fewer processes."
        )
    device = to_device(network, device)
    optimizer = torch.optim.SGD(
        _parameter_groups(network, config.weight_decay),
        lr=config.lr,
        momentum=config.momentum,
        nesterov=config.nesterov,
        fused=True,  # one pass over the weights instead of four
    )
    average = _copy(network) if config.ema_decay else None
    first, best = _restored(network, optimizer, average, run)
    score = objective.score
    validated: ValidationResult | None = None

    if first < config.steps:
        _announce(network, batches, config, device, objective, first)
    printed_at = time.monotonic()
    with progress(unit="steps") as bar:
        task = bar.add_task("training", total=config.steps, completed=first, note="")
        for step in range(first, config.steps):
            began = time.perf_counter()
            for group in optimizer.param_groups:
                group["lr"] = learning_rate(config, step)
            x, y = batches(step, world.shard(config.batch_size))
            network.train()
            loss, reached = gradients(network, x, y, config, device, objective)
            world.all_reduce_gradients(network)
            loss, reached = world.all_reduce_sum(loss, reached)
            if not math.isfinite(loss):
                raise _not_finite("loss", loss, step, config)
            if config.clip_grad_norm:
                nn.utils.clip_grad_norm_(network.parameters(), config.clip_grad_norm)
            optimizer.step()
            optimizer.zero_grad()
            if average is not None:
                # The early average would be dominated by the random start: let the decay grow into its value.
                _follow(average, network, min(config.ema_decay, (1 + step) / (10 + step)))
            speed = config.batch_size / (time.perf_counter() - began)
            run.log(
                step=step + 1,
                epoch=(step + 1) * config.batch_size / images,
                learning_rate=learning_rate(config, step),
                images_per_second=speed,
                **{"loss": loss, score: reached},
            )
            final = step + 1 == config.steps or stop()
            evaluate = (step + 1) % config.eval_interval == 0 or final
            if evaluate:
                current = average or network.state_dict()
                validated = validate(_with(network, current))
                if not math.isfinite(validated.loss):
                    raise _not_finite("validation loss", validated.loss, step, config)
                run.log(
                    step=step + 1,
                    epoch=(step + 1) * config.batch_size / images,
                    **{"validation_loss": validated.loss, f"validation_{score}": validated.score},
                )
                if config.checkpoint == "last" or validated.loss <= best:
                    best = validated.loss
                    # Before the checkpoint: killed in between, the step is repeated and writes the same again.
                    run.save(BEST, current, {"step": step + 1, "validation_loss": validated.loss})
                _checkpoint(network, optimizer, average, run, step + 1, best)
            note = f"loss {loss:.3f}  {score} {reached:.1%}  {speed:.0f} images/s"
            if validated:
                note += f"  validation: loss {validated.loss:.3f}  {score} {validated.score:.1%}"
            bar.update(task, advance=1, note=note)
            if evaluate and not console.is_terminal and (final or time.monotonic() - printed_at > LINE_EVERY):
                printed_at = time.monotonic()  # a log file gets a line now and then instead of a bar
                console.print(f"step {step + 1:,} of {config.steps:,}  {note}", highlight=False)
            if final:
                break
    world.barrier()  # for the one that writes
    kept = run.load(BEST)
    if kept is None:
        raise NevusError(f"Cannot read '{run.folder / BEST}': it is missing. Train again in another folder.")
    _fill(network, kept[0], run)
    return network.eval()


def gradients(
    network: nn.Module, x: Tensor, y: Tensor, config: TrainConfig, device: Device, objective: Objective
) -> tuple[float, float]:
    """Add the gradients of a batch, or of a process' part of it, to the parameters, in micro-batches.

    Group normalization treats each image separately, so sums over parts equal those of the whole batch. Batch
    normalization depends on the micro-batch.

    Args:
        network: in training mode.
        x: float (n, ...), n at most the batch size of the configuration.
        y: float (n, outputs).
        config: for batch size and micro-batches.
        device: where to compute.
        objective: what is minimized.

    Returns:
        The contribution of the images to mean loss and mean score of the batch.

    """
    loss = score = 0.0
    for part in _parts(len(x), config.micro_batch_size):
        inputs = x[part].to(device.device, non_blocking=True)
        if inputs.ndim == 4:
            inputs = inputs.contiguous(memory_format=device.memory_format)
        targets = y[part].to(device.device, non_blocking=True)
        with device.autocast():
            outputs = network(inputs)
        losses, scores = objective(outputs.float(), targets)
        part_loss = losses.sum() / config.batch_size
        part_loss.backward()  # type: ignore[no-untyped-call]
        loss += float(part_loss.detach())
        score += float(scores.detach().sum())
    return loss, score / config.batch_size


def _parts(n: int, size: int) -> Iterator[slice]:
    size = size or n
    return (slice(start, start + size) for start in range(0, n, size))


def _parameter_groups(network: nn.Module, weight_decay: float) -> list[dict[str, object]]:
    # Biases and norms (one axis) are left alone: pulling a norm's gain to 0 regularizes nothing.
    parameters = [p for p in network.parameters() if p.requires_grad]
    return [
        {"params": [p for p in parameters if p.ndim > 1], "weight_decay": weight_decay},
        {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},
    ]


def _copy(network: nn.Module) -> dict[str, Tensor]:
    return {key: value.detach().clone() for key, value in network.state_dict().items()}


@torch.no_grad()
def _follow(average: dict[str, Tensor], network: nn.Module, decay: float) -> None:
    for key, value in network.state_dict().items():
        if value.is_floating_point():
            average[key].lerp_(value, 1 - decay)
        else:  # batch norm's count of batches
            average[key].copy_(value)


def _with(network: nn.Module, weights: dict[str, Tensor]) -> nn.Module:
    """The network computing with other weights; a copy, so that training is not touched."""
    other = copy.deepcopy(network)
    other.load_state_dict(weights)
    return other.eval()


def _not_finite(what: str, value: float, step: int, config: TrainConfig) -> NevusError:
    return NevusError(
        f"Cannot go on training: the {what} is {value} at step {step + 1}. Lower lr (now {config.lr:g}) or "
        "set clip_grad_norm=1, and choose another folder with --out."
    )


def _fill(network: nn.Module, weights: dict[str, Tensor], run: RunDir) -> None:
    try:
        network.load_state_dict(weights)
    except RuntimeError:
        raise NevusError(
            f"Cannot resume in {run.folder}: the checkpoint is of another network. Choose another folder with --out."
        ) from None


def _checkpoint(
    network: nn.Module,
    optimizer: torch.optim.Optimizer,
    average: dict[str, Tensor] | None,
    run: RunDir,
    step: int,
    best: float,
) -> None:
    momenta = {
        name: optimizer.state[p]["momentum_buffer"]
        for name, p in network.named_parameters()
        if optimizer.state.get(p, {}).get("momentum_buffer") is not None
    }
    tensors = {
        **cpu_tensors(network.state_dict(), "network"),
        **cpu_tensors(momenta, "momentum"),
        **cpu_tensors(average or {}, "average"),
    }
    run.save(CHECKPOINT, tensors, {"step": step, "best": best})


def _restored(
    network: nn.Module, optimizer: torch.optim.Optimizer, average: dict[str, Tensor] | None, run: RunDir
) -> tuple[int, float]:
    saved = run.load(CHECKPOINT)
    if saved is None:
        run.rewind(0)
        return 0, math.inf
    tensors, notes = saved
    _fill(network, strip_prefix(tensors, "network"), run)
    momenta = strip_prefix(tensors, "momentum")
    for name, parameter in network.named_parameters():
        if name in momenta:
            buffer = torch.empty_like(parameter).copy_(momenta[name])
            optimizer.state[parameter]["momentum_buffer"] = buffer
    for key, value in strip_prefix(tensors, "average").items():
        assert average is not None  # the run's settings, which ask for it, were compared
        average[key].copy_(value)
    run.rewind(notes["step"])
    console.print(f"going on after step {notes['step']}")
    return int(notes["step"]), float(notes["best"]) if notes["best"] is not None else math.inf


def _announce(
    network: nn.Module, batches: Batches, config: TrainConfig, device: Device, objective: Objective, first: int
) -> None:
    """Print the expected time, from two steps whose gradients are discarded."""
    network.train()
    for _ in range(2):  # the first one pays for set-up
        began = time.perf_counter()
        gradients(network, *batches(first, current_world().shard(config.batch_size)), config, device, objective)
        seconds = time.perf_counter() - began
    network.zero_grad()
    expected = seconds * (config.steps - first)
    if expected > LONG:
        console.print(
            f"training: {config.steps - first:,} steps of {config.batch_size} images, {seconds:.2f} s each, about "
            f"{duration(expected)} in {'bf16' if device.bf16 else 'fp32'} on {device.device}"
        )


def duration(seconds: float) -> str:
    """Format seconds as `42 s`, `12 min` or `3.2 h`."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"
