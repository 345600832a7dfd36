import json
from pathlib import Path

import pytest
import torch
from diffusers import DDIMScheduler

from engine.fatezero.schedule import Schedule, guide

CONFIG = json.loads((Path(__file__).parents[1] / "data/checkpoint/scheduler/scheduler_config.json").read_text())


def schedule(steps=7, **changes):
    return Schedule.from_config(CONFIG | changes, steps)


@pytest.mark.parametrize("prediction_type", ["epsilon", "v_prediction"])
@pytest.mark.parametrize("steps", [5, 7, 50])
def test_sampling_agrees_with_diffusers(prediction_type, steps):
    ours = schedule(steps, prediction_type=prediction_type)
    theirs = DDIMScheduler.from_config(CONFIG | {"prediction_type": prediction_type, "timestep_spacing": "leading"})
    theirs.set_timesteps(steps)
    assert list(ours.timesteps) == theirs.timesteps.tolist()
    x = torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    for timestep in ours.timesteps:
        output = 0.3 * x + 0.1
        expected = theirs.step(output, timestep, x).prev_sample
        actual = ours.denoise(x, ours.noise(output, x, timestep), timestep)
        torch.testing.assert_close(actual, expected, rtol=1e-5, atol=1e-5)
        x = expected


def test_inversion_step_is_the_sampling_step_backwards():
    ours, x, noise = schedule(), torch.randn(1, 4, 8, 8), torch.randn(1, 4, 8, 8)
    for timestep in ours.timesteps:
        there = ours.add_noise(x, noise, timestep)
        torch.testing.assert_close(ours.denoise(there, noise, timestep), x, rtol=1e-4, atol=1e-5)


def test_no_guidance_without_the_empty_row():
    conditional = torch.ones(3)
    assert guide(None, conditional, 1.0) is conditional
    torch.testing.assert_close(guide(torch.zeros(3), conditional, 7.5), torch.full((3,), 7.5))


def test_what_cannot_be_sampled_is_said():
    with pytest.raises(ValueError, match="predicts 'sample'"):
        schedule(prediction_type="sample")
    with pytest.raises(ValueError, match="1 to 999"):
        schedule(1000)
