"""The doors into diffusers' unmodified UNet: attention processors, swapped GroupNorms, and temporal layers if it has any."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress

import torch
from diffusers import UNet2DConditionModel
from diffusers.models.resnet import ResnetBlock2D
from torch import Tensor

from .attention import Call, CrossAttention, Layer, SelfAttention, Source, SourceLeft, Text
from .normalization import ClipGroupNorm
from .profile import Profile, level_sizes
from .reuse import finest_level_alone
from .temporal import ALONE, TemporalLayer


class FateZeroUNet:
    """A UNet that takes rows of frames and does what a `Call` says.

    The UNet is changed once, here, and for good: without a call's wishes it computes what it did before.
    """

    def __init__(self, unet: UNet2DConditionModel, profile: Profile):
        self.unet, self.profile = unet.eval().requires_grad_(False), profile
        self.levels = len(unet.config.block_out_channels)
        self._current: list[Call] = [ALONE]
        first_text = _first_with_text(unet)
        layers = {name: self._layer(name, first_text) for name in unet.attn_processors}
        crossing = [layer for name, layer in layers.items() if name.endswith("attn2.processor")]
        self._map_layers = sum(layer.gives_mask for layer in crossing)
        self._injecting = sum(layer.injects for layer in crossing)
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
        unet.time_embedding.register_forward_hook(self._once)
        unet.get_submodule(first_text).register_forward_pre_hook(self._part_rows)
        for block in unet.up_blocks:
            block.register_forward_pre_hook(self._part_skips, with_kwargs=True)
        unet.up_blocks[-1].register_forward_pre_hook(self._leave_deep, with_kwargs=True)

    @property
    def device(self) -> torch.device:
        return self.unet.conv_in.weight.device  # the UNet's own property walks through all of its modules

    @property
    def dtype(self) -> torch.dtype:
        return self.unet.conv_in.weight.dtype

    def sizes(self, latents: Tensor) -> list[tuple[int, int]]:
        """(height, width) of each level's feature maps for (..., h, w) latents."""
        return level_sizes(tuple(latents.shape[-2:]), self.levels)

    def __call__(
        self, latents: Sequence[Tensor], timestep: int, prompts: Sequence[Tensor | Text], call: Call
    ) -> list[Tensor]:
        """One output (F, 4, h, w) for each row: `latents` (F, 4, h, w) with a prompt's embedding (length, width).

        Rows that are given the same latents are computed as one until the first prompt is seen; a `Text` is projected
        but once for all calls that are given it. A call that is given what a full one has left in `Call.deep` computes the
        finest level alone, injects nothing below it, and has the full one's maps.
        """
        call.texts = [prompt if isinstance(prompt, Text) else Text(prompt) for prompt in prompts]
        call.alike = len(latents) > 1 and all(row is latents[0] for row in latents)
        latents, deep = latents[:1] if call.alike else latents, call.deep
        if deep and deep.states is not None:
            call.maps, call.gather = deep.maps, None
            with finest_level_alone(self.unet, deep):
                outputs = self._run(latents, timestep, call)
        else:
            outputs = self._run(latents, timestep, call)
            if deep:
                deep.maps = call.maps
        return list(outputs.split(call.frames))

    def leave(self, latents: Tensor, timestep: int, prompt: Tensor | Text, call: Call) -> Source:
        """What a source's `latents` (F, 4, h, w) leave: its call ends with the last layer that has anything to leave."""
        call.texts = [prompt if isinstance(prompt, Text) else Text(prompt)]
        call.layers_left = self._injecting * (call.leaves.self_attention + call.leaves.cross_attention)
        with suppress(SourceLeft):
            self._run([latents], timestep, call)
        return call.leaves

    @torch.no_grad()
    def _run(self, latents: Sequence[Tensor], timestep: int, call: Call) -> Tensor:
        context = torch.stack([text.embedding for text in call.texts]).to(self.device, self.dtype)
        with self.doing(call):
            return self.unet(
                torch.cat(list(latents)).to(self.device, self.dtype),
                torch.full((), timestep, device=self.device),  # a number would be copied there, and waited for
                encoder_hidden_states=context,
                return_dict=False,
            )[0]

    @contextmanager
    def doing(self, call: Call) -> Iterator[None]:
        """While it lasts, whatever runs the UNet, a backward pass that computes layers again too, does what `call` says."""
        call.layers_with_maps = self._map_layers
        self._current[0] = call
        try:
            yield
        finally:
            self._current[0] = ALONE  # a call holds the whole inversion; it shall not outlive the edit

    def _once(self, _, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor | None:
        """The time's embedding, the same in all rows, for as many rows as there will be."""
        return output[:1] if self._current[0].texts else None

    def _part_rows(self, _, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...] | None:
        """Rows that were computed as one go apart, where the prompt comes in."""
        call = self._current[0]
        return (inputs[0].repeat(len(call.rows), 1, 1, 1), *inputs[1:]) if call.alike else None

    def _part_skips(self, _, inputs: tuple, options: dict) -> tuple[tuple, dict] | None:
        """What was kept of them before for the way up goes apart too."""
        call = self._current[0]
        if not call.alike:
            return None
        skips = tuple(
            skip.repeat(len(call.rows), 1, 1, 1) if len(skip) == call.frames else skip
            for skip in options["res_hidden_states_tuple"]
        )
        return inputs, options | {"res_hidden_states_tuple": skips}

    def _leave_deep(self, _, inputs: tuple, options: dict) -> None:
        """What comes up to the finest level, for the calls that will reuse it."""
        deep = self._current[0].deep
        if deep and deep.states is None:
            deep.states = options["hidden_states"]

    def _layer(self, name: str, first_text: str) -> Layer:
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
            before_text=name.startswith(f"{first_text}.transformer_blocks.0.attn1."),
        )


def _first_with_text(unet: UNet2DConditionModel) -> str:
    """The first of the UNet's transformers that a call comes to, by its name."""
    for index, block in enumerate(unet.down_blocks):
        if getattr(block, "has_cross_attention", False):
            return f"down_blocks.{index}.attentions.0"
    return "mid_block.attentions.0"
