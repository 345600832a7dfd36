"""Steps that reuse the deeper levels of the last full one (DeepCache)."""

import msgspec
import numpy as np
import pytest
import torch

from engine.cli.edit import _parser, settings_of
from engine.editing import Keep
from engine.fatezero.attention import EMPTY, TARGET, Call
from engine.fatezero.frames import TemporalSettings
from engine.fatezero.method import Blend, EditPlan, Inversion, edit, invert
from engine.fatezero.reuse import Deep, edit_blocks, inversion_blocks
from engine.fatezero.sources import KeptSources
from protocol.settings import apply_preset, draft_of
from tests.engine.test_method import Edit, difference, random

REUSE = 2
BLEND = Blend(("jeep",), ("jeep",), 0.4, latents=True, latent_window=(0.0, 1.0))


@pytest.mark.parametrize("texts", [("a red cube on grass",), ("", "a red cube on grass")])
@pytest.mark.parametrize("size", [(16, 16), (18, 10)])
def test_with_the_same_input_a_shallow_call_is_the_full_one(unet, read, embedding, texts, size):
    """The finest level on its own deep states gives the full call's bits, and nothing below it runs."""
    x, prompts, rows = random(2, 4, *size), [embedding(read(text)) for text in texts], (EMPTY, TARGET)[-len(texts) :]
    untouched, names = unet([x] * len(rows), 500, prompts, Call(rows, 2)), [*unet.unet.state_dict()]
    deep, ran = Deep(), []
    full = unet([x] * len(rows), 500, prompts, Call(rows, 2, gather=rows[-1], deep=deep))
    assert all(map(torch.equal, full, untouched)), "to be reused changes nothing"
    hooks = [
        unet.unet.get_submodule(name).register_forward_hook(lambda *_, name=name: ran.append(name))
        for name in ("down_blocks.0.resnets.0", "down_blocks.0.downsamplers.0", "down_blocks.1", "mid_block")
        + ("up_blocks.2", "up_blocks.3", "conv_out")
    ]
    call = Call(rows, 2, gather=rows[-1], deep=deep)
    shallow = unet([x] * len(rows), 500, prompts, call)
    for hook in hooks:
        hook.remove()
    assert all(map(torch.equal, shallow, full)) and call.maps is deep.maps
    assert ran == ["down_blocks.0.resnets.0", "up_blocks.3", "conv_out"]
    (other,) = unet([x + 1], 500, prompts[-1:], Call(rows[-1:], 2, deep=Deep(deep.states[-2:])))
    assert not torch.equal(other, full[-1]), "the finest level sees what comes in"
    assert [*unet.unet.state_dict()] == names
    assert all(map(torch.equal, unet([x] * len(rows), 500, prompts, Call(rows, 2)), untouched))


def test_an_error_in_a_shallow_call_leaves_the_unet_whole(unet, read, embedding):
    before = [*unet.unet.state_dict()]
    with pytest.raises(RuntimeError):
        unet([random(1, 4, 16, 16)], 500, [embedding(read("a"))], Call((TARGET,), 1, deep=Deep(random(1, 3, 2, 2))))
    assert [*unet.unet.state_dict()] == before


@pytest.mark.parametrize("steps", [1, 5, 20])
@pytest.mark.parametrize("reuse", [1, 2, 3, 7])
def test_the_inversion_is_full_wherever_the_edit_is(steps, reuse):
    edited, inverted = edit_blocks(0, steps, reuse), inversion_blocks(steps, reuse)
    for blocks in (edited, inverted):
        assert [step for block in blocks for step in block] == list(range(steps))
        assert all(1 <= len(block) <= reuse for block in blocks)
    assert {steps - 1 - block.start for block in edited} <= {block.start for block in inverted}


def test_nothing_is_injected_in_a_shallow_step(small_edit):
    plan = EditPlan(small_edit.source, small_edit.target, self_window=(0.0, 0.6), blend=Blend(("jeep",)), reuse=2)
    assert plan.takes(5) == [(True, True), (False, False), (True, True), (False, False), (False, False)]
    assert plan.masked_steps(5) == 2


class ReusingEdit(Edit):
    """The small edit with every second step a shallow one."""

    def invert(self, chunk=None, done=0, kept=None) -> Inversion:
        inversion = Inversion([self.latents])
        if done:
            inversion = Inversion(self.inversion.latents[: done + 1], self.inversion.maps[:done])
        prompt = self.source, self.embeddings["source"]
        for _ in invert(self.unet, self.schedule, inversion, *prompt, self.temporal, chunk, kept=kept, reuse=REUSE):
            pass
        return inversion

    def run(self, resume=None, inversion=None, chunk=None, kept=None):
        what = inversion or self.inversion, self.plan(), self.embeddings, self.temporal
        return list(edit(self.unet, self.schedule, *what, resume, chunk, kept=kept))

    def plan(self):
        return EditPlan(self.source, self.target, self_window=(0.0, 0.8), blend=BLEND, reuse=REUSE)


@pytest.fixture(scope="module")
def small_edit(model, unet, read, embedding):
    return ReusingEdit(model, unet, read, embedding)


