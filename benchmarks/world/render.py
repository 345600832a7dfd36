"""Renders a scene's passes with Blender's Cycles on the CPU. The only file of the world that needs ``bpy``.

Everything is rendered once, in grey, and coloured afterwards by ``compose``. Because every surface is grey, the three
colour channels never mix, so one denoised picture carries three lights: red is the high sun, green the sky's ambient
light, blue the low sun. Day, sunset and night are then weighted sums of the same picture.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from pathlib import Path

import bpy
import numpy as np
from mathutils import Matrix, Vector

from . import geometry
from .exr import read_exr
from .spec import Scene, Thing

PASSES_FILE = "passes.npz"
GREY = 0.5  # albedo of every surface
SAMPLES = 8
_MAX_OBJECTS = 2


def render_passes(
    scene: Scene, frames: int, side: int, out_dir: str | Path, on_frame: Callable[[int], None] | None = None
) -> Path:
    """Renders ``frames`` frames of ``side`` squared pixels and writes ``out_dir/passes.npz``; returns its path.

    Arrays: ``light`` (F, side, side, 3) float16, light on a white surface from the high sun, sky and low sun;
    ``covers`` (F, objects, side, side) and ``ground`` (F, side, side) uint8, share of the pixel; ``normal``
    (F, side, side, 3) uint8, world normal of the objects times 127 plus 128; ``motion`` (F, side, side, 2) float16,
    pixels (right, down) to the same point in the next frame; ``camera`` (F, 3, 4), rotation and position.

    The file appears whole or not at all; where it exists nothing is rendered. ``on_frame`` is called with the number
    of each finished frame. The open file's own scenes are left as they are.
    """
    target = Path(out_dir) / PASSES_FILE
    if target.exists():
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    before = {name: set(getattr(bpy.data, name)) for name in _COLLECTIONS}
    try:
        stage = _build(scene, frames, side)
        with tempfile.TemporaryDirectory(dir=target.parent) as folder:
            _render(stage, Path(folder), on_frame)
            passes = [_read(path, len(scene.objects)) for path in sorted(Path(folder).glob("*.exr"))]
    finally:
        for name in _COLLECTIONS:
            collection = getattr(bpy.data, name)
            for block in set(collection) - before[name]:
                collection.remove(block)
    arrays = {name: np.stack([frame[name] for frame in passes]) for name in passes[0]}
    arrays["camera"] = np.stack(
        [
            np.c_[geometry.camera_rotation(scene, t), geometry.camera_position(scene, t)]
            for t in (frame / frames for frame in range(frames))
        ]
    )
    part = target.with_suffix(".part")
    with open(part, "wb") as file:
        np.savez_compressed(file, **arrays)
    os.replace(part, target)
    return target


_COLLECTIONS = ("scenes", "objects", "meshes", "materials", "lights", "worlds", "cameras", "actions")


def _build(scene: Scene, frames: int, side: int) -> bpy.types.Scene:
    stage = bpy.data.scenes.new("world")
    stage.frame_start, stage.frame_end = 0, frames - 1
    _settings(stage, side)
    floor = _object(stage, "floor", _plane(2000.0))
    floor.data.materials.append(_material("floor", None))
    for index, thing in enumerate(scene.objects):
        body = _object(stage, thing.shape, _mesh(thing))
        body.data.materials.append(_material(thing.shape, index))
        for frame in range(-1, frames + 1):
            location, heading = geometry.object_pose(scene, index, frame / frames)
            body.location, body.rotation_euler = location, (*body.rotation_euler[:2], heading)
            body.keyframe_insert("location", frame=frame)
            body.keyframe_insert("rotation_euler", frame=frame)
    camera = _object(stage, "camera", bpy.data.cameras.new("camera"))
    camera.data.angle = 2 * np.arctan(geometry.HALF_VIEW)
    camera.rotation_mode = "QUATERNION"
    for frame in range(-1, frames + 1):
        rotation = geometry.camera_rotation(scene, frame / frames)
        camera.location = geometry.camera_position(scene, frame / frames)
        camera.rotation_quaternion = Matrix(rotation.tolist()).to_quaternion()
        camera.keyframe_insert("location", frame=frame)
        camera.keyframe_insert("rotation_quaternion", frame=frame)
    stage.camera = camera
    for name, colour, elevation in (("high", (1, 0, 0), geometry.HIGH_SUN), ("low", (0, 0, 1), geometry.LOW_SUN)):
        sun = _object(stage, name, bpy.data.lights.new(name, "SUN"))
        sun.data.color, sun.data.energy, sun.data.angle = colour, np.pi, 0.06
        direction = Vector(geometry.light_direction(scene, elevation).tolist())
        sun.rotation_euler = direction.to_track_quat("Z", "Y").to_euler()
    stage.world = bpy.data.worlds.new("sky")
    stage.world.use_nodes = True
    background = next(node for node in stage.world.node_tree.nodes if node.type == "BACKGROUND")
    background.inputs["Color"].default_value = (0, 1, 0, 1)
    return stage


def _settings(stage: bpy.types.Scene, side: int) -> None:
    render, cycles = stage.render, stage.cycles
    render.engine = "CYCLES"
    render.resolution_x = render.resolution_y = side
    render.resolution_percentage = 100
    render.film_transparent = True
    render.use_persistent_data = True
    render.use_compositing = render.use_sequencer = render.use_motion_blur = False
    cycles.device = "CPU"
    cycles.samples = SAMPLES
    cycles.use_adaptive_sampling = False
    cycles.use_denoising = True
    cycles.denoiser = "OPENIMAGEDENOISE"
    cycles.denoising_quality, cycles.denoising_prefilter = "FAST", "NONE"
    cycles.max_bounces = cycles.diffuse_bounces = 2
    cycles.caustics_reflective = cycles.caustics_refractive = False
    cycles.seed = 0
    layer = stage.view_layers[0]
    layer.use_pass_vector = True
    for index in range(_MAX_OBJECTS):
        aov = layer.aovs.add()
        aov.name, aov.type = f"cover{index}", "VALUE"
    aov = layer.aovs.add()
    aov.name, aov.type = "normal", "COLOR"
    image = render.image_settings
    if hasattr(image, "media_type"):  # Blender 5.0 and later
        image.media_type = "MULTI_LAYER_IMAGE"
    image.file_format = "OPEN_EXR_MULTILAYER"
    if hasattr(image, "use_exr_interleave"):  # Blender 5.0 and later: one part instead of one a pass
        image.use_exr_interleave = True
    image.color_depth, image.exr_codec = "16", "NONE"


def _material(name: str, index: int | None) -> bpy.types.Material:
    """Grey; an object's also writes its share of the pixel and its normal as passes."""
    material = bpy.data.materials.new(name)
    material.use_nodes = True
    nodes, links = material.node_tree.nodes, material.node_tree.links
    nodes.clear()
    diffuse = nodes.new("ShaderNodeBsdfDiffuse")
    diffuse.inputs["Color"].default_value = (GREY, GREY, GREY, 1)
    output = nodes.new("ShaderNodeOutputMaterial")
    links.new(diffuse.outputs["BSDF"], output.inputs["Surface"])
    if index is not None:
        cover = nodes.new("ShaderNodeOutputAOV")
        cover.aov_name = f"cover{index}"
        cover.inputs["Value"].default_value = 1.0
        normal = nodes.new("ShaderNodeOutputAOV")
        normal.aov_name = "normal"
        links.new(nodes.new("ShaderNodeNewGeometry").outputs["Normal"], normal.inputs["Color"])
    return material


