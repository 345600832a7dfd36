"""How frames see each other, and with it how a clip may be parted into several calls of the UNet (section 3.2)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import torch
from torch import Tensor

from .attention import Anchors, Call
from .keys import FIXED_KEYS, Served, key_frames, middle_frame, shots_between
from .reuse import Deep


@dataclass(frozen=True)
class TemporalSettings:
    """How frames see each other; inversion and editing must agree in it."""

    keys: tuple[str, ...] = ("mid",)
    """Spatial-temporal self-attention's frames for keys and values (section 3.2)."""
    pooled_norm: bool = False
    """Group normalisation over the clip, as the authors ran it, instead of each frame."""
    temporal_layers: bool = False
    """Whether the checkpoint has layers that see all frames of a row (`temporal`)."""
    fixed: tuple[int, int, int] | None = None
    """Of a part of a clip: where the whole clip's first, middle and last frame lie in it."""
    served: tuple[Served, ...] = ()
    """Of a clip with several anchors (or a part of it): those of each frame, in place of `keys`."""
    cuts: tuple[int, ...] = ()
    """The frames, ascending, with which the second shot begins and all later ones, where each shot has `keys` of its own."""

    @property
    def needs_whole_clip(self) -> bool:
        """Whether all frames must go through the UNet together; otherwise they meet in the anchor frames only."""
        return self.temporal_layers or self.pooled_norm or any(key not in FIXED_KEYS for key in self.keys)

    def middle(self, frames: int) -> int:
        """Where the whole clip's middle frame lies; a part of a clip has it only where it was asked for."""
        return self.fixed[FIXED_KEYS.index("mid")] if self.fixed else middle_frame(frames)

    def chosen(self, frames: int) -> list[list[int]]:
        """For each of the keys the frame that serves each frame."""
        return key_frames(self.keys, frames, self.fixed, self.cuts)

    def anchors(self, frames: int) -> list[int]:
        """The frames that serve all others, of a clip that need not be whole; of several anchors the first, and of
        several shots those of the longest."""
        if self.served:
            return [self.served[0].before]
        if self.cuts:
            first, end = max(shots_between(self.cuts, frames), key=lambda shot: shot[1] - shot[0])
            return [first + anchor for anchor in replace(self, cuts=()).anchors(end - first)]
        return sorted({chosen[0] for chosen in self.chosen(frames)})

    def parts(self, frames: int, size: int | None) -> list[list[int]]:
        """The frames of each call of a step: all of them, or parts of `size`, the first of which holds the anchors."""
        if size is None or size >= frames or self.needs_whole_clip:
            return [list(range(frames))]
        if self.served:
            along = self._along()
            return [sorted(along[start : start + size]) for start in range(0, frames, size)]
        anchors = self.anchors(frames)
        others = sorted(set(range(frames)).difference(anchors))
        beside = max(0, size - len(anchors))
        return [
            sorted(anchors + others[:beside]),
            *(others[start : start + size] for start in range(beside, len(others), size)),
        ]

    def _along(self) -> list[int]:
        """All frames in their order, but that each of the anchors comes before the frames that it serves."""
        order: dict[int, None] = {}
        for frame, (before, after, _) in enumerate(self.served):
            order |= dict.fromkeys((before, after, frame))
        return list(order)


Between = Callable[[float], None]
"""Told between the calls of one step which share of the step's frames is done; an exception in it ends the step."""


def calls(
    temporal: TemporalSettings, rows: tuple[str, ...], frames: int, size: int | None, between: Between
) -> Iterator[tuple[Tensor, Call]]:
    """One step's calls of the UNet, each with the indices of its frames: the same outputs for any `size` of the parts.

    The first call leaves the anchor frames' keys and values to the others, so that no frame is computed twice.
    """
    if temporal.served:
        yield from _calls_along(temporal, rows, frames, size, between)
        return
    if temporal.cuts and not temporal.needs_whole_clip:
        yield from _calls_by_shot(temporal, rows, frames, size, between)
        return
    parts = temporal.parts(frames, size)
    place = {frame: index for index, frame in enumerate(parts[0])}
    keys = [[place[chosen[frame]] for frame in parts[0]] for chosen in temporal.chosen(frames)]
    anchors = {} if len(parts) > 1 else None
    done = 0
    for part in parts:
        if done:
            between(done / frames)
        yield (
            torch.tensor(part),
            Call(rows, len(part), keys=() if done else keys, anchors=anchors, pooled_norm=temporal.pooled_norm),
        )
        done += len(part)


