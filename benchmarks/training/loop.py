"""What the trainings share: the loop itself, data-parallel workers, an average of the weights, checkpoints.

On a processor, one process per core that meet once a step are faster than one process with many threads, which meet
in every operation (and wait for the slowest whenever anything else runs on the machine).
"""

from __future__ import annotations

import os
import tempfile
import threading
import time
from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import nn

CHECKPOINT = "checkpoint.pt"


Terms = dict[str, torch.Tensor]
"""The parts of a loss by name, each a number; `loss` is what is minimised."""


@dataclass(frozen=True)
class Recipe:
    """How a training runs, whatever it learns."""

    seed: int
    rate: float
    """The learning rate between warm-up and cool-down."""
    warm_up: int
    """Steps."""
    decay: float
    """Of the average of the weights, a step."""
    weight_decay: float = 1e-4


def add_options(parser: ArgumentParser, steps: int, batch: int, save_every: int) -> None:
    """The options that every training has, with its defaults."""
    parser.add_argument("--data", type=Path, required=True, help="what benchmarks.training.pictures wrote")
    parser.add_argument("--state", type=Path, required=True, help="checkpoint and sample sheet")
    parser.add_argument("--out", type=Path, required=True, help="folder of the model")
    parser.add_argument("--steps", type=int, default=steps)
    parser.add_argument("--batch", type=int, default=batch, help="examples a step, over all workers")
    parser.add_argument("--save-every", type=int, default=save_every, help="steps")
    parser.add_argument("--workers", type=int, default=2, help="processes, one thread each")


def fit(
    arguments: Namespace,
    rank: int,
    workers: int,
    modules: dict[str, nn.Module],
    recipe: Recipe,
    terms: Callable[[int, np.random.Generator, torch.Generator], Terms],
    saved: Callable[[int, dict[str, Average]], None] = lambda done, averages: None,
) -> dict[str, Average]:
    """Trains ``modules`` from the last checkpoint on and returns the averages of their weights.

    ``terms`` gives the loss of a step for this worker's share of the batch; ``saved`` is called after every checkpoint,
    the last step's included, in the first worker alone.
    """
    parameters = [parameter for module in modules.values() for parameter in module.parameters()]
    averages = {name: Average(module, recipe.decay) for name, module in modules.items()}
    optimizer = torch.optim.AdamW(parameters, lr=recipe.rate, betas=(0.9, 0.99), weight_decay=recipe.weight_decay)
    checkpoint = Checkpoint(arguments.state, modules, averages, optimizer)
    shown: list[dict[str, float]] = []
    for step in range(checkpoint.load(), arguments.steps):
        parts = terms(step, *step_generators(recipe.seed, step, rank))
        parts["loss"].backward()
        share_gradients(parameters, workers)
        torch.nn.utils.clip_grad_norm_(parameters, 1.0, error_if_nonfinite=True)
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(step, arguments.steps, recipe.rate, recipe.warm_up)
        optimizer.step()
        optimizer.zero_grad()
        for average in averages.values():
            average.update(step)
        if rank:
            continue
        done, last = step + 1, step + 1 == arguments.steps
        shown.append({name: value.item() for name, value in parts.items()})
        if done % 25 == 0 or last:
            means = " ".join(f"{name} {np.mean([row[name] for row in shown]):.4f}" for name in shown[0])
            print(f"{done} of {arguments.steps}: {means} {checkpoint.trained_seconds():.0f} s", flush=True)
            shown.clear()
        if done % arguments.save_every == 0 or last:
            checkpoint.save(done)
            saved(done, averages)
    return averages


def launch(train: Callable, arguments, workers: int) -> None:
    """Runs ``train(arguments, rank, workers)`` in ``workers`` processes of one thread each."""
    if workers == 1:
        train(arguments, 0, 1)
        return
    with tempfile.TemporaryDirectory() as folder:
        mp.spawn(_worker, (train, arguments, workers, os.path.join(folder, "meet"), os.getpid()), nprocs=workers)