def _mesh(thing: Thing) -> bpy.types.Mesh:
    """The shape about its middle, scaled to ``thing.size``."""
    import bmesh

    shape = bmesh.new()
    if thing.shape == "cube":
        bmesh.ops.create_cube(shape, size=1.6)
        bmesh.ops.bevel(shape, geom=shape.edges[:], offset=0.06, segments=2, affect="EDGES", profile=0.5)
    elif thing.shape == "sphere":
        bmesh.ops.create_uvsphere(shape, u_segments=48, v_segments=24, radius=1.0)
    elif thing.shape == "cone":
        bmesh.ops.create_cone(shape, cap_ends=True, segments=48, radius1=1.05, radius2=0.0, depth=1.9)
    elif thing.shape == "cylinder":
        bmesh.ops.create_cone(shape, cap_ends=True, segments=48, radius1=0.8, radius2=0.8, depth=1.8)
    elif thing.shape == "monkey":
        bmesh.ops.create_monkey(shape)
        bmesh.ops.subdivide_edges(shape, edges=shape.edges[:], cuts=1, smooth=1.0, use_grid_fill=True)
    else:
        _torus(shape, major=0.68, minor=0.32)
    for face in shape.faces:
        face.smooth = thing.shape in ("sphere", "torus", "monkey") or (
            thing.shape in ("cone", "cylinder") and len(face.verts) <= 4
        )
    bmesh.ops.scale(shape, vec=(thing.size,) * 3, verts=shape.verts[:])
    mesh = bpy.data.meshes.new(thing.shape)
    shape.to_mesh(mesh)
    shape.free()
    return mesh


