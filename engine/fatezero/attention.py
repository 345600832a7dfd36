"""What FateZero does inside attention, through diffusers' attention processors and without storing a map.

A call of the UNet carries *rows* of F frames each: the source at its own noise level, or the edit with the empty prompt
and with the target prompt. The source's attention is the inversion's: its call leaves the queries and keys of a step
(`Source`), and whatever is injected into the target row is computed from them on the spot:

- the source's self-attention map on the edit's values is fused attention of (Q_source, K_source, V_target);
- an edited cross-attention map is linear in the source's and the edit's own map, token by token:
  `new = P_source A + P_target diag(b)`. So `new V = P_source (A V) + P_target (b V)`: fused calls on mixed values.

Frames that share their keys and values, those of a prompt or of an anchor frame, are one long list of queries: the
tensors here are (groups, heads, pixels, d), where a group is a row with the pixels of all its frames, or one frame.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from . import kernels
from .reuse import Deep

SOURCE, EMPTY, TARGET = "source", "empty", "target"


@dataclass(frozen=True)
class CrossEdit:
    """One step's edit of cross-attention: `new = P_source @ take + P_target * keep`."""

    take: Tensor
    """(tokens, tokens), from source tokens (rows) to target tokens (columns)."""
    keep: Tensor
    """(tokens,)"""


class Text:
    """A prompt's embedding (length, width), and its keys and values by layer, which are the same in all calls of a run."""

    def __init__(self, embedding: Tensor):
        self.embedding = embedding
        self._projected: dict[Processor, tuple[Tensor, Tensor]] = {}

    def keys_and_values(self, processor: Processor, attn) -> tuple[Tensor, Tensor]:
        """(1, heads, length, d) each."""
        if processor not in self._projected:
            states = self.embedding.to(attn.to_k.weight)[None]
            self._projected[processor] = by_head(attn.to_k(states), attn.heads), by_head(attn.to_v(states), attn.heads)
        return self._projected[processor]


@dataclass
class Source:
    """What one call of the source leaves for the edit's call at the same timestep: its queries and keys by layer."""

    self_attention: bool
    """Whether the layers that inject leave those of their self-attention,"""
    cross_attention: bool
    """and those of their cross-attention."""
    taken: dict[Processor, tuple[Tensor, Tensor]] = field(default_factory=dict)

    @property
    def nbytes(self) -> int:
        """Of the queries and the keys; those of texts and anchors count for each layer."""
        return sum(tensor.nbytes for pair in self.taken.values() for tensor in pair)


class SourceLeft(Exception):
    """Ends a call of the source, once it has left all that it was made for: its output has no use."""


@dataclass
class Anchors:
    """Several anchors of a clip, as one call of the UNet meets them: those that serve its frames, in ascending order."""

    frames: Sequence[int]
    """Their numbers in the clip."""
    made: Mapping[int, int]
    """Those that are among the call's frames, and where."""
    before: Sequence[int]
    """For each of the call's frames the place in `frames` of the anchor before it,"""
    after: Sequence[int]
    """of the one after it,"""
    shares: Sequence[float]
    """and how much of its attention goes to that one."""
    held: dict[int, dict[Processor, tuple[Tensor, Tensor]]]
    """Keys and values (rows, heads, pixels, d) of the anchors of this call and of earlier ones, by layer."""


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
    several: Anchors | None = None
    """Of a clip with several anchors: those that serve its frames on the profile's anchor levels, in place of `keys`."""
    pooled_norm: bool = False
    """Group normalisation over all frames of a row instead of each frame."""
    leaves: Source | None = None
    """Takes what a call of the source leaves."""
    source: Source | None = None
    """What such a call has left for `cross` and `inject_self`."""
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
    texts: Sequence[Text] = ()
    """The prompt of each row, by the UNet's call; none: what the UNet was given."""
    layers_left: int | None = None
    """Of a call that ends with the last layer that leaves something: how many have not come yet. None: it goes on."""
    alike: bool = False
    """Whether all rows begin with the same latents: until the first prompt is seen, they are one."""
    deep: Deep | None = None
    """Filled by this call, or what it reuses in place of all levels but the finest."""

    def add_map(self, query: Tensor, key: Tensor) -> None:
        """Average the softmax of a row's queries (groups, heads, pixels, d) on its keys in, a head at a time."""
        heads, scale = query.shape[1], query.shape[-1] ** -0.5
        for head in range(heads):
            scores = query[:, head].float() @ key[:, head].float().transpose(-1, -2)
            part = scores.mul_(scale).softmax(-1).view(self.frames, -1, key.shape[-2])
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
    before_text: bool = False
    """Whether it runs before any cross-attention, so that rows of the same latents are still the same there."""


