"""The whole way of an edit, from the click to the strip, part by part: ``python -m benchmarks.addon --way FILE.mp4``.

The real Blender and the real engine process on this machine. Beside it what Blender takes to render the same frames to
PNG files by itself, which is the least that an export can take.
"""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass
from pathlib import Path
from types import SimpleNamespace

PARTS = {
    "exporting": "export of the strip's frames (Blender)",
    "sending": "upload, and the engine's start where it is not over",
    "queued": "waiting for the engine",
    "running": "compute",
    "fetching": "download",
    "placing": "making the strip (Blender)",
}
"""A job's states, in their order; one begins when the other ends."""


@dataclass(frozen=True)
class Span:
    """One part of the way."""

    part: str
    begins: float
    """Seconds since the click."""
    seconds: float
    blender_seconds: float
    """That Blender's process was at work in it, with all of its threads."""


def measure(addon: SimpleNamespace, project, clip: Path, frames: int, steps: int) -> dict:
    """The first edit of a strip of the clip's first frames with an engine that does not run yet, and one more."""
    strip = project.strips.new_movie(name="clip", filepath=str(clip), channel=1, frame_start=1)
    addon.compat.set_handles(strip, 1, 1 + frames)
    element = strip.elements[0]
    project.scene.render.resolution_x, project.scene.render.resolution_y = element.orig_width, element.orig_height
    project.save()
    project.select(strip)
    plain = _plain_render(addon, project, strip, frames)
    ways = {}
    for name, target in (("engine not running", "a blue ball"), ("engine running", "a green ball")):
        project.prompts(source="a red ball", target=target, steps=steps)
        ways[name] = _way(addon)
    return {
        "frames": frames,
        "size": f"{element.orig_width}x{element.orig_height}",
        "steps": steps,
        "plain render": plain,
        "ways": ways,
    }


def _way(addon: SimpleNamespace) -> dict:
    session, bpy = addon.jobs.session, addon.bpy
    clicked, worked = time.perf_counter(), time.process_time()
    addon.operators.edit.begin(bpy.context)
    job, spans, state, began, cpu, ahead = session.job, [], "exporting", 0.0, 0.0, 0
    while True:
        session.tick()
        ahead = max(ahead, job.upload.sent)
        now, taken = time.perf_counter() - clicked, time.process_time() - worked
        if job.state != state:
            if state == "exporting":
                ahead = max(ahead, job.step)  # which begins where the sending ahead has come to
            spans.append(Span(PARTS[state], round(began, 3), round(now - began, 3), round(taken - cpu, 3)))
            state, began, cpu = job.state, now, taken
            if job.final:
                break
        time.sleep(0.0 if job.state == "exporting" else 0.005)
    assert job.state == "done" and job.trouble is None, job.trouble
    compute = {stage: round(seconds, 3) for stage, seconds in job.timings.items()}
    return {"parts": [asdict(span) for span in spans], "compute": compute, "sent ahead": ahead, "whole": round(now, 3)}


def _plain_render(addon: SimpleNamespace, project, strip, frames: int) -> dict:
    """Blender's own rendering of the sequencer to PNG files like ours, of all frames in one go."""
    scene = addon.export.copy_scene(strip)
    scene.frame_start, scene.frame_end = 1, frames
    scene.render.filepath = addon.compat.output_path(project.folder / "plain" / "######")
    begun, worked = time.perf_counter(), time.process_time()
    addon.bpy.ops.render.render(animation=True, scene=scene.name)
    taken = time.perf_counter() - begun, time.process_time() - worked
    addon.export.clear()
    return {"seconds": round(taken[0], 3), "blender_seconds": round(taken[1], 3)}


def table(figures: dict) -> str:
    """The figures as a table in Markdown."""
    lines = [f"{figures['frames']} frames of {figures['size']}, {figures['steps']} steps", ""]
    plain = figures["plain render"]
    lines += [f"Blender's own render to PNG: {plain['seconds']:.2f} s ({plain['blender_seconds']:.2f} s at work)", ""]
    for name, way in figures["ways"].items():
        lines += [f"| {name} | begins | seconds | Blender at work |", "| --- | --- | --- | --- |"]
        for span in way["parts"]:
            row = span["part"], *(f"{span[key]:.2f}" for key in ("begins", "seconds", "blender_seconds"))
            lines.append(f"| {' | '.join(row)} |")
            if span["part"] == PARTS["exporting"]:
                lines.append(
                    f"| … frames that the engine had by its end | | {way['sent ahead']} of {figures['frames']} | |"
                )
            if span["part"] == PARTS["running"]:
                lines += [f"| … {stage} | | {seconds:.2f} | |" for stage, seconds in way["compute"].items()]
        lines += [f"| **whole** | | **{way['whole']:.2f}** | |", ""]
    return "\n".join(lines)
