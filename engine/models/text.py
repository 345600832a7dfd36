"""Prompts to embeddings."""

from __future__ import annotations

import torch
from torch import Tensor

from ..fatezero.prompts import Prompt
from .checkpoint import Checkpoint


def read_prompt(checkpoint: Checkpoint, text: str) -> Prompt:
    """The prompt in the checkpoint's tokens."""
    return Prompt.read(text, checkpoint.tokenizer, checkpoint.text_encoder.config.max_position_embeddings)


@torch.no_grad()
def embed(checkpoint: Checkpoint, prompt: Prompt) -> Tensor:
    """(length, width): the text encoder's last hidden state for the padded prompt."""
    tokens = prompt.padded(checkpoint.tokenizer.pad_token_id).to(checkpoint.text_encoder.device)
    return checkpoint.text_encoder(tokens)[0][0]
