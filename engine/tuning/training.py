"""The training itself, a step at a time, and the state from which it goes on bit for bit."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import nullcontext
from math import sqrt

import torch
from torch import Tensor, nn
from torch.nn import functional

from ..devices import multiplies_bfloat16
from ..fatezero.attention import Call
from ..fatezero.keys import key_frames
from ..fatezero.schedule import Schedule
from ..fatezero.unet import FateZeroUNet

LONGEST_GRADIENT = 1.0
"""Norm to which the gradient of a step is cut."""


class Training:
    """A clip's latents (F, 4, h, w) learnt by the parts of a UNet that are `trained`, under one prompt (length, width).

    AdamW in float32, the UNet itself in bfloat16 where a GPU has it. All random numbers come from one generator on the
    processor, so that a seed means the same everywhere; a GPU's kernels need not repeat their last bits, a CPU's do.
    """

    def __init__(
        self,
        unet: FateZeroUNet,
        trained: Mapping[str, nn.Parameter],
        latents: Tensor,
        prompt: Tensor,
        schedule: Schedule,
        rate: float,
        seed: int,
    ):
        self.step = 0
        """Steps that are done."""
        self._unet, self._schedule = unet, schedule
        self.latents = latents.to(unet.device)
        """The clip's, (F, 4, h, w)."""
        self._context = self._as_context(prompt)
        self._call = Call(
            ("source",),
            len(latents),
            keys=key_frames(unet.profile.keys or ("mid",), len(latents)),
            pooled_norm=bool(unet.profile.pooled_norm),
        )
        self._trained = trained
        for parameter in trained.values():
            parameter.requires_grad_(True)
        self._optimizer = torch.optim.AdamW(trained.values(), lr=rate, weight_decay=1e-2)
        self._generator = torch.Generator().manual_seed(seed)

    def advance(self) -> float:
        """Do one step; returns its loss: the mean squared error of what the UNet predicts, at one random timestep."""
        noisy, noise, timestep = self._draw()
        loss = self._learn(noisy, timestep, self._context, self._schedule.target(self.latents, noise, timestep))
        self.step += 1
        return loss

    @torch.no_grad()
    def reconstruction(self) -> Tensor:
        """(F, 4, h, w): the latents as the UNet makes them out halfway through the noise, always under the same noise."""
        timestep = len(self._schedule.alphas) // 2
        noise = torch.randn(self.latents.shape, generator=torch.Generator().manual_seed(0)).to(self.latents.device)
        noisy = self._schedule.noised(self.latents, noise, timestep)
        with self._unet.doing(self._call):
            output = self._predict(noisy, timestep, self._context)
        alpha = self._schedule.alpha(timestep)
        return (noisy - sqrt(1 - alpha) * self._schedule.noise(output, noisy, timestep)) / sqrt(alpha)

    def state(self) -> dict[str, Tensor]:
        """All that decides how it goes on, beside what it was made with."""
        tensors = {f"weight {name}": parameter.detach() for name, parameter in self._trained.items()}
        for name, parameter in self._trained.items():
            for kind, tensor in self._optimizer.state[parameter].items():
                tensors[f"{kind} {name}"] = tensor
        return tensors | {"step": torch.tensor(self.step), "generator": self._generator.get_state()}

    def go_on_from(self, tensors: Mapping[str, Tensor]) -> None:
        """Take the `state` of a training that was made with the same."""
        self.step = int(tensors["step"])
        self._generator.set_state(tensors["generator"])
        with torch.no_grad():
            for name, parameter in self._trained.items():
                parameter.copy_(tensors[f"weight {name}"])
        if self.step:
            moments = [
                {kind: tensors[f"{kind} {name}"] for kind in ("step", "exp_avg", "exp_avg_sq")}
                for name in self._trained
            ]
            groups = self._optimizer.state_dict()["param_groups"]
            self._optimizer.load_state_dict({"state": dict(enumerate(moments)), "param_groups": groups})

    def _as_context(self, embedding: Tensor) -> Tensor:
        """(F, length, width): a prompt's embedding (length, width) for every frame."""
        return embedding.expand(len(self.latents), -1, -1).to(self._unet.device, self._unet.dtype)

    def _draw(self) -> tuple[Tensor, Tensor, int]:
        """The latents noised, the noise (F, 4, h, w) each, and the timestep that they are noised to, drawn anew."""
        timestep = int(torch.randint(len(self._schedule.alphas), (), generator=self._generator))
        noise = torch.randn(self.latents.shape, generator=self._generator).to(self.latents.device)
        return self._schedule.noised(self.latents, noise, timestep), noise, timestep

    def _learn(self, noisy: Tensor, timestep: int, context: Tensor, wanted: Tensor) -> float:
        """One step of the optimiser towards what is `wanted` of the UNet, (F, 4, h, w); its loss before."""
        with self._unet.doing(self._call):  # also while the backward pass computes layers again
            output = self._predict(noisy, timestep, context)
            loss = functional.mse_loss(output.float(), wanted.float())
            loss.backward()
        nn.utils.clip_grad_norm_(self._trained.values(), LONGEST_GRADIENT)
        self._optimizer.step()
        self._optimizer.zero_grad(set_to_none=True)
        return loss.item()

    def _predict(self, noisy: Tensor, timestep: int, context: Tensor, unet: FateZeroUNet | None = None) -> Tensor:
        device = noisy.device
        half = device.type == "cuda" and multiplies_bfloat16(device)  # whose range needs no scaling of the loss
        with torch.autocast(device.type, torch.bfloat16) if half else nullcontext():
            return (unet or self._unet).unet(noisy, timestep, encoder_hidden_states=context, return_dict=False)[0]