def _calls_by_shot(
    temporal: TemporalSettings, rows: tuple[str, ...], frames: int, size: int | None, between: Between
) -> Iterator[tuple[Tensor, Call]]:
    """The calls of one shot after the other, which have no frame in common."""
    for first, end in shots_between(temporal.cuts, frames):
        if first:
            between(first / frames)

        def told(share: float, first: int = first, count: int = end - first) -> None:
            between((first + share * count) / frames)

        for part, call in calls(replace(temporal, cuts=()), rows, end - first, size, told):
            yield part + first, call


def _calls_along(
    temporal: TemporalSettings, rows: tuple[str, ...], frames: int, size: int | None, between: Between
) -> Iterator[tuple[Tensor, Call]]:
    """The calls of a clip with several anchors: it is walked along, and no more is held between two calls than the keys
    and values of the two anchors that the next frame lies between."""
    parts = temporal.parts(frames, size)
    serving = [sorted({anchor for frame in part for anchor in temporal.served[frame][:2]}) for part in parts]
    needed_last = {anchor: number for number, anchors in enumerate(serving) for anchor in anchors}
    held: dict[int, dict] = {}
    done = 0
    for number, (part, anchors) in enumerate(zip(parts, serving)):
        if done:
            between(done / frames)
        served = [temporal.served[frame] for frame in part]
        made = {frame: index for index, frame in enumerate(part) if frame in anchors}
        own = Anchors(
            frames=anchors,
            made=made,
            before=[anchors.index(one.before) for one in served],
            after=[anchors.index(one.after) for one in served],
            shares=[one.share for one in served],
            held=held,
        )
        yield torch.tensor(part), Call(rows, len(part), several=own)
        for anchor in [anchor for anchor in held if needed_last[anchor] == number]:
            del held[anchor]
        done += len(part)


def calls_of_block(
    steps: int, temporal: TemporalSettings, rows: tuple[str, ...], frames: int, size: int | None, between: Between
) -> Iterator[tuple[Tensor, tuple[Call, ...]]]:
    """The calls of several steps together: all of some frames, the first of which is full (`reuse`), before the next."""
    first = calls(temporal, rows, frames, size, lambda share: between(share * steps))
    others = (calls(temporal, rows, frames, size, lambda share: None) for _ in range(steps - 1))
    for parts in zip(first, *others):
        together = tuple(call for _, call in parts)
        deep = Deep() if steps > 1 else None
        for call in together:
            call.deep = deep
        yield parts[0][0], together


class Frames(Protocol):
    """Something of each frame of a clip, (F, ...): a tensor, or whatever gives and takes some frames' part of one."""

    shape: tuple[int, ...]
    dtype: torch.dtype
    nbytes: int
    device: torch.device
    """Where what it gives lies."""

    def __len__(self) -> int: ...
    def __getitem__(self, part: slice | Sequence[int] | Tensor, /) -> Tensor: ...


class MadeFrames(Frames, Protocol):
    """Such that are made some frames at a time."""

    def __setitem__(self, part: slice | Sequence[int] | Tensor, values: Tensor, /) -> None: ...


Table = Callable[[int, Tensor], MadeFrames]
"""Makes them for so many frames, each with what the values (n, ...) have of one."""


def put(
    whole: MadeFrames | None, part: slice | Sequence[int] | Tensor, values: Tensor, table: Table, frames: int
) -> MadeFrames:
    """`values` of the frames `part` put in their places in `whole`, which `table` makes with the first of them."""
    if whole is None:
        whole = table(frames, values)
    whole[part] = values.to(whole.device)
    return whole
