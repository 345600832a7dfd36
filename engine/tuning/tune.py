"""One-shot tuning from a clip to a checkpoint's folder (Tune-A-Video, arXiv 2212.11565, section 3; FateZero, section 4)."""

from __future__ import annotations

import contextlib
import shutil
import time
from collections.abc import Callable
from copy import deepcopy
from dataclasses import asdict, dataclass
from pathlib import Path
from traceback import clear_frames

import numpy as np
import safetensors.torch
import torch
from torch import Tensor

from protocol import models
from protocol.durable import sync
from protocol.models import Model
from protocol.settings import BUILTIN_MODEL

from ..clips import ArrayClip, Clip
from ..devices import choose_device, free_memory, release_memory
from ..editing import Editor
from ..errors import EditError
from ..fatezero.profile import tuned
from ..fatezero.schedule import Schedule
from ..fatezero.unet import FateZeroUNet
from ..geometry import Geometry
from ..keeping import key_of
from ..memory import MARGIN, ran_out
from ..models.checkpoint import Checkpoint, load
from ..models.text import read_prompt
from ..previews import Preview, Previewer
from ..tables import cannot_keep, read_whole, write_whole
from . import nulltext
from .folder import INDEX, save_checkpoint
from .parts import TRAINED, add_fresh_parts, trained_parameters
from .training import Training

STATE_FOLDER = "tuning"
"""Beside the parts of the checkpoint that is being made, until it is complete."""
KEEP_SECONDS = 60.0
"""After which the state is kept even if no step is due: on a slow device a step takes its time."""
KEPT_MAPS, RECOMPUTED_MAPS = 500, 130
"""Feature maps of the first level's width that Stable Diffusion's UNet holds of each frame in a backward pass: where it
keeps what every layer took in (474 were counted), and where it keeps that of whole blocks (66) and computes one again."""


@dataclass(frozen=True)
class TuneSettings:
    """`rate` is AdamW's step size; `rank` that of the temporal convolutions, at most half a layer's width."""

    prompt: str
    steps: int = 500
    rate: float = 3e-5
    rank: int = 160
    seed: int = 0


@dataclass(frozen=True)
class TuneProgress:
    """How far a tuning has come, after each step."""

    step: int
    """Steps that are done."""
    steps: int
    loss: float
    sample: np.ndarray | None
    """(F, H, W, 3) uint8, every so often: the clip, made out of half its noise by what is trained so far."""


def tune(
    model: str | Model,
    clip: np.ndarray | Clip,
    settings: TuneSettings,
    out: Path,
    report: Callable[[TuneProgress], None] = lambda _: None,
    *,
    device: str = "auto",
    keep_every: int = 50,
    sample_every: int = 0,
    preview: Callable[[Preview], None] | None = None,
    memory_share: float = 1.0,
) -> list[str]:
    """Make a tuned video checkpoint in the folder `out` of the image checkpoint `model` and a clip (F, H, W, 3 or 4) uint8.

    The state is kept in `out` every `keep_every` steps, and once a minute: called again after it was killed, it goes on
    from there and ends in the same bits. An exception that `report` raises ends it after the step that is done, which is
    kept. `sample_every` steps a sample is made, or never where that is 0; `preview` is shown small ones, every second at
    most. `memory_share`: of the free memory, what may be planned with. Returns sentences for the user; EditError for
    anything that cannot be done.
    """
    clip = ArrayClip(clip) if isinstance(clip, np.ndarray) else clip
    place = choose_device(device)
    try:
        return _tune(model, clip, settings, out, report, place, keep_every, sample_every, preview, memory_share)
    except BaseException as error:
        clear_frames(error.__traceback__)
        if not ran_out(error):
            raise
        raise EditError(
            "memory", f"Tuning on {clip.shape[0]} frames did not fit in memory.", "Tune on fewer or smaller frames."
        ) from error
    finally:
        release_memory(place)


