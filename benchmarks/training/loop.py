"""What both trainings share: data-parallel workers, an average of the weights, checkpoints.

On a processor, one process per core that meet once a step are faster than one process with many threads, which meet
in every operation (and wait for the slowest whenever anything else runs on the machine).
"""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import nn

CHECKPOINT = "checkpoint.pt"


def launch(train: Callable, arguments, workers: int) -> None:
    """Runs ``train(arguments, rank, workers)`` in ``workers`` processes of one thread each."""
    if workers == 1:
        train(arguments, 0, 1)
        return
    with tempfile.TemporaryDirectory() as folder:
        mp.spawn(_worker, (train, arguments, workers, os.path.join(folder, "meet")), nprocs=workers)


def _worker(rank: int, train: Callable, arguments, workers: int, meeting: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{meeting}", rank=rank, world_size=workers)
    train(arguments, rank, workers)
    dist.destroy_process_group()


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
