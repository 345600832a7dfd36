"""`python -m engine models`: the checkpoints that an engine knows by name."""

from __future__ import annotations

import argparse
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from protocol import endpoint, models
from protocol.models import Model

from ..errors import EditError
from ..models import about
from ..models.checks import check
from . import emit, run

if TYPE_CHECKING:
    from ..models.hub import Download


def main(argv: list[str]) -> int:
    options = _parser().parse_args(argv)
    return run(lambda: options.command(options), options.json)


def _add(options: argparse.Namespace) -> None:
    model = Model(
        path=_absolute(options.path),
        vae=_absolute(options.vae) if options.vae else "",
        loras=tuple((_absolute(file), weight) for file, weight in options.lora),
        prediction=options.prediction or "",
    )
    _check_and_add(options, model, options.name)


def _check_and_add(options: argparse.Namespace, model: Model, name: str) -> None:
    """Load the model once, so that what cannot work is refused now; then note it down."""
    check(model)
    import torch  # only here: what is known without it is answered at once

    from ..models.checkpoint import load

    checkpoint = load(model, torch.device("cpu"), torch.float32)
    name = models.add(options.home, model, name)
    if options.json:
        emit(added=name)
        return
    tuned = checkpoint.profile.needs_whole_clip or models.base_of(model)
    kind = "tuned on video" if tuned else "for pictures"
    print(f"{name}: {kind}, made for {checkpoint.image_side} x {checkpoint.image_side}.")


def _list(options: argparse.Namespace) -> None:
    for name in models.known(options.home):
        model = models.resolve(options.home, name)
        if options.json:
            emit(
                name=name, path=str(about.place(model)), bytes=about.size(model), licence=about.licence(model),
                made_here=models.made_here(options.home, name) is not None,
            )  # fmt: skip
            continue
        print(f"{name:30} {model.path if model.path != name else 'comes with the engine'}")
        if model.vae:
            print(f"{'':30} autoencoder {model.vae}")
        for file, weight in model.loras:
            print(f"{'':30} LoRA {file}, weight {weight:g}")


def _remove(options: argparse.Namespace) -> None:
    folder = models.made_here(options.home, options.name)
    models.remove(options.home, options.name)
    if folder:  # which nothing else would ever find
        shutil.rmtree(folder, ignore_errors=True)
    if options.json:
        emit(removed=options.name)
        return
    after = f", and its folder is removed: {folder}." if folder else "; its files are still there."
    print(f"{options.name} is forgotten{after}")


def _fetch(options: argparse.Namespace) -> None:
    from ..models import hub

    folder = hub.cached(options.repository, options.revision)
    if folder is None:
        download = hub.look_up(options.repository, options.revision)
        total = sum(download.sizes.values())
        if options.json and not options.yes:
            emit(offer={
                "repository": download.repository, "commit": download.commit, "licence": download.license,
                "files": len(download.sizes), "bytes": total,
            })  # fmt: skip
            return
        if not options.json:
            ask(download, options.yes)
        folder = hub.fetch(download, lambda done: emit(done=done, total=total) if options.json else None)
    _check_and_add(options, Model(str(folder)), options.name or options.repository.replace("/", "-"))


def ask(download: Download, yes: bool) -> None:
    """Say what would be fetched, and ask; EditError with code `consent` where the answer is no, or nobody is there."""
    size = sum(download.sizes.values()) / 1e9
    print(
        f"{download.repository}, commit {download.commit}: {len(download.sizes)} files, {size:.1f} GB, "
        f"licence: {download.license}."
    )
    if yes or (sys.stdin.isatty() and input("Fetch it? [y/N] ").strip().lower() in ("y", "yes")):
        return
    raise EditError("consent", "Nothing was fetched.", "Answer y, or give --yes, to fetch it.")


def _absolute(path: str) -> str:
    return str(Path(path).expanduser().absolute())


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m engine models", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def command(name: str, function, words: str) -> argparse.ArgumentParser:
        added = commands.add_parser(name, help=words, description=words)
        added.set_defaults(command=function)
        added.add_argument(
            "--home", type=Path, default=endpoint.default_home(), help="the engine's folder (default: %(default)s)"
        )
        added.add_argument("--json", action="store_true", help="say everything as lines of JSON, for programs")
        return added

    add = command("add", _add, "check a checkpoint and give it a name")
    add.add_argument("path", metavar="PATH", help="a folder in diffusers layout, or a .safetensors or .ckpt file")
    add.add_argument("--name", default="", help="what it shall be called (default: made from its path)")
    add.add_argument(
        "--vae", metavar="FOLDER_OR_FILE", help="another autoencoder, as a folder in diffusers layout or a single file"
    )
    add.add_argument(
        "--lora",
        type=_lora,
        action="append",
        default=[],
        metavar="FILE[:WEIGHT]",
        help="a LoRA to merge in, with its weight (default: 1); may be given again",
    )
    add.add_argument(
        "--prediction",
        choices=("epsilon", "v_prediction"),
        help="what a single file predicts, where neither it nor a .yaml file beside it says so",
    )
    command("list", _list, "list what the engine knows")
    command(
        "remove", _remove, "forget a checkpoint; its files stay, but for those that a tuning of this engine has made"
    ).add_argument("name", metavar="NAME")
    fetch = command("fetch", _fetch, "fetch a checkpoint from the Hugging Face hub, and add it")
    fetch.add_argument("repository", metavar="OWNER/NAME")
    fetch.add_argument("--revision", default="main", help="a commit, branch or tag; it is pinned to its commit (main)")
    fetch.add_argument("--name", default="", help="what it shall be called (default: OWNER-NAME)")
    fetch.add_argument(
        "--yes", action="store_true", help="fetch without asking; with --json and without it, only say what it would be"
    )
    return parser


def _lora(text: str) -> tuple[str, float]:
    file, colon, weight = text.rpartition(":")
    try:
        return (file, float(weight)) if colon else (text, 1.0)
    except ValueError:  # the colon of a path such as C:\styles\ink.safetensors
        return text, 1.0
