"""Strip to strip, through the real engine process."""

from __future__ import annotations

import bpy
import numpy as np
import pytest
from tests.blender_addon.conftest import FRAMES, HEIGHT, WIDTH, read_image


def test_a_strip_goes_out_and_a_strip_comes_back(addon, project):
    strip = project.image_strip(alpha=True)
    project.prompts()
    project.select(strip)
    project.save()
    before = project.snapshot()
    assert bpy.ops.fatezero.edit_strip() == {"FINISHED"}
    job = addon.jobs.session.job
    assert (job.state, job.trouble) == ("done", None)
    print(job.timings, job.notes)
    print(project.result_files()); import pathlib; print((addon.jobs.home_folder()/"engine.log").read_text()); print((addon.jobs.home_folder()/"logs"/"worker.log").read_text()[-3000:])
