"""What is kept of an edit: goes on after any end in the same bits, is shared by edits, and is never believed unread."""

import gc
import os
import random
import resource
import shutil
import signal
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from engine.editing import EditError, Editor, Keep
from engine.keeping import KeptInversion, StepLost
from protocol.settings import EditSettings, Window, apply_preset
from tests.engine.killable import Killable

pytestmark = pytest.mark.usefixtures("one_thread")

FRAMES, STEPS = 9, 5
"""More frames than go through the UNet together."""
PROMPTS = dict(preset="attribute", source="a red cube on grass", target="a blue cube on grass")
BLENDED = PROMPTS | dict(
    steps=STEPS,
    mask_words=("cube",),
    cross_mode="replace",
    blend_source=("cube",),
    blend_target=("cube",),
    blend_latents=True,
)


def asked(**changes) -> EditSettings:
    return apply_preset(**(BLENDED | changes))


def clip(seed=0, frames=FRAMES):
    return np.random.default_rng(seed).integers(0, 256, (frames, 48, 64, 3), dtype=np.uint8)


@pytest.fixture
def keep(tmp_path) -> Keep:
    return Keep(tmp_path / "cache", tmp_path / "jobs" / "one")


def other_job(keep: Keep, name: str) -> Keep:
    return Keep(keep.cache, keep.job.with_name(name))


@pytest.fixture(scope="module")
def undisturbed(editor) -> np.ndarray:
    return editor.edit(clip(), asked()).frames


class Ended(Exception):
    """Ends an edit where a test wants it."""


class Report:
    """Hears progress, and does something once a stage has come to a step."""

    def __init__(self, stage="", step=0, act=None):
        self.heard, self._at, self._act = [], (stage, step), act

    def __call__(self, progress):
        self.heard.append(progress)
        if (progress.stage, progress.step) == self._at and self._act:
            act, self._act = self._act, None
            act()

    @property
    def stages(self) -> list[str]:
        return list(dict.fromkeys(progress.stage for progress in self.heard))


def end():
    raise Ended


def inversions(keep: Keep) -> list[Path]:
    folder = keep.cache / "inversions"
    return list(folder.iterdir()) if folder.exists() else []


def left_over(keep: Keep) -> list[Path]:
    return [path for folder in (keep.cache, keep.job) for path in folder.rglob("*") if "writing" in path.name]


@pytest.fixture(scope="module")
def killable(small_checkpoint):
    process = Killable(small_checkpoint)
    yield process
    process.end()


@pytest.mark.skipif(sys.platform == "win32", reason="forks")
@pytest.mark.parametrize("seed", range(3))
def test_an_edit_that_is_killed_at_any_moment_ends_in_the_same_bits(killable, tmp_path, undisturbed, seed):
    moments = random.Random(seed)
    np.save(tmp_path / "clip.npy", clip())
    job = dict(clip=str(tmp_path / "clip.npy"), folder=str(tmp_path), out=str(tmp_path / "out.npy"))
    killed, kept = 0, 0.0
    while True:
        # Later and later: what comes after the last step is done as a whole, or once more.
        reports, status = killable.edit(BLENDED, kill_after=moments.randint(2, 9 + 2 * killed), **job)
        assert reports[0]["fraction"] >= kept, "a step that was kept was done again"
        if status == 0:
            break
        assert status == -signal.SIGKILL
        killed += 1
        # What was kept last is what the first report after it says: those of calls within a step follow it.
        last = reports[-1]
        kept = next(
            each["fraction"] for each in reports if (each["stage"], each["step"]) == (last["stage"], last["step"])
        )
        kept = kept if last["stage"] in ("invert", "edit") else 0.0
    assert killed >= 3
    assert np.array_equal(np.load(job["out"]), undisturbed)
    assert not left_over(Keep(tmp_path / "cache", tmp_path / "job"))


def test_kept_or_not_in_a_process_or_another_the_bits_are_the_same(editor, keep, undisturbed):
    assert np.array_equal(editor.edit(clip(), asked(), keep=keep).frames, undisturbed)
    assert not left_over(keep)


