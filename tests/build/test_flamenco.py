"""The Flamenco job type, run against a stand-in of what Flamenco gives to such scripts."""

import json
import shutil
import subprocess
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parents[2] / "docs" / "flamenco" / "fatezero.js"
FLAMENCO = """
const tasks = [];
const author = {
    Task: (name, type) => ({ name, type, commands: [], addCommand(command) { this.commands.push(command); } }),
    Command: (name, parameters) => ({ name, parameters }),
};
const job = { name: "a job", settings: SETTINGS, addTask(task) { tasks.push(task); } };
"""
SETTING_TYPES = {"string", "int32", "float", "bool"}
TASK_TYPES = {"blender", "ffmpeg", "file-management", "misc"}

needs_node = pytest.mark.skipif(not shutil.which("node"), reason="node runs the job type's JavaScript")


def run(settings: dict) -> subprocess.CompletedProcess:
    program = FLAMENCO.replace("SETTINGS", json.dumps(settings)) + SCRIPT.read_text(encoding="utf-8")
    program += "\ncompileJob(job);\nconsole.log(JSON.stringify({ type: JOB_TYPE, tasks }));"
    return subprocess.run(["node", "-"], input=program, capture_output=True, text=True)


@needs_node
def test_each_job_file_becomes_a_task():
    files = ["/farm/one/JOB.json", "S:\\farm\\two\\JOB.json"]
    settings = {"job_files": f" {files[0]} ;{files[1]};", "device": "cuda", "python": "{fatezeroPython}"}
    result = run(settings)
    assert result.returncode == 0, result.stderr
    found = json.loads(result.stdout)
    assert [task["name"] for task in found["tasks"]] == ["edit-one", "edit-two"]
    assert {task["type"] for task in found["tasks"]} <= TASK_TYPES
    for file, task in zip(files, found["tasks"], strict=True):
        (command,) = task["commands"]
        assert command["name"] == "exec"
        assert command["parameters"] == {
            "exe": "{fatezeroPython}",
            "args": ["-m", "engine", "render", file, "--device", "cuda"],
        }


@needs_node
def test_its_settings_are_what_flamenco_takes():
    found = json.loads(run({"job_files": "/a/JOB.json", "device": "auto", "python": "python"}).stdout)["type"]
    assert found["label"]
    for setting in found["settings"]:
        assert setting["type"] in SETTING_TYPES and setting["key"].isidentifier() and setting["description"]
        assert setting.get("visible", "visible") in {"visible", "hidden", "submission", "web"}
        if "choices" in setting:
            assert setting["default"] in setting["choices"]


@needs_node
def test_no_job_file_is_refused_in_words():
    result = run({"job_files": " ; ", "device": "auto", "python": "python"})
    assert result.returncode != 0 and "No job file is named" in result.stderr
