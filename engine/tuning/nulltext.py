"""Tuning of a model that draws changes of shape by itself: the empty prompt learns what the clip's prompt means in the clip.

What Tune-A-Video trains, queries and temporal layers, cannot tell prompts apart: what it learns under the clip's prompt it
does under every other one too, and a model that knows its words well then draws the source's shape for all of them. So
here the cross-attention's keys and values are trained alone (Custom Diffusion, arXiv 2212.04488, section 3.1), and under
the empty prompt, which null-text inversion (arXiv 2211.09794) fits to a picture too: it is brought half of the way to what
the untuned model makes of the clip under the clip's own prompt. Other prompts are held to what the untuned model makes of
them (prior preservation; DreamBooth, arXiv 2208.12242, section 3.2). Guidance leads away from the empty prompt, so that it
then also leads away from the shape that shall go. Why half, and what else was tried: `docs/quality.md`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from transformers import CLIPTokenizer

from ..fatezero.schedule import Schedule
from ..fatezero.unet import FateZeroUNet
from .training import Training

TRAINED = ("attn2.to_k.", "attn2.to_v.")
"""The parameters that are trained, by parts of their names."""
SHARE = 0.5
"""Of the way from the empty prompt to the clip's."""


@dataclass(frozen=True)
class Prompts:
    """A clip's prompt, and those like it: with one of `words` in the place of one of its own."""

    prompt: str
    words: list[str]
    embed: Callable[[str], Tensor]
    """A prompt's embedding (length, width)."""

    def another(self, generator: torch.Generator) -> str:
        own = self.prompt.split()
        place, word = (int(torch.randint(len(choices), (), generator=generator)) for choices in (own, self.words))
        return " ".join([*own[:place], self.words[word], *own[place + 1 :]])


class NullTextTraining(Training):
    """The empty prompt brought towards the clip's where the clip's latents (F, 4, h, w) are, and other prompts held.

    `untuned`: what the UNet was, with weights of its own, which are not trained. A step is one of each kind.
    """

    def __init__(
        self,
        unet: FateZeroUNet,
        untuned: FateZeroUNet,
        trained: Mapping[str, nn.Parameter],
        latents: Tensor,
        prompts: Prompts,
        schedule: Schedule,
        rate: float,
        seed: int,
    ):
        super().__init__(unet, trained, latents, prompts.embed(""), schedule, rate, seed)
        self._untuned, self._prompts = untuned, prompts

    def advance(self) -> float:
        """Do one step of each kind; returns the loss of the first."""
        noisy, _, timestep = self._draw()
        empty = self._meant(noisy, timestep, "")
        wanted = empty + SHARE * (self._meant(noisy, timestep, self._prompts.prompt) - empty)
        loss = self._learn(noisy, timestep, self._context, wanted)
        noisy, _, timestep = self._draw()
        another = self._prompts.another(self._generator)
        wanted = self._meant(noisy, timestep, another)
        self._learn(noisy, timestep, self._as_context(self._prompts.embed(another)), wanted)
        self.step += 1
        return loss

    @torch.no_grad()
    def _meant(self, noisy: Tensor, timestep: int, prompt: str) -> Tensor:
        """What the untuned UNet makes of `noisy`, (F, 4, h, w) both, under a prompt."""
        with self._untuned.doing(self._call):
            return self._predict(noisy, timestep, self._as_context(self._prompts.embed(prompt)), self._untuned).float()


def whole_words(tokenizer: CLIPTokenizer) -> list[str]:
    """The words that the tokenizer has a token of their own for, in the order of the alphabet."""
    return sorted(token.removesuffix("</w>") for token in tokenizer.get_vocab() if re.fullmatch("[a-z]{3,}</w>", token))
