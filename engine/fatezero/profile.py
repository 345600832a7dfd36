"""Which levels of a UNet the method acts on: a fact about a family of checkpoints."""

from __future__ import annotations

from dataclasses import dataclass, replace


@dataclass(frozen=True)
class Profile:
    """Level l is the feature maps of 1/2^l of the latents' side, whatever the picture's size.

    The defaults are the paper's for Stable Diffusion 1.x: attention is injected at half the latents' side and below,
    masks come from a quarter, keys and values of one frame serve the layers of 640 channels and more.
    """

    inject_levels: frozenset[int] = frozenset({1, 2, 3})
    mask_level: int = 2
    mask_places: frozenset[str] = frozenset({"down", "up"})
    anchor_levels: frozenset[int] = frozenset({1, 2, 3})
    keys: tuple[str, ...] | None = None
    """Frames that give self-attention its keys and values, where the checkpoint was trained with them; None: any will do."""
    pooled_norm: bool | None = None
    """Whether the checkpoint was trained with group normalisation over all frames; None: either will do."""
    words: frozenset[str] | None = None
    """All words that the checkpoint was taught, where these are few; None: as many as its text encoder knows."""
    half_autoencoder: bool = False
    """Whether its autoencoder, too, may compute in bfloat16 on a CPU that edits in it: nobody sees a difference."""
    needs_whole_clip: bool = False
    """Whether layers see all frames of a row, so that a clip cannot be edited in parts with the same result."""


def tuned(profile: Profile, levels: int) -> Profile:
    """The profile of a tuned video checkpoint whose UNet has `levels`: previous and first frame as keys in all layers."""
    return replace(
        profile,
        anchor_levels=frozenset(range(levels)),
        keys=("-1", "first"),
        pooled_norm=True,
        needs_whole_clip=True,
    )


def level_sizes(latent_size: tuple[int, int], levels: int) -> list[tuple[int, int]]:
    """(height, width) of the feature maps of each level; a stride-2 convolution rounds up."""
    sizes = [latent_size]
    while len(sizes) < levels:
        height, width = sizes[-1]
        sizes.append(((height + 1) // 2, (width + 1) // 2))
    return sizes