class Processor(ABC):
    """Base of both attention processors: projections in and out as diffusers does them.

    `current` is shared by all processors of a UNet: one list that holds the running `Call`.
    """

    def __init__(self, layer: Layer, current: list[Call]):
        self.layer, self.current = layer, current

    def __call__(self, attn, hidden_states: Tensor, encoder_hidden_states: Tensor | None = None, **_) -> Tensor:
        """(rows * F, pixels, channels) to the same; the UNet calls this in place of its own attention."""
        out = self.attend(self.current[0], attn, hidden_states, encoder_hidden_states)
        return attn.to_out[0](out.transpose(1, 2).reshape(*hidden_states.shape[:2], -1))

    @abstractmethod
    def attend(self, call: Call, attn, states: Tensor, context: Tensor | None) -> Tensor:
        """Attention of all rows, edited as `call` says: (groups, heads, pixels, d), in the order of `states`."""

    def leave(self, call: Call, query: Tensor, key: Tensor) -> None:
        """Leave a source's queries and keys to the edit; ends the call with the last that it was made for."""
        call.leaves.taken[self] = query, key
        if call.layers_left is not None:
            call.layers_left -= 1
            if not call.layers_left:
                raise SourceLeft


class SelfAttention(Processor):
    """Spatial-temporal self-attention with the source's injected (FateZero, section 3.2)."""

    def attend(self, call: Call, attn, states: Tensor, context: Tensor | None) -> Tensor:
        """Rows that are one still are computed once; the target, which comes last, takes what the source has left."""
        if call.inject_self and self.layer.injects:
            return self._injected(call, attn, states)
        if call.alike and self.layer.before_text:
            once = self._plain(call, attn, states[: call.frames])
            return once.repeat(len(call.rows), 1, 1, 1)
        return self._plain(call, attn, states)

    def _plain(self, call: Call, attn, states: Tensor) -> Tensor:
        key, value = self._keys_and_values(call, attn, states, states)
        query = self._queries(call, attn, states)
        if call.leaves and call.leaves.self_attention and self.layer.injects:
            self.leave(call, query, key)
        return self._attention(call, query, key, value)

    def _injected(self, call: Call, attn, states: Tensor) -> Tensor:
        """The source's map on the target's values; the target's own only where a mask lets it."""
        own = states if call.mask or len(call.rows) == 1 else states[: -call.frames]  # rows whose own maps are computed
        key, value = self._keys_and_values(call, attn, own, states)
        source_query, source_key = call.source.taken[self]
        groups = len(source_query)  # of a row
        if own is states:
            value = torch.cat([value, value[-len(source_key) :]])
        query = torch.cat([self._queries(call, attn, own), source_query])
        out = self._attention(call, query, torch.cat([key, source_key]), value)
        if own is not states:
            return out
        others, kept, injected = out[: -2 * groups], out[-2 * groups : -groups], out[-groups:]
        if call.mask:
            injected = torch.where(call.mask(self.layer.level).reshape(groups, 1, -1, 1), kept, injected)
        return torch.cat([others, injected])

    def _attention(self, call: Call, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """Attention of groups on theirs; of several anchors that to the two beside each frame, cross-faded."""
        several = call.several
        if not (several and self.layer.anchored):
            return attention(query, key, value)
        rows = query.unflatten(0, (-1, call.frames))
        out = attention(query, _of_anchors(key, several.before), _of_anchors(value, several.before))
        between = [place for place, share in enumerate(several.shares) if share]
        if not between:
            return out
        after = [several.after[place] for place in between]
        some = torch.stack([rows[:, place] for place in between], 1).flatten(0, 1)
        there = attention(some, _of_anchors(key, after), _of_anchors(value, after)).unflatten(0, (-1, len(between)))
        frames = out.unflatten(0, (-1, call.frames))
        for index, place in enumerate(between):
            frames[:, place].lerp_(there[:, index], several.shares[place])
        return out

    def _shares_keys(self, call: Call) -> bool:
        """Whether all frames of a row have the same keys and values."""
        if not self.layer.anchored:
            return False
        return bool(call.anchors) or (bool(call.keys) and all(len(set(chosen)) == 1 for chosen in call.keys))

    def _queries(self, call: Call, attn, states: Tensor) -> Tensor:
        query = attn.to_q(states)
        if self._shares_keys(call):
            query = query.reshape(-1, call.frames * query.shape[-2], query.shape[-1])
        return by_head(query, attn.heads)

    def _keys_and_values(self, call: Call, attn, for_keys: Tensor, for_values: Tensor) -> tuple[Tensor, Tensor]:
        """Of the anchor frames where they serve all, else of each frame or of those that serve it.

        Of several anchors (rows, anchors, heads, pixels, d).
        """
        if call.several and self.layer.anchored:
            return self._of_several(call, attn, for_keys, for_values)
        if not self._shares_keys(call):
            pair = by_head(attn.to_k(for_keys), attn.heads), by_head(attn.to_v(for_values), attn.heads)
            if self.layer.anchored and call.keys:
                pair = tuple(_from_frames(states, call.keys, call.frames) for states in pair)
            return pair
        if call.anchors and self in call.anchors:
            return call.anchors[self]
        key, value = attn.to_k(_anchors(call, for_keys)), attn.to_v(_anchors(call, for_values))
        pair = by_head(key, attn.heads), by_head(value, attn.heads)
        if call.anchors is not None:
            call.anchors[self] = pair
        return pair

    def _of_several(self, call: Call, attn, for_keys: Tensor, for_values: Tensor) -> tuple[Tensor, Tensor]:
        held = call.several.held
        for anchor, place in call.several.made.items():  # each by itself: then no other one changes its last bits
            frame = (states.unflatten(0, (-1, call.frames))[:, place] for states in (for_keys, for_values))
            pair = zip((attn.to_k, attn.to_v), frame)
            held.setdefault(anchor, {})[self] = tuple(by_head(project(states), attn.heads) for project, states in pair)
        keys, values = zip(*(held[anchor][self] for anchor in call.several.frames))
        return torch.stack(keys, 1), torch.stack(values, 1)


class CrossAttention(Processor):
    """Attention to the prompt, edited as in Prompt-to-Prompt (FateZero, section 3.2), maps gathered for the masks."""

    def attend(self, call: Call, attn, states: Tensor, context: Tensor | None) -> Tensor:
        query = attn.to_q(states)
        if not call.texts:
            key, value = (by_head(projection(context), attn.heads) for projection in (attn.to_k, attn.to_v))
            return attention(by_head(query, attn.heads), key, value)
        query = by_head(query.reshape(len(call.rows), -1, query.shape[-1]), attn.heads)  # a row's frames share its text
        pairs = [text.keys_and_values(self, attn) for text in call.texts]
        keys, values = [key for key, _ in pairs], [value for _, value in pairs]
        if call.gather is not None and self.layer.gives_mask:
            row = call.rows.index(call.gather)
            call.add_map(query[row : row + 1], keys[row])
        if call.cross is None or not self.layer.injects:
            if call.leaves and call.leaves.cross_attention and self.layer.injects:
                self.leave(call, query, keys[0])
            return attention(query, torch.cat(keys), torch.cat(values))
        source_query, source_key = call.source.taken[self]
        target = values[-1]
        values = [*values[:-1], call.cross.keep[:, None] * target, call.cross.take @ target]
        out = attention(torch.cat([query, source_query]), torch.cat([*keys, source_key]), torch.cat(values))
        return torch.cat([out[:-2], out[-2:-1] + out[-1:]])


def by_head(states: Tensor, heads: int) -> Tensor:
    """(groups, pixels, channels) as (groups, heads, pixels, d)."""
    return states.unflatten(-1, (heads, -1)).transpose(1, 2)


def attention(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """softmax(Q K^T / sqrt(d)) V, by the kernel that was chosen for the device (`kernels`)."""
    return kernels.run(query, key, value)


def _from_frames(states: Tensor, keys: Sequence[Sequence[int]], frames: int) -> Tensor:
    """Keys or values (rows * F, heads, pixels, d) from chosen frames, concatenated along the pixels."""
    rows = states.unflatten(0, (-1, frames))
    return torch.cat([rows[:, chosen] for chosen in keys], dim=-2).flatten(0, 1)


def _of_anchors(states: Tensor, places: Sequence[int]) -> Tensor:
    """Keys or values (rows, anchors, heads, pixels, d) as those of frames (rows * F, heads, pixels, d)."""
    return torch.stack([states[:, place] for place in places], 1).flatten(0, 1)


def _anchors(call: Call, states: Tensor) -> Tensor:
    """(rows * F, pixels, channels) of the frames whose keys and values serve all: (rows, their pixels, channels)."""
    rows = states.unflatten(0, (-1, call.frames))
    return torch.cat(
        [rows[:, serving[0]] for serving in call.keys], dim=1
    )  # no index goes to the device: none is awaited
