"""`python -m engine edit`: an edit without Blender, on a video file or a folder of images."""

from __future__ import annotations

import argparse
import re
from collections.abc import Sequence
from pathlib import Path

from tqdm import tqdm

from protocol import endpoint, models
from protocol.models import Model
from protocol.settings import (
    BUILTIN_MODEL,
    MASKS,
    PRESETS,
    EditSettings,
    SettingsError,
    Window,
    apply_preset,
    draft_of,
)

from ..clips import check_output, pixel_aspect, read_clip, write_clip
from ..errors import EditError
from . import run


def main(argv: list[str]) -> int:
    options = _parser().parse_args(argv)
    return run(lambda: _edit(options))


def _edit(options: argparse.Namespace) -> None:
    home = endpoint.default_home()
    model = model_of(home, options.model or BUILTIN_MODEL)
    settings = settings_of(options, models.base_of(model))
    mask_paths = _mask_paths(options.out, settings.mask_words)
    for path in (options.out, *mask_paths.values()):
        check_output(path)
    start, end = options.frames
    notes: list[str] = []
    frames, rate = read_clip(options.clip, start, end, notes.append)
    aspect = pixel_aspect(options.clip)
    with tqdm(total=100, bar_format="{desc:8} {percentage:3.0f}% |{bar}| {elapsed}<{remaining}", leave=False) as bar:
        bar.set_description_str("load")
        from ..editing import Editor, Progress  # here, as it imports torch: a wrong word or path is answered at once

        editor = Editor.load(model, options.device, settings.precision, home)

        def show(progress: Progress) -> None:
            bar.set_description_str(progress.stage, refresh=False)
            bar.update(100 * progress.fraction - bar.n)

        result = editor.edit(frames, settings, show)
    write_clip(options.out, result.frames, rate, aspect, notes.append)
    print(f"{len(result.frames)} frame{'s' * (len(result.frames) > 1)}: {options.out}")
    for word, masks in result.masks.items():
        write_clip(mask_paths[word], masks, rate, aspect)
        print(f"mask of '{word}': {mask_paths[word]}")
    for note in (*notes, *result.notes):
        print(f"note: {note}")


def model_of(home: Path, name: str) -> Model:
    """What was called by a name that the engine in `home` knows, else by its path; EditError where it is neither."""
    known = models.known(home)
    if name in known:
        return models.resolve(home, name)
    if not Path(name).expanduser().exists():
        raise EditError(
            "checkpoint", f"There is no checkpoint folder or file '{name}', nor a model of that name.",
            f"Known by name are: {', '.join(known)}.",
        )  # fmt: skip
    return Model(name)