@pytest.mark.parametrize(
    ("stage", "step"), [("encode", 0), ("invert", 0), ("invert", 4), ("edit", 0), ("edit", 3), ("decode", 0)]
)
def test_an_edit_goes_on_where_it_ended_and_says_so(editor, keep, undisturbed, stage, step):
    with pytest.raises(Ended):
        editor.edit(clip(), asked(), Report(stage, step, end), keep=keep)
    report = Report()
    result = editor.edit(clip(), asked(), report, keep=keep)
    first = report.heard[0]
    assert (first.stage, first.step) == (stage, step)
    costs = {"encode": 0, "invert": 1 + step, "edit": 1 + STEPS + 3 * step, "decode": 1 + 4 * STEPS}
    assert first.fraction == pytest.approx(costs[stage] / (3 + 4 * STEPS))
    assert np.array_equal(result.frames, undisturbed)


def test_another_target_prompt_takes_the_inversion_as_it_is(editor, keep, undisturbed):
    editor.edit(clip(), asked(target="a green cube on grass", guidance=2.0), keep=keep)
    (entry,) = inversions(keep)
    os.utime(entry, (1, 1))
    report = Report()
    result = editor.edit(clip(), asked(), report, keep=other_job(keep, "two"))
    assert report.stages == ["edit", "decode"]
    assert np.array_equal(result.frames, undisturbed)
    assert inversions(keep) == [entry] and entry.stat().st_mtime > 1, "a hit is a use"


@pytest.mark.parametrize(
    "changes",
    [
        dict(source="a red cube on sand"),
        dict(steps=STEPS + 1),
        dict(keys=("first",)),
        dict(normalization="clip"),
        dict(frames=clip(seed=1)),
        dict(frames=clip()[:, :, :-1]),
        dict(frames=clip()[:-1]),
    ],
    ids=lambda changes: next(iter(changes)),
)
def test_an_inversion_is_shared_only_where_all_that_decides_it_agrees(editor, keep, changes):
    def half(frames=None, **changes):
        with pytest.raises(Ended):
            editor.edit(clip() if frames is None else frames, asked(**changes), Report("invert", 1, end), keep=keep)

    half()
    half()
    assert len(inversions(keep)) == 1
    half(**changes)
    assert len(inversions(keep)) == 2


def test_other_weights_and_precisions_have_inversions_of_their_own(small_checkpoint, keep, tmp_path):
    shutil.copytree(small_checkpoint, tmp_path / "same")
    shutil.copytree(small_checkpoint, tmp_path / "other")
    profile = tmp_path / "other" / "profile.json"
    profile.write_text(profile.read_text().replace('"anchor_levels": [1, 2, 3]', '"anchor_levels": [2, 3]'))
    for number, (folder, precision, entries) in enumerate(
        [(small_checkpoint, "float32", 1), (tmp_path / "same", "float32", 1), (small_checkpoint, "bfloat16", 2)]
        + [(tmp_path / "other", "float32", 3)]
    ):
        editor = Editor.load(str(folder), "cpu", precision)
        editor.edit(clip(frames=1), asked(steps=1), keep=other_job(keep, str(number)))
        assert len(inversions(keep)) == entries


def flip(path: Path):
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def cut_short(path: Path):
    path.write_bytes(path.read_bytes()[:-1])


def empty(path: Path):
    path.write_bytes(b"")


def swap(path: Path):
    """Whole, but of another step."""
    shutil.copy(path.with_name(f"{path.name.split('-')[0]}-0001"), path)


@pytest.mark.parametrize(
    ("name", "spoil"),
    [
        ("latents-0005", flip),
        ("latents-0003", cut_short),
        ("latents-0002", empty),
        ("latents-0000", swap),
        ("latents-0004", Path.unlink),
        ("maps-0004", swap),
        ("maps-0000", Path.unlink),
    ],
)
def test_a_damaged_step_is_made_again(editor, keep, name, spoil):
    every_step = asked(cross_window=Window(0.0, 1.0))
    expected = editor.edit(clip(), every_step, keep=keep).frames
    (entry,) = inversions(keep)
    spoil(entry / name)
    report = Report()
    assert np.array_equal(editor.edit(clip(), every_step, report, keep=other_job(keep, "next")).frames, expected)
    assert "invert" in report.stages
    assert ("encode" in report.stages) == (name == "latents-0000")
    again = Report()
    editor.edit(clip(), asked(), again, keep=other_job(keep, "again"))
    assert again.stages == ["edit", "decode"], "and kept whole"


