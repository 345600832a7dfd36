"""The autoencoder in bands of rows: what the whole gives, in the memory of a band."""

import numpy as np
import pytest
import torch
from torch import nn

from engine.autoencoder import HALO, decode, encode
from engine.editing import Editor
from engine.memory import AUTOENCODER_ACTIVATIONS


@pytest.fixture(scope="module", params=["small", "builtin"])
def vae(request, small_checkpoint):
    """One with attention in its middle, and one without, which is trained."""
    model = str(small_checkpoint) if request.param == "small" else "builtin"
    return Editor.load(model, device="cpu", precision="float32").checkpoint.vae


def pictures(height: int, width: int) -> torch.Tensor:
    """Noise that grows brighter downwards, so that no band looks like the picture."""
    noise = torch.from_numpy(np.random.default_rng(0).normal(0, 0.2, (2, 3, height, width))).float()
    return noise + torch.linspace(-1, 1, height)[:, None]


def far(actual: torch.Tensor, expected: torch.Tensor) -> float:
    assert actual.shape == expected.shape
    return float((actual - expected).abs().max() / expected.abs().max())


@pytest.mark.parametrize("band", [0, 7 * 96, 40 * 96, 10**9])
def test_bands_give_what_the_whole_gives(vae, band):
    shown = pictures(160, 96)
    latents = encode(vae, shown)
    assert far(encode(vae, shown, band), latents) < 1e-5
    assert far(decode(vae, latents, band), decode(vae, latents)) < 1e-5


@pytest.mark.parametrize("band", [None, 40 * 96])
def test_the_built_in_models_comes_near_in_bfloat16(band):
    rough, exact = (Editor.load("builtin", "cpu", precision).checkpoint.vae for precision in ("bfloat16", "float32"))
    assert (rough.dtype, exact.dtype) == (torch.bfloat16, torch.float32)
    shown = pictures(160, 96)
    latents = encode(rough, shown, band)
    again, wanted = decode(rough, latents, band), decode(exact, encode(exact, shown))
    assert again.dtype == latents.dtype == torch.float32
    assert 0 < ((again - wanted).square().mean() / wanted.square().mean()).sqrt() < 0.01


def test_no_layer_of_the_wide_levels_takes_more_than_a_band(vae):
    band, taken = 16 * 96, []

    def note(_, arguments, output):
        taken.append(max(arguments[0][0, 0].numel(), output[0, 0].numel()))

    def wide():
        yield from (vae.encoder.conv_in, vae.encoder.down_blocks, vae.decoder.up_blocks, vae.decoder.conv_out)

    convolutions = [module for part in wide() for module in part.modules() if isinstance(module, nn.Conv2d)]
    hooks = [module.register_forward_hook(note) for module in convolutions]
    decode(vae, encode(vae, pictures(160, 96), band), band)
    for hook in hooks:
        hook.remove()
    assert band / 2 < max(taken) <= band + 4 * HALO * 96, "where a level is enlarged, its halo is, too"
    assert len(taken) > 2 * len(convolutions), "in more than one part"


def peak(work) -> int:
    """The most that torch's allocator held at one time for `work`, in bytes."""
    with torch.profiler.profile(profile_memory=True) as profile:
        work()
    held = most = 0
    for event in profile.profiler.kineto_results.events():
        if event.name() == "[memory]":
            held += event.nbytes()
            most = max(most, held)
    return most


def test_the_estimate_of_memory_is_above_what_is_used_and_bands_use_less(vae):
    shown = pictures(256, 96)[:1]
    latents = encode(vae, shown)
    estimate = AUTOENCODER_ACTIVATIONS * max(vae.config.block_out_channels[:2]) * 256 * 96 * 4
    whole = [peak(lambda: encode(vae, shown)), peak(lambda: decode(vae, latents))]
    parted = [peak(lambda: encode(vae, shown, 8 * 96)), peak(lambda: decode(vae, latents, 8 * 96))]
    assert 0 < max(whole) <= estimate
    # On a GPU the whole maps between the layers are not there at all; here they are counted.
    assert all(less < 0.9 * more for less, more in zip(parted, whole, strict=True))