def settings_of(options: argparse.Namespace, base: str = "") -> EditSettings:
    """The preset, of the model's `base` where it was tuned from one, with every option that was given on top."""
    names = EditSettings.__struct_fields__
    changes = {name: getattr(options, name) for name in names if getattr(options, name, None) is not None}
    preset, source, target = changes.pop("preset"), changes.pop("source"), changes.pop("target", "")
    for name in ("word_weights", "word_windows"):
        if name in changes:
            changes[name] = dict(changes[name])
    try:
        settings = apply_preset(preset, source, target, base=base, **changes)
    except SettingsError as error:
        raise EditError("settings", str(error)) from error
    return draft_of(settings) if options.draft else settings


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m engine edit",
        description="Edit a clip with FateZero: say what is in it and what shall be in it instead.",
    )
    parser.add_argument("clip", type=Path, metavar="CLIP", help="a video file, or a folder of images")
    parser.add_argument(
        "--out",
        type=Path,
        required=True,
        metavar="FILE_OR_FOLDER",
        help="a new .mp4, .mkv, .mov or .webm file, else a new folder of PNGs",
    )
    parser.add_argument(
        "--frames",
        type=frame_range,
        default=(0, None),
        metavar="START:END",
        help="edit only these frames, counted from 0, END not included",
    )
    parser.add_argument("--device", default="auto", help="cuda, mps, cpu, or auto (default)")
    words = parser.add_argument_group("what to edit")
    words.add_argument("--source", required=True, help="what is in the clip; name every object to be edited or kept")
    words.add_argument("--target", help="what shall be in it instead (not needed to reconstruct)")
    words.add_argument("--preset", choices=PRESETS, default="attribute", help="the kind of edit (default: attribute)")
    words.add_argument(
        "--draft",
        action="store_true",
        help="a quick look: fewer steps, and all of the UNet in every fifth of them only",
    )
    words.add_argument(
        "--masks",
        dest="mask_words",
        nargs="+",
        metavar="WORD",
        help="also write where the model sees these words of the source prompt",
    )
    fine = parser.add_argument_group("settings (default: the preset's)")
    fine.add_argument("--steps", type=int, help="denoising steps: 10 for style, 20 to 50 for shape")
    fine.add_argument(
        "--reuse", type=int, metavar="N", help="compute all of the UNet in every N-th step only: faster, less exact"
    )
    fine.add_argument("--guidance", type=float, help="classifier-free guidance; 1 or less is none")
    fine.add_argument(
        "--guidance-fall",
        type=float,
        metavar="PART",
        help="guidance begins this part of itself higher and ends as much lower, 0 to 1",
    )
    fine.add_argument(
        "--cross-mode", choices=("refine", "replace"), help="align the prompts, or swap words one for one"
    )
    fine.add_argument(
        "--cross-window",
        type=_window,
        metavar="[START:]END",
        help="part of the steps in which the words keep their layout",
    )
    fine.add_argument(
        "--word-window",
        dest="word_windows",
        type=_pair(_window),
        nargs="+",
        metavar="WORD=[START:]END",
        help="the same for single words of the target prompt",
    )
    fine.add_argument(
        "--self-window",
        type=_window,
        metavar="[START:]END",
        help="part of the steps in which structure and motion are kept",
    )
    fine.add_argument(
        "--weight",
        dest="word_weights",
        type=_pair(float),
        nargs="+",
        metavar="WORD=NUMBER",
        help="strength of words of the target prompt",
    )
    fine.add_argument(
        "--picture-weight",
        type=float,
        metavar="NUMBER",
        help="strength of the words that come in place of some that name the whole picture, as 'night' does",
    )
    fine.add_argument(
        "--blend-source", nargs="+", metavar="WORD", help="words of the source prompt whose place may change shape"
    )
    fine.add_argument("--blend-target", nargs="+", metavar="WORD", help="words of the target prompt for the same place")
    fine.add_argument(
        "--mask", choices=MASKS, help="how a word's place is found: as in the paper, or with the picture's own edges"
    )
    fine.add_argument("--blend-threshold", type=float, help="lower takes more of the picture, 0 to 1")
    fine.add_argument(
        "--blend-reach",
        type=float,
        metavar="PART",
        help="how far the new shape may reach beyond the old one, as a part of the picture's shorter side; 1: anywhere",
    )
    fine.add_argument(
        "--blend-attention",
        action=argparse.BooleanOptionalAction,
        default=None,
        help="leave the source's structure in that place, as a new shape needs",
    )
    fine.add_argument(
        "--blend-latents", action="store_true", default=None, help="keep the source's latents outside that place"
    )
    fine.add_argument(
        "--blend-steps", type=_window, metavar="[START:]END", help="part of the steps in which --blend-latents does so"
    )
    fine.add_argument(
        "--keep-background",
        action=argparse.BooleanOptionalAction,
        default=None,
        help="take the clip's own pixels, at full resolution, far outside that place",
    )
    fine.add_argument(
        "--keys",
        nargs="+",
        metavar="FRAME",
        help="frames that all frames attend to: first, mid, last or offsets such as -1",
    )
    fine.add_argument(
        "--anchor-every",
        type=int,
        metavar="FRAMES",
        help="for long clips that change: middle frames that all attend to, so many frames apart at most, cross-faded",
    )
    fine.add_argument(
        "--no-anchor-cuts",
        dest="anchor_cuts",
        action="store_false",
        default=None,
        help="edit a clip as one shot, across its cuts; otherwise these are found, and nothing is carried across them",
    )
    fine.add_argument(
        "--normalization", choices=("frame", "clip"), help="group normalisation over each frame, or the clip"
    )
    fine.add_argument(
        "--keyframe-step", type=int, metavar="N", help="edit every N-th frame and the last; motion fills the others"
    )
    fine.add_argument(
        "--steady", type=int, metavar="N", help="average what changes over N frames on either side, along the motion"
    )
    fine.add_argument(
        "--model",
        help=f"'{BUILTIN_MODEL}' (default), a name that 'models add' gave, or a Stable Diffusion 1.x or 2.x folder or file",
    )
    fine.add_argument("--precision", choices=("auto", "float32", "float16", "bfloat16"))
    return parser


def _window(text: str) -> Window:
    start, _, end = text.rpartition(":")
    try:
        return Window(float(start or 0), float(end))
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"'{text}' must be END or START:END, such as 0.5 or 0.2:0.8") from error


def frame_range(text: str) -> tuple[int, int | None]:
    found = re.fullmatch(r"([0-9]*):([0-9]*)", text)
    if not found or (found[2] and int(found[1] or 0) >= int(found[2])):
        raise argparse.ArgumentTypeError("must be START:END with END beyond START, such as 0:16")
    return int(found[1] or 0), int(found[2]) if found[2] else None


def _pair(value_type):
    def parse(text: str):
        word, equals, value = text.rpartition("=")
        if not equals:
            raise argparse.ArgumentTypeError(f"'{text}' must be WORD=VALUE")
        try:
            return word, value_type(value)
        except ValueError as error:
            raise argparse.ArgumentTypeError(f"'{value}' in '{text}' is no number") from error

    return parse


def _mask_paths(out: Path, words: Sequence[str]) -> dict[str, Path]:
    """Where the masks of `words` go beside `out`: no two into one."""
    paths: dict[str, Path] = {}
    for word in dict.fromkeys(words):
        safe = "".join(letter if letter.isalnum() else "_" for letter in word)
        names = (f"{out.stem}-mask-{safe}{number}{out.suffix}" for number in ("", *range(2, len(words) + 1)))
        paths[word] = next(path for path in map(out.with_name, names) if path not in paths.values())
    return paths