def test_a_cache_that_is_emptied_during_an_edit_is_filled_again(editor, keep, undisturbed):
    report = Report("edit", 2, lambda: shutil.rmtree(keep.cache))
    assert np.array_equal(editor.edit(clip(), asked(), report, keep=keep).frames, undisturbed)
    assert [each.fraction for each in report.heard] == sorted(each.fraction for each in report.heard)


def test_what_is_damaged_again_and_again_is_an_error_in_words(editor, keep):
    def spoil():
        flip(inversions(keep)[0] / "latents-0004")

    def report(progress):
        if progress.stage == "edit" and progress.step < 2:
            spoil()

    with pytest.raises(EditError, match="damaged twice") as caught:
        editor.edit(clip(), asked(), report, keep=keep)
    assert caught.value.code == "cannot-read" and caught.value.remedy


@pytest.mark.parametrize("name", ["latents-0000", "latents-0002"])
def test_what_is_damaged_whenever_the_inversion_reads_it_is_an_error_in_words(editor, keep, name):
    """As on a disk that takes a step and never gives it back: the inversion was begun again without end."""
    lost = []

    def report(progress):
        for step in keep.cache.rglob(name):
            lost.append(step.unlink())
        if len(lost) > 5:
            raise Ended

    with pytest.raises(EditError, match="damaged twice") as caught:
        editor.edit(clip(), asked(), report, keep=keep)
    assert caught.value.code == "cannot-read"


def test_each_step_may_be_lost_once(editor, keep, undisturbed):
    """As where a full quota takes a cached inversion more than once during a long edit."""
    spoilt = []

    def report(progress):
        if progress.stage == "edit" and progress.step < STEPS and progress.step not in spoilt:
            spoilt.append(progress.step)
            flip(inversions(keep)[0] / f"latents-{STEPS - 1 - progress.step:04}")

    assert np.array_equal(editor.edit(clip(), asked(), report, keep=keep).frames, undisturbed)
    assert spoilt == list(range(STEPS))


def test_an_inversion_is_in_use_during_the_whole_edit(editor, keep):
    ages = []

    def report(progress):
        if progress.stage == "edit":
            (entry,) = inversions(keep)
            ages.append(time.time() - entry.stat().st_mtime)
            os.utime(entry, (1, 1))

    editor.edit(clip(), asked(), keep=other_job(keep, "before"))
    editor.edit(clip(), asked(), report, keep=keep)
    assert len(ages) > STEPS and sum(age < 1000 for age in ages) >= STEPS, "each step has noted it"


def step_of(number: int) -> torch.Tensor:
    return torch.full((1,), float(number))


def files_of(keep: Keep) -> set[str]:
    return {path.name for path in inversions(keep)[0].iterdir()}


def test_an_edit_leaves_an_inversion_alone_that_another_one_is_making(keep):
    ours = KeptInversion(keep, "key")
    ours.latents.append(step_of(0))
    ours.maps.append(step_of(0))
    theirs = KeptInversion(other_job(keep, "two"), "key")  # between what one step adds
    assert theirs.steps == 0
    for step in (1, 2):
        ours.latents.append(step_of(step))
        ours.maps.append(step_of(step))
    assert files_of(keep) == {f"{name}-000{step}" for name in ("latents", "maps") for step in range(3)}
    assert [ours.maps[step][:].item() for step in range(3)] == [0, 1, 2]
    for step in range(3):
        theirs.maps.append(step_of(step))
        theirs.latents.append(step_of(step + 1))
    assert theirs.steps == 3 and theirs.latents[3][:].item() == 3


def test_an_edit_that_has_lost_a_step_leaves_those_after_it_to_others(keep):
    ours = KeptInversion(keep, "key")
    for step in range(4):
        ours.latents.append(step_of(step))
        ours.maps.append(step_of(step))
    theirs = KeptInversion(other_job(keep, "two"), "key")
    flip(inversions(keep)[0] / "latents-0001")
    with pytest.raises(StepLost):
        ours.latents[1]
    ours.level()
    assert ours.steps == 0
    assert [theirs.latents[step][:].item() for step in (2, 3)] == [2, 3] and theirs.maps[2][:].item() == 2


