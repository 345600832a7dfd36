"""Enabled and disabled as often as one likes, the add-on leaves Blender as it was."""

from __future__ import annotations

import inspect
import tomllib

import bpy

# isort: split
import addon_utils

from tests.blender_addon.conftest import MODULE, ROOT, processes_with, reach, wait_until

WITHOUT_BPY = [
    f"{name}.py"
    for name in [
        "children",
        "client",
        "early",
        "engine_process",
        "events",
        "installed",
        "installer",
        "landing",
        "link",
        "places",
        "png",
        "pythons",
        "standing",
        "tasks",
        "trial",
        "tries",
        "trouble",
        "uploads",
    ]
]
HANDLERS = [name for name in dir(bpy.app.handlers) if isinstance(getattr(bpy.app.handlers, name), list)]


def traces() -> dict:
    """What an add-on can leave in Blender."""
    types = {name for name in dir(bpy.types) if "fatezero" in name.lower()}
    handlers = {name: [f for f in getattr(bpy.app.handlers, name) if "fatezero" in f.__module__] for name in HANDLERS}
    return {
        "types": types,
        "handlers": {name: found for name, found in handlers.items() if found},
        "scene": hasattr(bpy.types.Scene, "fatezero"),
    }


def test_disabling_leaves_nothing(addon, project):
    enabled = traces()
    assert enabled["scene"] and enabled["handlers"] and len(enabled["types"]) >= 10
    for _ in range(2):
        timer = addon.jobs.tick
        addon.jobs.watch()
        addon_utils.disable(MODULE)
        assert not bpy.app.timers.is_registered(timer)
        gone = traces()
        assert not gone["scene"] and not gone["handlers"] and not gone["types"]
        addon_utils.enable(MODULE)
        assert set(traces()["handlers"]) == set(enabled["handlers"])
        assert traces()["types"] == enabled["types"]


def test_enabled_by_a_command_line_it_has_preferences_too(addon, project):
    """`blender --addons` enables an add-on without an entry in the preferences."""
    addon_utils.disable(MODULE, default_set=True)
    try:
        assert MODULE not in bpy.context.preferences.addons
        addon_utils.enable(MODULE)
        assert bpy.context.preferences.addons[MODULE].preferences.engine == "LOCAL"
    finally:
        addon_utils.enable(MODULE, default_set=True)
    assert [entry.module for entry in bpy.context.preferences.addons].count(MODULE) == 1


def test_disabling_ends_the_engine_and_keeps_the_job(addon, project, engine):
    strip = project.image_strip(count=2)
    project.select(strip)
    project.prompts(steps=500)
    addon.operators.edit.begin(bpy.context)
    session, home = addon.jobs.session, str(addon.folders.home_folder())
    reach(session, "running")
    job_id = session.job.id
    addon_utils.disable(MODULE)
    assert session.jobs == []
    wait_until(lambda: processes_with(home) == [])
    assert not (project.folder / "fatezero").exists()
    addon_utils.enable(MODULE)
    session.tick()
    assert [job.id for job in session.jobs] == [job_id]
    session.cancel(session.job)


def test_disabling_cancels_what_the_engine_has_not_got(addon, project, engine):
    project.select(project.image_strip())
    job = addon.operators.edit.begin(bpy.context)
    addon_utils.disable(MODULE)
    assert job.state == "cancelled"
    addon_utils.enable(MODULE)
    addon.jobs.session.tick()
    assert addon.jobs.session.jobs == []


def test_leftovers_of_a_killed_blender_go(addon, project):
    left = addon.folders.exports_folder() / "999999999-abc"
    left.mkdir()
    (left / "00001.png").write_bytes(b"")
    addon_utils.disable(MODULE)
    addon_utils.enable(MODULE)
    assert not left.exists()


def test_the_manifest_names_what_is_there():
    manifest = tomllib.loads((ROOT / "blender_addon" / "blender_manifest.toml").read_text())
    assert (manifest["id"], manifest["blender_version_min"]) == ("fatezero_vse", "4.2.0")
    assert set(manifest["permissions"]) == {"files", "network"}
    assert all(len(reason) <= 64 and not reason.endswith(".") for reason in manifest["permissions"].values())


def test_everything_has_a_tooltip(addon):
    for cls in addon.operators.CLASSES:
        assert inspect.getdoc(cls) and not inspect.getdoc(cls).endswith("."), cls
        assert getattr(bpy.ops.fatezero, cls.bl_idname.split(".")[1]).get_rna_type().description
    for prop in bpy.types.Scene.bl_rna.properties["fatezero"].fixed_type.properties:
        assert prop.identifier in ("rna_type", "name") or prop.description, prop.identifier


def test_rooms(addon):
    """Only `compat` asks for the version, and only what runs on Blender's side touches bpy."""
    for path in (ROOT / "blender_addon").glob("*.py"):
        text = path.read_text()
        assert path.name == "compat.py" or "bpy.app.version" not in text, path.name
        if path.name in WITHOUT_BPY:
            assert "import bpy" not in text and "from bpy" not in text, path.name
        assert len(text.splitlines()) < 400, path.name
