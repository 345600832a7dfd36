"""Which levels of a UNet the method acts on: a fact about a family of checkpoints."""

from __future__ import annotations

from dataclasses import dataclass


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


def level_sizes(latent_size: tuple[int, int], levels: int) -> list[tuple[int, int]]:
    """(height, width) of the feature maps of each level; a stride-2 convolution rounds up."""
    sizes = [latent_size]
    while len(sizes) < levels:
        height, width = sizes[-1]
        sizes.append(((height + 1) // 2, (width + 1) // 2))
    return sizes
