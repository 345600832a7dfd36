"""What FateZero does inside attention, through diffusers' attention processors and without storing a map.

A call of the UNet carries up to three *rows* of F frames each: the source at its own noise level, the edit with the
empty prompt, the edit with the target prompt. The source row's attention is the inversion's; whatever is injected into
the target row is taken from it on the spot:

- the source's self-attention map on the edit's values is fused attention of (Q_source, K_source, V_target);
- an edited cross-attention map is linear in the source's and the edit's own map, token by token:
  `new = P_source A + P_target diag(b)`. So `new V = P_source (A V) + P_target (b V)`: two fused calls on mixed values.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

SOURCE, EMPTY, TARGET = "source", "empty", "target"


@dataclass(frozen=True)
class CrossEdit:
    """One step's edit of cross-attention: `new = P_source @ take + P_target * keep`."""

    take: Tensor
    """(tokens, tokens), from source tokens (rows) to target tokens (columns)."""
    keep: Tensor
    """(tokens,)"""


@dataclass
class Call:
    """What one call of the UNet is to do, and what it brings back."""

    rows: tuple[str, ...]
    frames: int
    keys: Sequence[Sequence[int]] = ()
    """For each key the frame of this call whose keys and values serve each of its frames on the profile's anchor levels
    (see `key_frames`); none: each frame its own."""
    anchors: dict[Processor, tuple[Tensor, Tensor]] | None = None
    """Where a clip's frames come in several calls: keys and values (rows, heads, pixels, d) of the anchor frames by
    layer, put there by the call that holds those frames and taken from there by the others."""
    pooled_norm: bool = False
    """Group normalisation over all frames of a row instead of each frame."""
    cross: CrossEdit | None = None
    inject_self: bool = False
    mask: Callable[[int], Tensor] | None = None
    """Blend mask at a level, boolean (F, pixels): where the edit keeps its own self-attention. None: nowhere."""
    gather: str | None = None
    """The row whose cross-attention maps at the mask level are averaged into `maps`."""
    maps: Tensor | None = None
    """(F, pixels, tokens), float32: mean over heads and layers, complete when the call is over."""
    layers_with_maps: int = 1
    """Layers that are averaged."""
    peak_bytes: int = 0
    """The most that explicit attention probabilities took at one time."""

    def row(self, tensor: Tensor, name: str) -> Tensor:
        """The part of a (rows * F, ...) tensor that belongs to one row."""
        start = self.rows.index(name) * self.frames
        return tensor[start : start + self.frames]

    def add_map(self, query: Tensor, key: Tensor) -> None:
        """Average the softmax of (F, heads, pixels, d) queries on (F, heads, tokens, d) keys in, a head at a time."""
        heads, scale = query.shape[1], query.shape[-1] ** -0.5
        for head in range(heads):
            scores = query[:, head].float() @ key[:, head].float().transpose(-1, -2)
            part = scores.mul_(scale).softmax(-1)
            if self.maps is None:
                self.maps = torch.zeros_like(part)
            self.maps.add_(part, alpha=1.0 / (heads * self.layers_with_maps))
            self.peak_bytes = max(self.peak_bytes, 2 * part.nbytes + self.maps.nbytes)


@dataclass(frozen=True)
class Layer:
    """What the profile lets an attention layer do."""

    level: int
    injects: bool
    gives_mask: bool
    anchored: bool


class Processor(ABC):
    """Base of both attention processors: projections in and out as diffusers does them.

    `current` is shared by all processors of a UNet: one list that holds the running `Call`.
    """

    def __init__(self, layer: Layer, current: list[Call]):
        self.layer, self.current = layer, current

    def __call__(self, attn, hidden_states: Tensor, encoder_hidden_states: Tensor | None = None, **_) -> Tensor:
        """(rows * F, pixels, channels) to the same; the UNet calls this in place of its own attention."""
        context = hidden_states if encoder_hidden_states is None else encoder_hidden_states
        query, key, value = (
            projection(states).unflatten(-1, (attn.heads, -1)).transpose(1, 2)  # (rows * F, heads, pixels, d)
            for projection, states in ((attn.to_q, hidden_states), (attn.to_k, context), (attn.to_v, context))
        )
        out = self.attend(self.current[0], query, key, value)
        return attn.to_out[0](out.transpose(1, 2).flatten(2))

    @abstractmethod
    def attend(self, call: Call, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """Attention of all rows, edited as `call` says: (rows * F, heads, pixels, d)."""

    def other_rows(self, call: Call, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """Plain attention of all rows but the target, which comes last."""
        end = (len(call.rows) - 1) * call.frames
        return attention(query[:end], key[:end], value[:end])


class SelfAttention(Processor):
    """Spatial-temporal self-attention with the source's injected (FateZero, sections 3.2 to 3.4)."""

    def attend(self, call: Call, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        if self.layer.anchored:
            key, value = self._anchored(call, key, value)
        if not (call.inject_self and self.layer.injects):
            return attention(query, key, value)
        values = call.row(value, TARGET)
        injected = attention(
            call.row(query, SOURCE), call.row(key, SOURCE), values
        )  # the source's map, the edit's values
        if call.mask is not None:
            own = attention(call.row(query, TARGET), call.row(key, TARGET), values)
            mask = call.mask(self.layer.level)[:, None, :, None]  # (F, 1, pixels, 1)
            injected = torch.where(mask, own, injected)
        return torch.cat([self.other_rows(call, query, key, value), injected])

    def _anchored(self, call: Call, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
        """Keys and values of the anchor frames in place of each frame's own."""
        if call.anchors and self in call.anchors:
            key, value = (
                states.unsqueeze(1).expand(-1, call.frames, -1, -1, -1).flatten(0, 1) for states in call.anchors[self]
            )
        elif call.keys:
            key, value = (_from_frames(states, call.keys, call.frames) for states in (key, value))
            if call.anchors is not None:
                # The anchors serve all frames alike: one frame of each row has them all.
                call.anchors[self] = key[:: call.frames].clone(), value[:: call.frames].clone()
        return key, value


class CrossAttention(Processor):
    """Attention to the prompt, edited as in Prompt-to-Prompt (FateZero, section 3.2), maps gathered for the masks."""

    def attend(self, call: Call, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        if call.gather is not None and self.layer.gives_mask:
            call.add_map(call.row(query, call.gather), call.row(key, call.gather))
        if call.cross is None or not self.layer.injects:
            return attention(query, key, value)
        values = call.row(value, TARGET)
        taken = call.cross.take @ values  # (F, heads, source tokens, d)
        kept = call.cross.keep[:, None] * values
        edited = attention(call.row(query, SOURCE), call.row(key, SOURCE), taken)
        edited = edited + attention(call.row(query, TARGET), call.row(key, TARGET), kept)
        return torch.cat([self.other_rows(call, query, key, value), edited])


def attention(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """softmax(Q K^T / sqrt(d)) V, by a fused kernel wherever torch has one for the device: then no map is made."""
    return functional.scaled_dot_product_attention(query, key, value)


def _from_frames(states: Tensor, keys: Sequence[Sequence[int]], frames: int) -> Tensor:
    """Keys or values (rows * F, heads, pixels, d) from chosen frames, concatenated along the pixels."""
    rows = states.unflatten(0, (-1, frames))
    return torch.cat([rows[:, chosen] for chosen in keys], dim=-2).flatten(0, 1)
