"""`blender -b FILE --command fatezero …`: edits, a list of strips and the state of jobs for scripts and farms."""

from __future__ import annotations

import argparse
import json
import sys
import time

import bpy

from . import (
    again,
    batches,
    chosen,
    compat,
    engine_process,
    folders,
    jobs,
    plans,
    records,
    reimport,
    strips,
    trial,
    tuned,
    versions,
)
from .job import Job
from .places import Local, Place, Remote
from .protocol.connection import Connection
from .protocol.errors import ProtocolError
from .protocol.messages import JobStatus
from .trouble import Trouble

NAME = "fatezero"
DONE, FAILED, USAGE, NO_ENGINE, NO_STRIP = 0, 1, 2, 3, 4
"""Exit codes: all is made, or up to date; something failed; the arguments make no sense; the engine cannot be reached;
no strip is what was asked for."""
PATIENCE = 5.0
"""Seconds that are waited at the end for the engine to hear that results have arrived."""

_EPILOG = """exit codes: 0 everything is made or was up to date, 1 at least one strip failed, 2 wrong arguments,
3 no engine can be reached, 4 there is no such strip"""


class _Stop(Exception):
    """Ends a command with an exit code and, for people, a sentence."""

    def __init__(self, code: int, sentence: str):
        super().__init__(sentence)
        self.code = code


def run(arguments: list[str]) -> int:
    """Do what the arguments after `--command fatezero` say; returns the exit code."""
    try:
        asked = _parser().parse_args(arguments)
    except SystemExit as error:  # argparse has said why, or has shown its help
        return int(error.code or 0)
    try:
        return asked.do(asked)
    except Trouble as trouble:
        print(f"fatezero: {trouble}", file=sys.stderr)
        return FAILED
    except _Stop as stop:
        print(f"fatezero: {stop}", file=sys.stderr)
        return stop.code


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=f"blender -b FILE --command {NAME}",
        description="Edit strips of FILE, or make results of FateZero anew.",
        epilog=_EPILOG,
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    render = commands.add_parser(
        "render",
        help="edit strips and make results anew",
        description="Results among the chosen strips are made anew in their place, with their own prompts and settings. "
        "A strip that is named, and with --target every other one, is edited as its scene's panel says.",
        epilog=_EPILOG,
    )
    _choose_strips(render)
    render.add_argument("--target", action="append", default=[], metavar="TEXT", help="a target prompt; repeatable")
    render.add_argument("--stale-only", action="store_true", help="leave alone what is up to date")
    _choose_engine(render)
    render.add_argument("--save", action="store_true", help="save FILE with the new strips")
    render.set_defaults(do=_render)
    tune = commands.add_parser(
        "tune",
        help="tune a model on a strip",
        description="Make a model of the one that the scene's panel names, which knows the strip's motion: changes of shape "
        "need it. The prompt, too, is the panel's.",
        epilog=_EPILOG,
    )
    tune.add_argument("--scene", help="the strip's scene; default: the one that FILE shows")
    tune.add_argument("--strip", required=True, metavar="NAME", help="the strip")
    tune.add_argument("--name", default="", help="what the model shall be called; default: made from the strip's name")
    tune.add_argument("--steps", type=int, default=0, help="of training; default: what is usual for the model")
    _choose_engine(tune)
    tune.set_defaults(do=_tune)
    listing = commands.add_parser("list", help="list strips and how up to date they are", epilog=_EPILOG)
    _choose_strips(listing)
    listing.set_defaults(do=_list)
    status = commands.add_parser("status", help="show this computer's jobs and the engine", epilog=_EPILOG)
    status.set_defaults(do=_status)
    for command in (render, tune, listing, status):
        command.add_argument("--json", action="store_true", help="write one JSON object to standard output")
    return parser


def _choose_engine(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--engine",
        nargs="+",
        default=[],
        metavar="ADDRESS",
        help="'local', HOST:PORT or HOST:PORT,KEY; the first that answers is used; default: the preferences' engine",
    )