def _torus(shape, major: float, minor: float, rings: int = 48, sides: int = 20) -> None:
    """A ring standing upright, so that its hole is seen."""
    around = np.linspace(0, 2 * np.pi, rings, endpoint=False)
    across = np.linspace(0, 2 * np.pi, sides, endpoint=False)
    grid = [
        [
            shape.verts.new(
                ((major + minor * np.cos(b)) * np.cos(a), minor * np.sin(b), (major + minor * np.cos(b)) * np.sin(a))
            )
            for b in across
        ]
        for a in around
    ]
    for i in range(rings):
        for j in range(sides):
            k, m = (i + 1) % rings, (j + 1) % sides
            shape.faces.new((grid[i][j], grid[i][m], grid[k][m], grid[k][j]))


def _plane(side: float) -> bpy.types.Mesh:
    mesh = bpy.data.meshes.new("floor")
    half = side / 2
    mesh.from_pydata([(-half, -half, 0), (half, -half, 0), (half, half, 0), (-half, half, 0)], [], [(0, 1, 2, 3)])
    return mesh


def _object(stage: bpy.types.Scene, name: str, data) -> bpy.types.Object:
    item = bpy.data.objects.new(name, data)
    stage.collection.objects.link(item)
    return item


def _render(stage: bpy.types.Scene, folder: Path, on_frame: Callable[[int], None] | None) -> None:
    def written(done, *_):
        if on_frame is not None and done == stage:
            on_frame(done.frame_current)

    stage.render.filepath = str(folder / "frame_####")
    bpy.app.handlers.render_write.append(written)
    try:
        bpy.ops.render.render(animation=True, scene=stage.name)
    finally:
        bpy.app.handlers.render_write.remove(written)


def _read(path: Path, objects: int) -> dict[str, np.ndarray]:
    """One frame's arrays, as ``render_passes`` names them."""
    channels = {name.split(".", 1)[1]: values.astype(np.float32) for name, values in read_exr(path).items()}
    alpha = channels["Combined.A"]
    light = np.stack([channels[f"Combined.{c}"] for c in "RGB"], axis=-1)
    covers = np.stack([channels[f"cover{index}.X"] for index in range(objects)])
    normal = np.stack([channels[f"normal.{c}"] for c in "RGB"], axis=-1)
    # Cycles gives the way to the previous (X, Y) and the next (Z, W) frame, y up.
    motion = np.stack([-channels["Vector.Z"], channels["Vector.W"]], axis=-1)
    return {
        "light": (light / np.maximum(alpha, 1e-3)[..., None] / GREY).astype(np.float16),
        "covers": _bytes(covers * 255),
        "ground": _bytes((alpha - covers.sum(0)) * 255),
        "normal": _bytes(normal * 127 + 128),
        "motion": motion.astype(np.float16),
    }


def _bytes(values: np.ndarray) -> np.ndarray:
    return np.clip(np.rint(values), 0, 255).astype(np.uint8)