def _worker(rank: int, train: Callable, arguments, workers: int, meeting: str, parent: int) -> None:
    threading.Thread(target=_end_with, args=(parent,), daemon=True).start()
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{meeting}", rank=rank, world_size=workers)
    train(arguments, rank, workers)
    dist.destroy_process_group()


def _end_with(parent: int) -> None:
    """Workers whose parent was killed would train on, beside whoever goes on from the same checkpoint."""
    while os.getppid() == parent:
        time.sleep(1.0)
    os._exit(1)


def share_gradients(parameters: Iterable[nn.Parameter], workers: int) -> None:
    """Replaces every gradient by its mean over the workers."""
    if workers == 1:
        return
    gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
    flat = torch._utils._flatten_dense_tensors(gradients)
    dist.all_reduce(flat)
    flat /= workers
    for gradient, mean in zip(gradients, torch._utils._unflatten_dense_tensors(flat, gradients), strict=True):
        gradient.copy_(mean)


def step_generators(seed: int, step: int, rank: int) -> tuple[np.random.Generator, torch.Generator]:
    """Random numbers that depend on the step alone, so a checkpoint need not hold any generator's state."""
    numbers = np.random.default_rng([seed, step, rank])
    return numbers, torch.Generator().manual_seed(int(numbers.integers(2**62)))


def learning_rate(step: int, steps: int, peak: float, warm_up: int, cool_down: float = 0.3) -> float:
    """Rises over ``warm_up`` steps, stays, and falls linearly over the last ``cool_down`` of the steps."""
    left = (steps - step) / max(1.0, steps * cool_down)
    return peak * min(1.0, (step + 1) / warm_up, max(left, 0.02))


class Average:
    """Exponential moving average of a module's parameters (EMA); young averages forget faster."""

    def __init__(self, module: nn.Module, decay: float):
        self.module, self.decay = module, decay
        self.values = {name: value.detach().clone() for name, value in module.state_dict().items()}

    def update(self, step: int) -> None:
        decay = min(self.decay, (1 + step) / (10 + step))
        with torch.no_grad():
            for name, value in self.module.state_dict().items():
                if value.is_floating_point():
                    self.values[name].lerp_(value, 1 - decay)


class Checkpoint:
    """Everything a run needs to go on, in ``folder / checkpoint.pt``, replaced whole."""

    def __init__(self, folder: Path, modules: dict[str, nn.Module], averages: dict[str, Average], optimizer):
        self.path = folder / CHECKPOINT
        self.modules, self.averages, self.optimizer = modules, averages, optimizer
        self.seconds, self._since = 0.0, time.monotonic()
        folder.mkdir(parents=True, exist_ok=True)

    def load(self) -> int:
        """The step to go on with: 0 where there is no checkpoint."""
        if not self.path.exists():
            return 0
        state = torch.load(self.path, weights_only=True)
        for name, module in self.modules.items():
            module.load_state_dict(state["modules"][name])
            for key, value in state["averages"][name].items():
                self.averages[name].values[key].copy_(value)
        self.optimizer.load_state_dict(state["optimizer"])
        self.seconds = state["seconds"]
        return state["step"]

    def trained_seconds(self) -> float:
        """Wall-clock seconds of training so far, over all resumptions."""
        return self.seconds + time.monotonic() - self._since

    def save(self, step: int) -> None:
        """``step`` steps are done."""
        part = self.path.with_suffix(".part")
        state = {
            "step": step,
            "seconds": self.trained_seconds(),
            "modules": {name: module.state_dict() for name, module in self.modules.items()},
            "averages": {name: average.values for name, average in self.averages.items()},
            "optimizer": self.optimizer.state_dict(),
        }
        torch.save(state, part)
        os.replace(part, self.path)


def write_part(folder: Path, write: Callable[[Path], None]) -> None:
    """Lets ``write`` fill a temporary folder, then moves its files into ``folder`` one by one, each whole."""
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".part-") as part:
        write(Path(part))
        for path in sorted(Path(part).iterdir()):
            os.replace(path, folder / path.name)