def _tune(
    model: str | Model,
    clip: Clip,
    settings: TuneSettings,
    out: Path,
    report: Callable[[TuneProgress], None],
    device: torch.device,
    keep_every: int,
    sample_every: int,
    preview: Callable[[Preview], None] | None,
    memory_share: float,
) -> list[str]:
    if not settings.prompt.strip():
        raise EditError("settings", "The prompt is empty.", "Say in a few words what is in the clip.")
    folder = out / STATE_FOLDER
    if out.exists() and not folder.is_dir() and (not out.is_dir() or any(out.iterdir())):
        raise EditError("not-empty", f"'{out}' is not an empty folder.", "Give the path of a new folder.")

    model = model if isinstance(model, Model) else Model(model)
    checkpoint = load(model, device, torch.float32)
    if checkpoint.profile.needs_whole_clip or models.base_of(model):
        raise EditError(
            "checkpoint",
            f"The checkpoint '{checkpoint.name}' is tuned on video already.",
            "Tune the image checkpoint that it was made from.",
        )
    null_text = model.path == BUILTIN_MODEL
    state_file, key = _state_file(folder, checkpoint, clip, settings, {"null_text": True} if null_text else {})

    if null_text:
        rank, untuned = 0, FateZeroUNet(deepcopy(checkpoint.unet), checkpoint.profile)
    else:
        rank = settings.rank
        add_fresh_parts(checkpoint.unet, rank, settings.seed)
        checkpoint.profile = tuned(checkpoint.profile, len(checkpoint.unet.config.block_out_channels))
    weights = checkpoint.unet.state_dict()  # by their published names, which the method's doors into the UNet change
    trained = trained_parameters(checkpoint.unet, nulltext.TRAINED if null_text else TRAINED)
    editor = Editor(checkpoint)
    geometry = editor.geometry(clip)
    width, height = (side // checkpoint.factor for side in geometry.padded)
    each = 4 * checkpoint.unet.config.block_out_channels[0] * width * height
    fixed = 3 * sum(parameter.nbytes for parameter in trained.values())  # their gradients and AdamW's two moments
    if needs_checkpointing(clip.shape[0], each, free_memory(device) - fixed, memory_share):
        checkpoint.unet.enable_gradient_checkpointing()
    prompt = read_prompt(checkpoint, settings.prompt)
    embed = lambda text: editor.embedding(read_prompt(checkpoint, text))
    latents, schedule = _encode(editor, geometry, clip), Schedule.from_config(checkpoint.scheduler_config, 1)
    if null_text:
        prompts = nulltext.Prompts(settings.prompt, nulltext.whole_words(checkpoint.tokenizer), embed)
        training = nulltext.NullTextTraining(
            editor.unet, untuned, trained, latents, prompts, schedule, settings.rate, settings.seed
        )
    else:
        training = Training(
            editor.unet, trained, latents, embed(settings.prompt), schedule, settings.rate, settings.seed
        )

    def keep() -> None:
        write_whole(state_file, key, [safetensors.torch.save(training.state())], folder)

    if (state := read_whole(state_file, key)) is not None:
        training.go_on_from(safetensors.torch.load(state))
    else:
        keep()  # so a full disk is known of before the work is done
    previewer = Previewer(clip, geometry, preview) if preview else None
    kept = training.step, time.monotonic()
    while training.step < settings.steps:
        loss = training.advance()
        if (
            training.step % keep_every == 0
            or training.step == settings.steps
            or time.monotonic() - kept[1] > KEEP_SECONDS
        ):
            keep()
            kept = training.step, time.monotonic()
        sample = None
        if sample_every and training.step % sample_every == 0:
            sample = _decode(editor, geometry, training.reconstruction())
        if previewer and previewer.watched():
            began, seen = time.monotonic(), training.reconstruction()
            previewer.take(training.step, settings.steps, seen, lambda: training.latents, began)
        try:
            report(TuneProgress(training.step, settings.steps, loss, sample))
        except BaseException:
            if training.step != kept[0]:
                with contextlib.suppress(EditError):  # no room for it: what was kept before is still there
                    keep()
            raise
    save_checkpoint(out, model, checkpoint, weights, rank)
    forget_state(out)
    if prompt.cut:
        return [f"The prompt is longer than the model takes; these words were cut: {' '.join(prompt.cut)}."]
    return []


def _state_file(
    folder: Path, checkpoint: Checkpoint, clip: Clip, settings: TuneSettings, way: dict[str, bool]
) -> tuple[Path, str]:
    """Where the state is kept, and the key of it; EditError where another tuning keeps its own there.

    `way`: what tells this way of tuning from the usual one.
    """
    digests = folder / "checkpoints.json"
    key = key_of(
        tuning=asdict(settings),
        checkpoint=checkpoint.files.digest(digests),
        device=checkpoint.unet.device.type,
        clip=clip.digest,
        torch=torch.__version__,
        **way,
    )
    path = folder / f"state-{key[:16]}"
    for left_over in folder.glob("writing-*"):
        with contextlib.suppress(OSError):
            left_over.unlink()
    if any(other != path for other in folder.glob("state-*")):
        raise EditError(
            "not-empty",
            f"'{folder.parent}' holds a tuning with other settings, of another clip or checkpoint, that is not complete.",
            "Go on with that one, or give the path of a new folder.",
        )
    return path, key


def complete(out: Path) -> bool:
    """Whether a tuning into this folder has come to its end: its index is written last."""
    return (out / INDEX).is_file()


def forget_state(out: Path) -> None:
    """Remove what a complete tuning went on from, once the disk surely has what it has made; EditError where it has not."""
    try:
        sync(out / INDEX)
        sync(out)
    except OSError as error:
        raise cannot_keep(error, out) from error
    shutil.rmtree(out / STATE_FOLDER, ignore_errors=True)


def needs_checkpointing(frames: int, each: int, free: int, share: float = 1.0) -> bool:
    """Whether the backward pass must compute layers again instead of keeping all that they took in.

    `each`: bytes of a feature map of one frame at the first level; `share`: of the `free` bytes, what may be taken to save
    time. EditError, naming how many frames would fit in `free`
    bytes, where even that is not enough: a tuning sees all frames of its clip together.
    """
    fitting = int(free * MARGIN // (RECOMPUTED_MAPS * each))
    if frames > fitting:
        raise EditError(
            "memory",
            f"Tuning on {frames} frames would take about {frames * RECOMPUTED_MAPS * each / 2**30:.1f} GiB of memory, "
            f"and {max(0, free) / 2**30:.1f} GiB are free.",
            f"Tune on at most {fitting} frames, for example the first {fitting}."
            if fitting > 0
            else "Close other programs, or use a smaller checkpoint.",
        )
    return frames * KEPT_MAPS * each > free * share * MARGIN


def _encode(editor: Editor, geometry: Geometry, clip: Clip) -> Tensor:
    """(F, 4, h, w): the latents of a clip, a few frames at once."""
    size = editor.autoencoded_at_once(geometry)
    parts = (clip[start : start + size][..., :3] for start in range(0, clip.shape[0], size))
    return torch.cat([editor.encode(geometry.to_model(part)) for part in parts])


def _decode(editor: Editor, geometry: Geometry, latents: Tensor) -> np.ndarray:
    parts = latents.split(editor.autoencoded_at_once(geometry))
    return np.concatenate([geometry.to_frames(editor.decode(part)) for part in parts])
