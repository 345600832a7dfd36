"""What the steadiness benchmark makes of edited keyframes is what the engine makes of a clip."""

import json
import shutil
from pathlib import Path

import numpy as np

from benchmarks.quality.steadiness import finished
from engine.editing import Editor
from engine.keyframes import keyframes
from protocol.settings import apply_preset
from tests.engine.test_motion import texture

CHECKPOINT = Path(__file__).parents[1] / "data" / "checkpoint"
PROFILE = {"inject_levels": [1, 2, 3], "mask_level": 1, "mask_places": ["down", "up"], "anchor_levels": [1, 2, 3]}
FRAMES = 5


def test_finished_is_what_the_editor_gives(tmp_path):
    shutil.copytree(CHECKPOINT, tmp_path / "model")
    (tmp_path / "model" / "profile.json").write_text(json.dumps(PROFILE | {"image_side": 64}))
    editor = Editor.load(str(tmp_path / "model"), device="cpu", precision="float32")
    wide = texture()
    source = np.stack([wide[40:104, 10 + 2 * number : 74 + 2 * number] for number in range(FRAMES)])
    asked = dict(preset="attribute", source="a red cube", target="a blue cube", steps=1, keep_background=False)
    keys = editor.edit(source[keyframes(FRAMES, 3)], apply_preset(**asked, steady=0)).frames
    for beside in (0, 1):
        whole = editor.edit(source, apply_preset(**asked, keyframe_step=3, steady=beside)).frames
        assert np.array_equal(finished(source, keys, 3, beside), whole)