def _choose_strips(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--scene", help="the scene whose strips are meant; default: the one that FILE shows")
    parser.add_argument("--strip", action="append", default=[], metavar="NAME", help="a strip; repeatable")
    parser.add_argument("--channel", type=int, metavar="N", help="all strips of this channel")
    parser.add_argument("--selected", action="store_true", help="the strips that are selected in FILE")
    parser.add_argument("--all", action="store_true", help="all strips of all scenes of FILE")


def _chosen_strips(asked: argparse.Namespace, default_all: bool = False) -> list[bpy.types.Strip]:
    """The strips that the arguments name, each once."""
    scene = _scene(asked)
    found = [_named(scene, name) for name in asked.strip]
    if asked.selected:
        found += plans.strips_of(scene, "SELECTED")
    if asked.channel is not None:
        found += plans.strips_of(scene, "CHANNEL", asked.channel)
    if asked.all or (default_all and not (asked.strip or asked.selected or asked.channel is not None)):
        found += plans.strips_of(scene, "ALL")
    elif not (asked.strip or asked.selected or asked.channel is not None):
        raise _Stop(USAGE, "Say which strips: --strip NAME, --channel N, --selected or --all.")
    if not found:
        raise _Stop(NO_STRIP, "No strip is what was asked for.")
    return list({(strip.id_data.name, strip.name): strip for strip in found}.values())


def _scene(asked: argparse.Namespace) -> bpy.types.Scene:
    scene = bpy.data.scenes.get(asked.scene) if asked.scene else compat.sequencer_scene(bpy.context)
    if scene is None:
        raise _Stop(NO_STRIP, f"There is no scene '{asked.scene}'.")
    return scene


def _named(scene: bpy.types.Scene, name: str):
    strip = strips.named(scene, name)
    if strip is None:
        raise _Stop(NO_STRIP, f"There is no strip '{name}' in scene '{scene.name}'.")
    return strip


def _tune(asked: argparse.Namespace) -> int:
    scene, report = _scene(asked), sys.stderr if asked.json else sys.stdout
    source, settings = tuned.planned(scene, _named(scene, asked.strip))
    _have_engine(asked.engine)
    try:
        job = tuned.begin(source, settings, asked.name, asked.steps, use=False)
        _see_through([job], report)
    finally:
        chosen.instead = None
    if asked.json:
        error = str(job.trouble) if job.trouble else ""
        told = {"strip": source.name, "state": job.state, "model": job.model, "error": error, "notes": job.notes}
        print(json.dumps(told))
    elif job.trouble:
        print(f"{source.name}: {job.trouble}", file=sys.stderr)
    else:
        print(f"{job.model} is there.")
    return DONE if job.state == "done" else FAILED


def _render(asked: argparse.Namespace) -> int:
    plan = _plan(asked, _chosen_strips(asked))
    report = sys.stderr if asked.json else sys.stdout
    for _, reason in plan.skipped:
        print(f"Skipped: {reason}", file=report)
    if plan.todo:
        _have_engine(asked.engine)
    batch = batches.begin(plan)
    try:
        _see_through(batch.jobs, report)
    finally:
        chosen.instead = None
    for name, trouble in batch.troubles:
        print(f"{name}: {trouble}", file=sys.stderr)
    saved = not (asked.save and batch.done) or _save()
    print(batch.summary(), file=report)
    if batch.done and not asked.save:
        print("The new strips are not saved: use --save.", file=report)
        for job in batch.jobs:
            job.unsaved = False  # as it was asked for: no later Blender shall place them
    if asked.json:
        print(json.dumps(_account(batch)))
    return FAILED if batch.done < len(plan.todo) or _real_troubles(plan) or not saved else DONE


def _save() -> bool:
    """Save the file; whether that worked. If not, the next Blender that opens it places the strips."""
    try:
        return bpy.ops.wm.save_mainfile() == {"FINISHED"}
    except RuntimeError as error:
        print(f"{bpy.data.filepath} is not saved: the new strips come when it is opened next. {error}", file=sys.stderr)
        return False


def _plan(asked: argparse.Namespace, found: list[bpy.types.Strip]) -> plans.Plan:
    """What to do with the strips: results are made anew, others edited where that is asked for."""
    results, edited = [], []
    for strip in found:
        is_result, is_named = reimport.TAG in strip, strip.name in asked.strip
        if is_result and not (asked.target and is_named):
            results.append(strip)
        elif is_named or asked.target:
            edited.append(strip)
    plan = plans.renders([] if asked.target else results, asked.stale_only)
    for strip in edited:
        more = plans.edits([strip], asked.stale_only, asked.target or ("",))
        plan.todo += more.todo
        plan.skipped += more.skipped
    if not plan.todo and not plan.skipped:
        raise _Stop(NO_STRIP, "None of these strips was made by FateZero; name strips, or a --target, to edit others.")
    return plan


def _real_troubles(plan: plans.Plan) -> bool:
    """Whether a strip is left out for another reason than that there is nothing to do for it."""
    return any(not isinstance(reason, plans.Idle) for _, reason in plan.skipped)


def _have_engine(addresses: list[str]) -> None:
    """Use the first engine of those that answers, or the preferences' one."""
    places = [_place(address) for address in addresses] or [chosen.place()]
    reasons = []
    for place in places:
        try:
            chosen.check(place)
            if isinstance(place, Local):
                if place.python is None and engine_process.running_endpoint(place.home) is None:
                    raise Trouble(*engine_process.NOT_INSTALLED)
            else:
                attempt = trial.Trial(place)
                attempt.wait()
                if attempt.trouble:
                    raise attempt.trouble
        except Trouble as trouble:
            reasons.append(str(trouble))
            continue
        chosen.instead = place if addresses else None
        jobs.session.use_place()
        return
    raise _Stop(NO_ENGINE, " ".join(reasons))


def _place(address: str) -> Place:
    """The engine that an argument names; without a key it is the preferences' one."""
    if address == "local":
        return Local(folders.home_folder(), chosen.engine_python(), "at-once")
    where, _, key = address.partition(",")
    if not key:
        preferred = chosen.place()
        if not isinstance(preferred, Remote) or preferred.address != where:
            raise _Stop(USAGE, f"'{address}' lacks the engine's key: write HOST:PORT,KEY.")
        key = preferred.server_key
    return Remote(where, key, folders.key_file())


def _see_through(found: list[Job], report) -> None:
    """Do the timer's work until the jobs are over, and say what changes."""
    said: dict[str, str] = {}
    while any(jobs.session.carries_on(job) for job in found):
        if not jobs.session.tick():
            time.sleep(0.02)
        for job in found:
            stage = (job.state == "running" and job.stage) or job.state
            if job.trouble and job.under_way:
                stage += f". {job.trouble}"
            if said.get(job.id) != stage:
                said[job.id] = stage
                print(f"{job.source.name} ({job.settings.target}): {stage}", file=report, flush=True)
    deadline = time.monotonic() + PATIENCE
    while any(job.tell for job in found if job.final) and time.monotonic() < deadline:
        jobs.session.tick()  # the engine has yet to hear that it may drop the results
        time.sleep(0.02)


def _account(batch: batches.Batch) -> dict:
    made = [
        {
            "scene": job.source.scene,
            "strip": job.source.name,
            "target": job.settings.target,
            "state": job.state,
            "result": job.result,
            "files": str(job.folder / "frames") if job.folder else "",
            "error": str(job.trouble) if job.trouble else "",
            "notes": job.notes,
        }
        for job in batch.jobs
    ]
    failed = [{"strip": name, "state": "failed", "error": str(trouble)} for name, trouble in batch.failed]
    skipped = [{"strip": name, "state": "skipped", "reason": str(trouble)} for name, trouble in batch.skipped]
    return {
        "done": batch.done,
        "failed": len(batch.troubles),
        "skipped": len(skipped),
        "strips": made + failed + skipped,
    }


def _list(asked: argparse.Namespace) -> int:
    rows = [_describe(strip) for strip in _chosen_strips(asked, default_all=True)]
    if asked.json:
        print(json.dumps({"strips": rows}))
        return DONE
    for row in rows:
        place = f"{row['scene']}  {row['channel']:>3}  {row['first']:>6} {row['frames']:>6}"
        print(f"{place}  {row['strip']}  {row['state']}")
    return DONE


def _describe(strip) -> dict:
    """A strip in plain values; `state` is `editable`, a reason why it is not, or for results how up to date it is."""
    left, right = compat.left_handle(strip), compat.right_handle(strip)
    row = {"scene": strip.id_data.name, "strip": strip.name, "kind": strip.type, "channel": strip.channel}
    row |= {"first": left, "frames": right - left}
    origin = reimport.origin_of(strip)
    try:
        if origin:
            row |= {"source": origin.strip, "target": origin.target, "versions": len(versions.of(strip))}
            words = {"same": "up to date", "source": "stale", "unknown": "perhaps stale"}
            row["state"] = words[again.of(strip).why]
        else:
            strips.check(strip.id_data, strip)
            row["state"] = "editable"
    except Trouble as trouble:
        row["state"] = trouble.told()[0]
    return row


def _status(asked: argparse.Namespace) -> int:
    engine, statuses = _ask_engine()
    rows = []
    for record in records.all_in(folders.records_folder()):
        known = statuses.get(record.job_id)
        rows.append(
            {
                "job": record.job_id,
                "strip": record.source.name,
                "target": record.settings.target,
                "file": str(record.document),
                "engine": record.engine or "local",
                "state": known.state if known else record.state,
                "fraction": round(known.fraction, 3) if known else None,
            }
        )
    if asked.json:
        print(json.dumps({"engine": engine, "jobs": rows}))
        return DONE
    print(f"Engine: {engine}")
    for row in rows:
        print(f"{row['job']}  {row['state']:<9} {row['strip']} ({row['target']})  {row['file']}")
    return DONE


def _ask_engine() -> tuple[str, dict[str, JobStatus]]:
    """In a word how the chosen engine is, without starting it, and the jobs that it has."""
    place = chosen.place()
    try:
        chosen.check(place)
        endpoint = engine_process.running_endpoint(place.home) if isinstance(place, Local) else place.endpoint()
        if endpoint is None:
            return "not running", {}
        with Connection(endpoint, client="Blender (status)") as connection:
            version = connection.hello().engine
            return f"ready, version {version}", {status.job_id: status for status in connection.jobs()}
    except (ProtocolError, Trouble) as error:
        return f"unreachable: {error}", {}


_handle = None


def register() -> None:
    global _handle
    _handle = bpy.utils.register_cli_command(NAME, run)


def unregister() -> None:
    bpy.utils.unregister_cli_command(_handle)
