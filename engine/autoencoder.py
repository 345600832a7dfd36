"""Pictures to latents and back: whole, or in bands of rows where the device cannot take a picture whole.

Bands give what the whole gives, so no seam can show: each convolution sees the rows around its band, and each group
normalisation takes its statistics of all bands. (Tiles that go through the network one by one, as diffusers has them,
have statistics of their own: their tones differ.) Between two layers the feature maps lie in the machine's memory, and
the device holds one band.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from diffusers import AutoencoderKL
from diffusers.models.resnet import ResnetBlock2D
from diffusers.models.upsampling import Upsample2D
from torch import Tensor, nn
from torch.nn.functional import silu

HALO = 2
"""Rows beyond a band on each side that a layer may look at: a convolution 3 x 3 one, and its steps of 2 stay even."""


@torch.no_grad()
def encode(vae: AutoencoderKL, pictures: Tensor, band: int | None = None) -> Tensor:
    """(F, 3, H, W) to scaled latents (F, 4, h, w), float32: the mean, so that results repeat. `band`: its pixels; None: whole."""
    if band is None:
        mean = vae.encode(pictures.to(vae.device, vae.dtype)).latent_dist.mean
    else:
        encoder, bands = vae.encoder, _Bands(vae.device, band)
        features = bands.each(encoder.conv_in, pictures.to(vae.dtype))
        for block in encoder.down_blocks:
            features = bands.block(block, features, block.downsamplers)
        # What is left is no larger than the latents, and attends to the whole picture.
        features = encoder.mid_block(features.to(vae.device))
        moments = encoder.conv_out(encoder.conv_act(encoder.conv_norm_out(features)))
        mean = (vae.quant_conv(moments) if vae.quant_conv else moments).chunk(2, dim=1)[0]
    # Contiguous, as latents from a disk are: the order in memory chooses a convolution's kernel, and with it last bits.
    return (mean.float() * vae.config.scaling_factor).contiguous()


@torch.no_grad()
def decode(vae: AutoencoderKL, latents: Tensor, band: int | None = None) -> Tensor:
    """Scaled latents (F, 4, h, w) to (F, 3, H, W), float32 in -1 to 1. `band`: its pixels; None: whole."""
    latents = (latents / vae.config.scaling_factor).to(vae.device, vae.dtype)
    if band is None:
        return vae.decode(latents).sample.float()
    decoder, bands = vae.decoder, _Bands(vae.device, band)
    latents = vae.post_quant_conv(latents) if vae.post_quant_conv else latents
    features = decoder.mid_block(decoder.conv_in(latents)).cpu()
    for block in decoder.up_blocks:
        features = bands.block(block, features, block.upsamplers)
    norm = bands.norm(decoder.conv_norm_out, features)
    return bands.each(lambda part: decoder.conv_out(silu(norm(part))), features).float()


class _Bands:
    """Layers that go over feature maps (F, C, H, W) in the machine's memory, a band at a time on the device."""

    def __init__(self, device: torch.device, pixels: int):
        self._device, self._pixels = device, pixels

    def each(self, work: Callable[..., Tensor], *maps: Tensor, growth: int = 1) -> Tensor:
        """What `work` makes of maps of one size; it may look at `HALO` rows around, and change all sizes alike.

        `growth`: pixels that it makes of one, where they are more.
        """
        height, width = maps[0].shape[-2:]
        rows, out = self._rows(width * growth), None
        for begin in range(0, height, rows):
            end = min(begin + rows, height)
            first, last = max(0, begin - HALO), min(height, end + HALO)
            part = work(*(each[..., first:last, :].to(self._device) for each in maps))
            each_row = part.shape[-2] / (last - first)  # rows that a row has become: 1/2, 1 or 2
            if out is None:
                out = torch.empty(*part.shape[:2], int(height * each_row), part.shape[-1], dtype=part.dtype)
            skipped, begin, end = (int(row * each_row) for row in (begin - first, begin, end))
            out[..., begin:end, :] = part[..., skipped : skipped + end - begin, :]
        return out

    def norm(self, norm: nn.GroupNorm, features: Tensor) -> Callable[[Tensor], Tensor]:
        """The normalisation of any band by the statistics of all."""
        rows, total = self._rows(features.shape[-1]), features.shape[-2]
        mean = square = 0.0
        for part in features.split(rows, dim=-2):
            spread, centre = torch.var_mean(_grouped(norm, part.to(self._device)), dim=(2, 3, 4), correction=0)
            spread, centre = spread.cpu().double(), centre.cpu().double()
            mean = mean + centre * part.shape[-2] / total
            square = square + (spread + centre**2) * part.shape[-2] / total
        scale = (square - mean**2 + norm.eps).rsqrt()
        mean, scale = (part.to(features.dtype).to(self._device)[..., None, None, None] for part in (mean, scale))

        def normalize(part: Tensor) -> Tensor:
            out = _grouped(norm, part).sub(mean).mul_(scale).flatten(1, 2)
            return out.mul_(norm.weight[:, None, None]).add_(norm.bias[:, None, None])

        return normalize

    def block(self, block: nn.Module, features: Tensor, samplers: nn.ModuleList | None) -> Tensor:
        """A level of the encoder or of the decoder."""
        for resnet in block.resnets:
            features = self._resnet(resnet, features)
        for sampler in samplers or ():
            features = self.each(sampler, features, growth=4 if isinstance(sampler, Upsample2D) else 1)
        return features

    def _resnet(self, resnet: ResnetBlock2D, features: Tensor) -> Tensor:
        norm1 = self.norm(resnet.norm1, features)
        inner = self.each(lambda part: resnet.conv1(silu(norm1(part))), features)
        norm2 = self.norm(resnet.norm2, inner)

        def outer(part: Tensor, beside: Tensor) -> Tensor:
            beside = resnet.conv_shortcut(beside) if resnet.conv_shortcut else beside
            return (beside + resnet.conv2(silu(norm2(part)))) / resnet.output_scale_factor

        return self.each(outer, inner, features)

    def _rows(self, width: int) -> int:
        """Of a band: even, so that steps of 2 begin alike in all."""
        return max(2, self._pixels // width // 2 * 2)


def _grouped(norm: nn.GroupNorm, features: Tensor) -> Tensor:
    return features.unflatten(1, (norm.num_groups, -1))  # (F, groups, channels of a group, H, W)
