"""Job files: what is written is read, and their schema is the one in the manual."""

import json
from pathlib import Path

import pytest

from protocol import farm_job, limits
from protocol.errors import ProtocolError
from protocol.settings import apply_preset

ROOT = Path(__file__).resolve().parents[2]
SETTINGS = apply_preset("shape", "a red ball", "a blue cube", mask_words=("ball",), keep_background=True)


def test_a_rate_above_the_wires_is_written_as_its_highest(tmp_path):
    """Blender's own goes to 32767."""
    assert farm_job.read(farm_job.write(tmp_path, SETTINGS, "", 2400.0)).fps == limits.MAX_FPS


def test_what_is_written_is_read(tmp_path):
    path = farm_job.write(tmp_path, SETTINGS, "Shot 7", 25.0)
    job = farm_job.read(path)
    assert (job.settings, job.name, job.fps) == (SETTINGS, "Shot 7", 25.0)
    assert (job.frames, job.out) == ("frames", "result")
    assert [found.name for found in tmp_path.iterdir()] == ["JOB.json"]


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", '{"settings": 3}', '{"version": 2, "settings": {"source": "a", "target": "b"}}']
)
def test_what_is_no_job_file_is_refused_in_words(tmp_path, text):
    path = tmp_path / "JOB.json"
    path.write_text(text)
    with pytest.raises(ProtocolError) as error:
        farm_job.read(path)
    assert error.value.code == "bad-settings" and str(path) in error.value.sentence


def test_a_misspelt_field_is_not_overlooked(tmp_path):
    path = farm_job.write(tmp_path, SETTINGS, "", 24.0)
    path.write_text(json.dumps(json.loads(path.read_text()) | {"ouput": "elsewhere"}))
    with pytest.raises(ProtocolError, match="ouput"):
        farm_job.read(path)


def test_frames_are_in_the_order_of_their_names(tmp_path):
    named = ["00002.PNG", "00010.png", "shot01.png", "shot1.png", "shot2.png", "shot10 b.png", "shot10.png"]
    for name in (*reversed(named), "notes.txt", "._00001.png"):
        (tmp_path / name).touch()
    assert [path.name for path in farm_job.frames_of(tmp_path)] == named
    for folder in (tmp_path / "missing", tmp_path / "empty"):
        (tmp_path / "empty").mkdir(exist_ok=True)
        with pytest.raises(ProtocolError):
            farm_job.frames_of(folder)


def test_the_schema_in_the_manual_is_the_types(tmp_path):
    written = json.loads((ROOT / "docs" / "farm-job.schema.json").read_text(encoding="utf-8"))
    assert written == json.loads(json.dumps(farm_job.schema())), "run python build.py protocol"
