"""Where a job's time goes: one edit with its image files, under Python's own profiler."""

from __future__ import annotations

import cProfile
import inspect
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from types import CodeType

from diffusers.models.attention import FeedForward
from diffusers.models.downsampling import Downsample2D
from diffusers.models.resnet import ResnetBlock2D
from diffusers.models.upsampling import Upsample2D

from protocol.settings import EditSettings

from . import autoencoder, edit_run, tables
from .editing import Editor, Keep
from .fatezero import background, blending, method, refined
from .fatezero.attention import Call, CrossAttention, SelfAttention, Text
from .fatezero.unet import FateZeroUNet
from .geometry import Geometry, levels_of
from .models import text
from .service import frames as image_files
from .service.store import Store


@dataclass(frozen=True)
class Part:
    """A part of a job: the time in some functions, or only that of their calls by one other."""

    name: str
    functions: tuple[Callable, ...]
    caller: Callable | None = None


JOB = (
    Part("image files: read", (image_files.StoredClip.__init__, image_files.StoredClip.__getitem__)),
    Part("image files: write", (image_files.encode, Store.put)),
    Part("autoencoder: encode", (autoencoder.encode,)),
    Part("autoencoder: decode", (autoencoder.decode,)),
    Part("frames to the model's size and back", (Geometry.to_model, levels_of, Geometry.enlarged, Geometry.to_masks)),
    Part("text encoder", (text.embed,)),
    Part("UNet: inversion", (FateZeroUNet.__call__,), method.invert),
    Part("UNet: source row of the edit", (FateZeroUNet.leave,)),
    Part("UNet: empty and target row", (FateZeroUNet.__call__,), method._StepEdit.run),
    Part("source's pixels laid over", (background.edited_share, background.refined_share, background.lay_over)),
    Part("masks of steps", (blending.changing_masks,), method._StepEdit.run),
    Part("masks' edges from pictures", (refined.guided,)),
    Part("cache and journal of steps", (tables.write, tables.read, edit_run.EditRun._inversion_key)),
)
"""They do not overlap."""
UNET = (
    Part("residual blocks", (ResnetBlock2D.forward,)),
    Part("self-attention", (SelfAttention.attend,)),
    Part("cross-attention", (CrossAttention.attend,)),
    Part("of it: maps for masks", (Call.add_map,)),
    Part("of it: keys and values of texts", (Text.keys_and_values,)),
    Part("feed-forward", (FeedForward.forward,)),
    Part("between levels", (Downsample2D.forward, Upsample2D.forward)),
)
"""Parts of all the UNet's calls."""
REST, WHOLE = "rest", "whole job"


def breakdown(editor: Editor, clip, settings: EditSettings) -> dict[str, dict[str, float]]:
    """Seconds by part of a first edit of `clip`, which comes from PNG files and goes to them: of the job, of its UNet.

    On a CPU, where a call has done its work when it returns; its seconds are those that the process was at work.
    """
    with TemporaryDirectory(prefix="fatezero-breakdown-") as folder:
        store = Store(Path(folder))
        sent = [store.path("bench", store.put("bench", image_files.encode(frame))) for frame in clip[:]]

        def write(_start, frames, words) -> None:
            for pictures in (frames, *words.values()):
                for picture in pictures:
                    store.put("bench", image_files.encode(picture))

        profile, keep = cProfile.Profile(time.process_time), Keep(Path(folder) / "cache", Path(folder) / "job")
        begun = time.process_time()
        with profile:
            editor.edit(image_files.StoredClip(sent), settings, keep=keep, write=write)
        whole = time.process_time() - begun
    seconds = _Seconds(profile)
    job, unet = ({part.name: seconds.of(part) for part in parts} for parts in (JOB, UNET))
    total = sum(taken for name, taken in job.items() if name.startswith("UNet"))
    return {
        "job": job | {REST: whole - sum(job.values()), WHOLE: whole},
        "unet": unet | {REST: total - sum(taken for name, taken in unet.items() if not name.startswith("of it"))},
    }


class _Seconds:
    """What a profile says of functions, with all that they called."""

    def __init__(self, profile: cProfile.Profile):
        self._entries = {entry.code: entry for entry in profile.getstats()}

    def of(self, part: Part) -> float:
        return sum(self._one(_code(function), part.caller and _code(part.caller)) for function in part.functions)

    def _one(self, code: CodeType, caller: CodeType | None) -> float:
        if caller is None:
            return self._entries[code].totaltime if code in self._entries else 0.0
        called = self._entries[caller].calls if caller in self._entries else None
        return sum(entry.totaltime for entry in called or () if entry.code is code)


def _code(function: Callable) -> CodeType:
    return inspect.unwrap(function).__code__
