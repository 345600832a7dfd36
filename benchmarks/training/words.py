"""Which word names which place: tokens of captions, and the loss that ties cross-attention to the rendered regions.

FateZero's masks are cross-attention maps of words. A model this small, trained this briefly, does not come to point
with its words by itself, but here the truth is known: the renderer says which places each word names. So the maps are
taught, in the spirit of TokenCompose (arXiv 2312.03626).
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from diffusers import UNet2DConditionModel
from diffusers.models.attention_processor import Attention

from .pictures import ALL, NOTHING, REGIONS

_ALL_WEIGHT = 0.5  # of a word that names the whole picture, beside a word that names the place itself


def read_captions(path: Path, tokenizer) -> tuple[np.ndarray, np.ndarray]:
    """Token ids (N, paraphrases, 77) int16 and the region each token names, (N, paraphrases, 77) int8.

    Of a word of several tokens the last one names the word's region: only there has a causal encoder read all of it.
    """
    captions = json.loads(path.read_text())
    shape = (len(captions), len(captions[0]), tokenizer.model_max_length)
    tokens = np.full(shape, tokenizer.pad_token_id, np.int16)
    regions = np.full(shape, NOTHING, np.int8)
    known: dict[str, list[int]] = {}
    for row, paraphrases in enumerate(captions):
        for column, (text, named) in enumerate(paraphrases):
            place = 1
            for word, region in zip(text.split(), named, strict=True):
                if word not in known:
                    known[word] = tokenizer(word, add_special_tokens=False).input_ids
                pieces = known[word]
                tokens[row, column, place : place + len(pieces)] = pieces
                place += len(pieces)
                regions[row, column, place - 1] = region
            tokens[row, column, 0] = tokenizer.bos_token_id
    return tokens, regions


def attention_targets(named: torch.Tensor) -> torch.Tensor:
    """From (B, tokens) regions named: (B, REGIONS, tokens), how a place of a region should share its attention.

    The words that name a region share alike; where none does, the row is zero.
    """
    own = F.one_hot(named.long() + 1, ALL + 2).transpose(1, 2).float()  # (B, NOTHING REGIONS ALL, tokens)
    shares = own[:, 1 : 1 + REGIONS] + _ALL_WEIGHT * own[:, 1 + ALL :]
    return shares / shares.sum(-1, keepdim=True).clamp(min=1e-6)


def attention_loss(maps: list[torch.Tensor], targets: torch.Tensor, regions: torch.Tensor) -> torch.Tensor:
    """Mean cross-entropy of the maps (B, places, tokens) of several layers against what each place should attend to.

    ``targets`` is ``attention_targets``' result, ``regions`` (B, REGIONS, 32, 32) shares of the regions in 0…1.
    """
    losses = []
    for attention in maps:
        side = int(attention.shape[1] ** 0.5)
        shares = F.adaptive_avg_pool2d(regions, side).flatten(2).transpose(1, 2)  # (B, places, REGIONS)
        losses.append(-((shares @ targets) * (attention + 1e-6).log()).sum(-1).mean())
    return torch.stack(losses).mean()


class MapProcessor:
    """An attention processor for cross-attention that also keeps its map, the mean over heads: (B, places, tokens)."""

    def __init__(self, maps: list[torch.Tensor]):
        self.maps = maps

    def __call__(self, attn: Attention, hidden_states, encoder_hidden_states, attention_mask=None, temb=None):
        query, key, value = (
            projected.unflatten(-1, (attn.heads, -1)).transpose(1, 2)  # (B, heads, places or tokens, channels)
            for projected in (
                attn.to_q(hidden_states),
                attn.to_k(encoder_hidden_states),
                attn.to_v(encoder_hidden_states),
            )
        )
        probabilities = (query @ key.transpose(-1, -2) * attn.scale).float().softmax(-1)
        self.maps.append(probabilities.mean(1))
        out = (probabilities.to(value.dtype) @ value).transpose(1, 2).flatten(2)
        return attn.to_out[1](attn.to_out[0](out))


def keep_maps(unet: UNet2DConditionModel) -> list[torch.Tensor]:
    """Makes every call of ``unet`` append the maps of its down and up paths' cross-attention to the list returned."""
    maps: list[torch.Tensor] = []
    for name, module in unet.named_modules():
        if name.endswith("attn2") and not name.startswith("mid_block"):
            module.set_processor(MapProcessor(maps))
    return maps