@pytest.mark.parametrize("spoil", [flip, cut_short, empty])
def test_a_damaged_state_begins_the_edit_anew_and_keeps_the_inversion(editor, keep, undisturbed, spoil):
    with pytest.raises(Ended):
        editor.edit(clip(), asked(), Report("edit", 4, end), keep=keep)
    spoil(keep.job / "edit")
    report = Report()
    assert np.array_equal(editor.edit(clip(), asked(), report, keep=keep).frames, undisturbed)
    assert (report.heard[0].stage, report.heard[0].step) == ("edit", 0)


def test_the_state_of_other_settings_is_not_taken(editor, keep, undisturbed):
    with pytest.raises(Ended):
        editor.edit(clip(), asked(guidance=3.0), Report("edit", 4, end), keep=keep)
    assert np.array_equal(editor.edit(clip(), asked(), keep=keep).frames, undisturbed)


@pytest.fixture
def file_limit():
    """Lets a test forbid files of more than a few bytes, as a full disk does."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    yield lambda size: resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.skipif(sys.platform == "win32", reason="limits of Unix")
@pytest.mark.parametrize(("stage", "step"), [("encode", 0), ("invert", 2), ("edit", 2)])
def test_a_full_disk_is_said_and_what_was_kept_stays(editor, keep, undisturbed, file_limit, stage, step):
    with pytest.raises(EditError, match="is full") as caught:
        editor.edit(clip(), asked(), Report(stage, step, lambda: file_limit(1000)), keep=keep)
    assert caught.value.code == "disk-full" and caught.value.remedy
    assert not left_over(keep)
    file_limit(resource.RLIM_INFINITY)
    report = Report()
    assert np.array_equal(editor.edit(clip(), asked(), report, keep=keep).frames, undisturbed)
    assert (report.heard[0].stage, report.heard[0].step) == (stage, step)


@pytest.mark.parametrize("folder", ["cache", "jobs"])
def test_a_folder_that_cannot_be_written_is_said(editor, keep, tmp_path, folder):
    (tmp_path / folder).write_text("a file")
    with pytest.raises(EditError, match="cannot write to") as caught:
        editor.edit(clip(), asked(), keep=keep)
    assert caught.value.code == "cannot-write" and caught.value.remedy


def tensors_alive() -> int:
    gc.collect()
    return sum(issubclass(type(thing), torch.Tensor) for thing in gc.get_objects())


@pytest.mark.parametrize("kept", [False, True])
@pytest.mark.parametrize(("stage", "step"), [("encode", FRAMES), ("invert", 2), ("edit", 2), ("decode", FRAMES)])
def test_no_tensor_outlives_an_edit_that_was_ended(editor, keep, undisturbed, kept, stage, step):
    before = tensors_alive()
    with pytest.raises(Ended) as caught:
        editor.edit(clip(), asked(), Report(stage, step, end), keep=keep if kept else None)
    assert caught.value.__traceback__ and tensors_alive() <= before


class Watched:
    """A clip with alpha that counts how many frames are wanted at once."""

    def __init__(self, frames):
        self._frames, self.shape, self.digest, self.most = frames, frames.shape, "watched", 0

    def __getitem__(self, part):
        self.most = max(self.most, len(self._frames[part]))
        return self._frames[part]


def test_frames_are_read_and_written_a_few_at_a_time(editor):
    frames = np.random.default_rng(0).integers(0, 256, (19, 48, 64, 4), dtype=np.uint8)
    watched, written = Watched(frames), []
    result = editor.edit(watched, asked(steps=1, steady=0), write=lambda *part: written.append(part))
    assert watched.most == 8
    assert [(start, len(part)) for start, part, _ in written] == [(0, 8), (8, 8), (16, 3)]
    assert result.frames.shape == (0, 48, 64, 4) and result.masks == {}
    whole = editor.edit(frames, asked(steps=1, steady=0))
    assert np.array_equal(np.concatenate([part for _, part, _ in written]), whole.frames)
    assert np.array_equal(np.concatenate([masks["cube"] for _, _, masks in written]), whole.masks["cube"])
    assert np.array_equal(whole.frames[..., 3], frames[..., 3])


def test_a_step_of_several_calls_can_be_ended_between_them(editor):
    report = Report()
    editor.edit(clip(), asked(), report)
    within = [each.fraction for each in report.heard if (each.stage, each.step) == ("edit", 3)]
    assert len(within) == 2 and within == sorted(within) and within[0] < within[1]