def test_it_is_another_edit_but_a_near_one(small_edit, model, unet, read, embedding):
    reused = small_edit.run()
    full = Edit(model, unet, read, embedding).run(blend=BLEND)
    assert [state.step for state in reused] == [1, 3, 4] and [state.step for state in full] == [0, 1, 2, 3, 4]
    assert 0 < difference(reused[-1].latents, full[-1].latents) < 0.5
    assert reused[-1].target_maps.shape == full[-1].target_maps.shape
    assert reused[-1].masked.max() <= full[-1].masked.max() == 5


def test_an_edit_goes_on_from_any_block(small_edit):
    whole = small_edit.run()
    for state in whole[:-1]:
        again = small_edit.run(resume=state)[-1]
        assert torch.equal(again.latents, whole[-1].latents)
        assert torch.equal(again.target_maps, whole[-1].target_maps) and torch.equal(again.masked, whole[-1].masked)


def test_an_inversion_goes_on_from_any_step_also_within_a_block(small_edit):
    whole = small_edit.inversion
    for done in range(1, small_edit.steps + 1):
        again = small_edit.invert(done=done)
        assert len(again.latents) == len(whole.latents) and len(again.maps) == len(whole.maps)
        assert all(map(torch.equal, again.latents, whole.latents)) and all(map(torch.equal, again.maps, whole.maps))


@pytest.mark.parametrize("chunk", [1, 3, 11])
def test_parts_of_a_clip_come_to_what_the_whole_comes_to(model, unet, read, embedding, chunk):
    longer = ReusingEdit(
        model, unet, read, embedding, frames=11, side=8, temporal=TemporalSettings(keys=("first", "mid"))
    )
    inversion = longer.invert(chunk)
    for kind in ("latents", "maps"):
        for pair in zip(getattr(inversion, kind), getattr(longer.inversion, kind), strict=True):
            assert difference(*pair) <= 1e-5
    for before, after in zip(longer.run(), longer.run(inversion=inversion, chunk=chunk), strict=True):
        assert difference(after.latents, before.latents) <= 1e-5
        assert difference(after.target_maps, before.target_maps) <= 1e-5


@pytest.mark.parametrize("chunk", [None, 2])
def test_what_the_inversion_leaves_is_what_the_source_would(small_edit, chunk):
    kept = KeptSources(small_edit.plan().takes(small_edit.steps), 10**9)
    inversion = small_edit.invert(chunk, kept=kept)
    assert [step for step in range(small_edit.steps) if step in kept] == [0, 2]
    with_kept = small_edit.run(inversion=inversion, chunk=chunk, kept=kept)[-1]
    assert torch.equal(with_kept.latents, small_edit.run(inversion=inversion, chunk=chunk)[-1].latents)


def test_source_rows_are_computed_at_full_steps_alone(small_edit, monkeypatch):
    asked = []
    leave = small_edit.unet.leave
    monkeypatch.setattr(small_edit.unet, "leave", lambda *given: asked.append(given[1]) or leave(*given))
    small_edit.run()
    assert asked == [small_edit.schedule.timesteps[0], small_edit.schedule.timesteps[2]]


def settings(**changes):
    return apply_preset("attribute", "a red ball", "a blue ball", steps=4, **changes)


def frames():
    return (np.arange(3 * 64 * 64 * 3).reshape(3, 64, 64, 3) % 251).astype(np.uint8)


def test_the_setting_decides_the_inversion_too(editor, tmp_path):
    """Neither takes the other's inversion, nor its state; each ends as it does alone."""
    alone = {reuse: editor.edit(frames(), settings(reuse=reuse)).frames for reuse in (1, 2)}
    assert not np.array_equal(alone[1], alone[2])
    for reuse in (2, 1, 2):
        keep = Keep(tmp_path / "cache", tmp_path / "job")
        assert np.array_equal(editor.edit(frames(), settings(reuse=reuse), keep=keep).frames, alone[reuse])
    assert len(list((tmp_path / "cache" / "inversions").iterdir())) == 2


def test_an_edit_that_is_ended_between_steps_ends_in_the_same_bits(editor, tmp_path):
    class Ended(Exception):
        pass

    whole = editor.edit(frames(), settings(reuse=3)).frames
    for stage, done in (("invert", 1), ("invert", 3), ("edit", 3)):
        keep = Keep(tmp_path / "cache" / f"{stage}{done}", tmp_path / f"{stage}{done}")

        def end(progress, stage=stage, done=done):
            if (progress.stage, progress.step) == (stage, done):
                raise Ended

        with pytest.raises(Ended):
            editor.edit(frames(), settings(reuse=3), end, keep=keep)
        assert np.array_equal(editor.edit(frames(), settings(reuse=3), keep=keep).frames, whole), (stage, done)


def test_edits_of_before_the_setting_are_full_ones():
    known = msgspec.json.decode(b'{"source":"a","target":"b"}', type=type(settings()))
    assert known.reuse == 1 and settings().reuse == 1


def test_the_command_line_makes_drafts():
    asked = ["clip.mp4", "--out", "edited.mp4", "--source", "a red ball", "--target", "a blue ball", "--draft"]
    assert settings_of(_parser().parse_args(asked)) == draft_of(apply_preset("attribute", "a red ball", "a blue ball"))
