"""The doors into diffusers' unmodified UNet: attention processors, swapped GroupNorms, and temporal layers if it has any."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from diffusers import UNet2DConditionModel
from diffusers.models.resnet import ResnetBlock2D
from torch import Tensor

from .attention import Call, CrossAttention, Layer, SelfAttention
from .normalization import ClipGroupNorm
from .profile import Profile, level_sizes
from .temporal import ALONE, TemporalLayer


class FateZeroUNet:
    """A UNet that takes rows of frames and does what a `Call` says.

    The UNet is changed once, here, and for good: without a call's wishes it computes what it did before.
    """

    def __init__(self, unet: UNet2DConditionModel, profile: Profile):
        self.unet, self.profile = unet.eval().requires_grad_(False), profile
        self.levels = len(unet.config.block_out_channels)
        self._current: list[Call] = [ALONE]
        layers = {name: self._layer(name) for name in unet.attn_processors}
        self._map_layers = sum(layer.gives_mask for name, layer in layers.items() if name.endswith("attn2.processor"))
        unet.set_attn_processor(
            {
                name: (SelfAttention if name.endswith("attn1.processor") else CrossAttention)(layer, self._current)
                for name, layer in layers.items()
            }
        )
        for block in [module for module in unet.modules() if isinstance(module, ResnetBlock2D)]:
            block.norm1 = ClipGroupNorm(block.norm1, self._current)
            block.norm2 = ClipGroupNorm(block.norm2, self._current)
        unet.conv_norm_out = ClipGroupNorm(unet.conv_norm_out, self._current)
        for layer in [module for module in unet.modules() if isinstance(module, TemporalLayer)]:
            layer.current = self._current

    @property
    def device(self) -> torch.device:
        return self.unet.conv_in.weight.device  # the UNet's own property walks through all of its modules

    @property
    def dtype(self) -> torch.dtype:
        return self.unet.conv_in.weight.dtype

    def sizes(self, latents: Tensor) -> list[tuple[int, int]]:
        """(height, width) of each level's feature maps for (..., h, w) latents."""
        return level_sizes(tuple(latents.shape[-2:]), self.levels)

    @torch.no_grad()
    def __call__(self, latents: Sequence[Tensor], timestep: int, prompts: Sequence[Tensor], call: Call) -> list[Tensor]:
        """One output (F, 4, h, w) for each row: `latents` (F, 4, h, w) with a prompt's embedding (length, width)."""
        contexts = [prompt.expand(call.frames, -1, -1) for prompt in prompts]
        with self.doing(call):
            output = self.unet(
                torch.cat(list(latents)).to(self.device, self.dtype),
                timestep,
                encoder_hidden_states=torch.cat(contexts).to(self.device, self.dtype),
                return_dict=False,
            )[0]
        return list(output.split(call.frames))

    @contextmanager
    def doing(self, call: Call) -> Iterator[None]:
        """While it lasts, whatever runs the UNet, a backward pass that computes layers again too, does what `call` says."""
        call.layers_with_maps = self._map_layers
        self._current[0] = call
        try:
            yield
        finally:
            self._current[0] = ALONE  # a call holds the whole inversion; it shall not outlive the edit

    def _layer(self, name: str) -> Layer:
        """What the profile says of the layer with this name, such as `down_blocks.1.attentions.0.…attn1.processor`."""
        place, index = name.split(".")[:2]
        if place == "down_blocks":
            level = int(index)
        elif place == "mid_block":
            level = self.levels - 1
        else:
            level = self.levels - 1 - int(index)
        profile = self.profile
        return Layer(
            level=level,
            injects=level in profile.inject_levels,
            gives_mask=level == profile.mask_level and place.split("_")[0] in profile.mask_places,
            anchored=level in profile.anchor_levels,
        )
