"""Every family of checkpoints that people have: each samples as diffusers' own pipeline does, and edits a clip."""

import numpy as np
import pytest
import torch
from diffusers import DDIMScheduler, StableDiffusionPipeline

from engine.editing import Editor
from engine.fatezero.attention import EMPTY, TARGET, Call, attention
from engine.fatezero.schedule import Schedule, guide
from engine.fatezero.unet import FateZeroUNet
from engine.models.checkpoint import load
from engine.models.text import embed, read_prompt
from protocol.settings import apply_preset
from tests.engine.families import FAMILIES, make

CPU = torch.device("cpu")
TOLERANCE = {torch.float32: 1e-4, torch.float16: 0.02, torch.bfloat16: 0.1}
PROMPT = "a red cube on grass"
STEPS, FRAMES, GUIDANCE = 4, 2, 7.5


@pytest.fixture(scope="module", params=FAMILIES)
def folder(request, tmp_path_factory):
    return make(tmp_path_factory.mktemp("families") / "checkpoint", FAMILIES[request.param])


def noise(side: int) -> torch.Tensor:
    return torch.randn(FRAMES, 4, side, side, generator=torch.Generator().manual_seed(1))


@torch.no_grad()
def sample(folder, dtype) -> torch.Tensor:
    """Our parts, with nothing injected and each frame its own keys."""
    checkpoint = load(str(folder), CPU, dtype)
    unet = FateZeroUNet(checkpoint.unet, checkpoint.profile)
    schedule = Schedule.from_config(checkpoint.scheduler_config, STEPS)
    contexts = [embed(checkpoint, read_prompt(checkpoint, text)) for text in ("", PROMPT)]
    x = noise(checkpoint.image_side // checkpoint.factor)
    for timestep in schedule.timesteps:
        outputs = unet([x, x], timestep, contexts, Call((EMPTY, TARGET), FRAMES))
        empty, conditional = (schedule.noise(output, x, timestep) for output in outputs)
        x = schedule.denoise(x, guide(empty, conditional, GUIDANCE), timestep)
    return x


def sample_with_diffusers(folder, dtype) -> torch.Tensor:
    pipe = StableDiffusionPipeline.from_pretrained(
        folder, safety_checker=None, feature_extractor=None, torch_dtype=dtype, local_files_only=True
    )
    pipe.set_progress_bar_config(disable=True)
    pipe.scheduler = DDIMScheduler.from_config(pipe.scheduler.config, timestep_spacing="leading", clip_sample=False)
    return pipe(
        [PROMPT] * FRAMES,
        num_inference_steps=STEPS,
        guidance_scale=GUIDANCE,
        latents=noise(pipe.unet.config.sample_size).to(dtype),
        output_type="latent",
    ).images.float()


@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
def test_it_samples_as_diffusers_does(folder, dtype):
    ours, theirs = sample(folder, dtype), sample_with_diffusers(folder, dtype)
    assert ours.isfinite().all()
    assert float((ours - theirs).norm() / theirs.norm()) < TOLERANCE[dtype]


@pytest.mark.parametrize("precision", ["float32", "float16", "bfloat16"])
def test_it_edits_a_clip(folder, precision):
    frames = np.random.default_rng(0).integers(0, 256, (3, 40, 64, 3), dtype=np.uint8)
    editor = Editor.load(str(folder), "cpu", precision)
    settings = apply_preset("attribute", PROMPT, "a blue cube on grass", steps=3, guidance=3.0, mask_words=("cube",))
    result = editor.edit(frames, settings)
    assert result.frames.shape == frames.shape and result.notes == []
    assert result.frames.std() > 1
    assert result.masks["cube"].max() > 200
    if precision != "float32":
        full = Editor.load(str(folder), "cpu", "float32").edit(frames, settings).frames
        assert abs(full.astype(int) - result.frames).mean() < 8


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_scores_beyond_half_precision_stay_finite(dtype):
    """What `upcast_attention` is for: these scores are above float16's largest number."""
    query = torch.full((1, 1, 3, 64), 300.0, dtype=dtype)
    key = torch.cat([query[:, :, :2], -query[:, :, 2:]], dim=2)
    value = torch.arange(3 * 8, dtype=dtype).view(1, 1, 3, 8)
    expected = value[:, :, :2].mean(2, keepdim=True).expand(1, 1, 3, 8)
    torch.testing.assert_close(attention(query, key, value), expected)
