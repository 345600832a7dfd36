"""The fused ways against the explicit ones that the paper writes down."""

import weakref
from dataclasses import replace

import pytest
import torch
from diffusers.models.attention_processor import Attention
from torch.nn import functional

from engine.fatezero.attention import (
    EMPTY,
    SOURCE,
    TARGET,
    Call,
    CrossAttention,
    CrossEdit,
    Layer,
    SelfAttention,
    Source,
    Text,
)
from engine.fatezero.frames import TemporalSettings
from engine.fatezero.keys import key_frames, several_anchors
from engine.fatezero.masks import soft_mask
from engine.fatezero.method import Blend, EditPlan, Inversion, edit, invert
from engine.fatezero.normalization import ClipGroupNorm
from engine.fatezero.profile import Profile
from engine.fatezero.refined import grown, place_mask
from engine.fatezero.schedule import Schedule
from engine.fatezero.sources import KeptSources
from engine.fatezero.unet import FateZeroUNet
from engine.models.checkpoint import load

FRAMES, HEADS, PIXELS, WIDTH, TOKENS = 3, 2, 20, 8, 11
LAYER = Layer(level=1, injects=True, gives_mask=True, anchored=True)


def random(*shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(sum(shape)))


def probabilities(query, key):
    return (query @ key.transpose(-1, -2) / query.shape[-1] ** 0.5).softmax(-1)


def layer_of_attention(context_width=None):
    """diffusers' own, with weights that make the maps sharp, and its projections by head."""
    torch.manual_seed(0)
    attn = Attention(HEADS * WIDTH, context_width, heads=HEADS, dim_head=WIDTH).requires_grad_(False)
    for projection in (attn.to_q, attn.to_k):
        projection.weight.mul_(3)
    return attn, lambda projection, states: projection(states).unflatten(-1, (HEADS, WIDTH)).transpose(1, 2)


def put_out(attn, values):
    return attn.to_out[0](values.transpose(1, 2).flatten(2))


def test_cross_attention_is_edited_as_with_explicit_maps():
    attn, projected = layer_of_attention(WIDTH)
    take, keep = random(TOKENS, TOKENS).abs(), random(TOKENS).abs()
    prompts = {row: random(TOKENS, WIDTH) + place for place, row in enumerate((SOURCE, EMPTY, TARGET))}
    states = {row: random(FRAMES, PIXELS, HEADS * WIDTH).roll(place) for place, row in enumerate(prompts)}

    source = Source(self_attention=False, cross_attention=True)
    call = Call((SOURCE,), FRAMES, leaves=source, texts=[Text(prompts[SOURCE])])
    processor = CrossAttention(LAYER, current := [call])
    plain = processor(attn, states[SOURCE])
    rows = (EMPTY, TARGET)
    texts = [Text(prompts[row]) for row in rows]
    current[0] = Call(rows, FRAMES, source=source, cross=CrossEdit(take, keep), texts=texts)
    out = processor(attn, torch.cat([states[row] for row in rows]))

    maps = {
        row: probabilities(projected(attn.to_q, states[row]), projected(attn.to_k, prompts[row][None]))
        for row in prompts
    }
    values = {row: projected(attn.to_v, prompts[row][None]) for row in prompts}
    new = maps[SOURCE] @ take + maps[TARGET] * keep
    expected = [maps[SOURCE] @ values[SOURCE], maps[EMPTY] @ values[EMPTY], new @ values[TARGET]]
    for actual, right in zip((plain, *out.split(FRAMES)), expected, strict=True):
        torch.testing.assert_close(actual, put_out(attn, right), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("keys", [[[1, 1, 1]], [[0, 0, 1], [2, 2, 2]]])
@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("rows", [(EMPTY, TARGET), (TARGET,)])
def test_self_attention_is_injected_as_with_explicit_maps(rows, masked, keys):
    attn, projected = layer_of_attention()
    mask = random(FRAMES, PIXELS) > 0
    states = {
        row: random(FRAMES, PIXELS, HEADS * WIDTH).roll(place) for place, row in enumerate((SOURCE, EMPTY, TARGET))
    }
    source = Source(self_attention=True, cross_attention=False)
    processor = SelfAttention(LAYER, current := [Call((SOURCE,), FRAMES, keys, leaves=source)])
    processor(attn, states[SOURCE])
    asked = dict(source=source, inject_self=True, mask=(lambda level: mask) if masked else None)
    current[0] = Call(rows, FRAMES, keys, **asked)
    out = processor(attn, torch.cat([states[row] for row in rows]))

    def chosen(projection, row):
        return torch.cat([projected(projection, states[row])[frames] for frames in keys], dim=-2)

    maps = {row: probabilities(projected(attn.to_q, states[row]), chosen(attn.to_k, row)) for row in states}
    values = {row: chosen(attn.to_v, row) for row in states}
    keep_own = mask[:, None, :, None] if masked else torch.zeros(1, dtype=torch.bool)
    right = torch.where(keep_own, maps[TARGET] @ values[TARGET], maps[SOURCE] @ values[TARGET])
    expected = [maps[EMPTY] @ values[EMPTY], right][-len(rows) :]
    for actual, right in zip(out.split(FRAMES), expected, strict=True):
        torch.testing.assert_close(actual, put_out(attn, right), rtol=1e-4, atol=1e-5)


def test_gathered_maps_are_the_mean_over_heads_and_layers():
    call = Call((SOURCE,), FRAMES, gather=SOURCE, layers_with_maps=2)
    pairs = [(random(FRAMES, HEADS, PIXELS, WIDTH) * scale, random(FRAMES, HEADS, TOKENS, WIDTH)) for scale in (1, 2)]
    for query, key in pairs:
        call.add_map(query, key)
    expected = sum(probabilities(query, key).mean(1) for query, key in pairs) / 2
    torch.testing.assert_close(call.maps, expected)


def test_key_frames_are_clamped_to_the_clip():
    assert key_frames(("mid", "first", "last", "-1", "+2"), 4) == [
        [1, 1, 1, 1],
        [0, 0, 0, 0],
        [3, 3, 3, 3],
        [0, 0, 1, 2],
        [2, 3, 3, 3],
    ]


def test_pooled_normalisation_sees_the_whole_clip_of_a_row():
    norm, x = torch.nn.GroupNorm(2, 4), random(6, 4, 5, 5)
    call = Call((EMPTY, TARGET), 3, pooled_norm=True)
    rows = x.unflatten(0, (2, 3)).transpose(1, 2)
    expected = functional.group_norm(rows, 2, norm.weight, norm.bias).transpose(1, 2).flatten(0, 1)
    torch.testing.assert_close(ClipGroupNorm(norm, [call])(x), expected)
    torch.testing.assert_close(ClipGroupNorm(norm, [replace(call, pooled_norm=False)])(x), norm(x))


def test_a_mask_is_highest_at_its_words_strongest_place():
    maps = torch.zeros(1, 16, 5)
    maps[0, 5, 2] = 0.5
    mask = soft_mask(maps, [2], (4, 4), (8, 8))
    assert mask.max() == 1 and mask[0, 0, :6, :6].min() == 1 and mask[0, 0, 6:].max() == 0


def test_without_a_calls_wishes_the_unet_computes_what_it_did(model, unet, read, embedding):
    """The doors are neutral: processors and norms in place, a plain call equals the untouched checkpoint's."""
    plain = load("tests/data/checkpoint", torch.device("cpu"), torch.float32).unet
    x, prompt = random(2, 4, 16, 16), embedding(read("a red cube on grass"))
    with torch.no_grad():
        expected = plain(x, 500, encoder_hidden_states=prompt.expand(2, -1, -1)).sample
    (actual,) = unet([x], 500, [prompt], Call((TARGET,), 2))
    torch.testing.assert_close(actual, expected, rtol=1e-4, atol=1e-5)


def test_rows_of_one_latent_are_what_they_are_apart(unet, read, embedding):
    """Computed as one until a prompt is seen, also where a convolution in steps of 2 rounds up."""
    x, prompts = random(2, 4, 18, 10), [embedding(read(text)) for text in ("", "a red cube on grass")]
    together = unet([x, x], 500, prompts, Call((EMPTY, TARGET), 2))
    for prompt, row in zip(prompts, together, strict=True):
        (alone,) = unet([x.clone()], 500, [prompt], Call((TARGET,), 2))
        torch.testing.assert_close(row, alone, rtol=1e-4, atol=1e-5)
    assert not torch.equal(*together)


def test_a_source_is_left_off_after_its_last_layer_that_injects(unet, read, embedding):
    """Its call makes no output, and runs nothing of the level above those that inject."""
    ran = []
    hooks = [
        unet.unet.get_submodule(name).register_forward_hook(lambda *_, name=name: ran.append(name))
        for name in ("up_blocks.2.resnets.2", "up_blocks.2.upsamplers.0", "up_blocks.3", "conv_out")
    ]
    call = Call((SOURCE,), 2, [[0, 0]], leaves=Source(self_attention=True, cross_attention=True))
    source = unet.leave(random(2, 4, 16, 16), 500, embedding(read("a red cube")), call)
    for hook in hooks:
        hook.remove()
    assert ran == ["up_blocks.2.resnets.2"]
    assert len(source.taken) == 22  # two down and three up at each of two levels and one in the middle, of both kinds


MID_FRAME = TemporalSettings()


class Edit:
    """A small edit on the tiny checkpoint, run whole or in parts."""

    steps = 5

    def __init__(self, model, unet, read, embedding, frames=3, side=16, temporal=MID_FRAME):
        self.unet = unet
        self.schedule = Schedule.from_config(model.scheduler_config, self.steps)
        self.source, self.target = read("a silver jeep on a road"), read("a red jeep on a road")
        self.embeddings = {
            "source": embedding(self.source),
            "empty": embedding(read("")),
            "target": embedding(self.target),
        }
        self.temporal = temporal
        self.latents = random(frames, 4, side, side)
        self.inversion = self.invert()

    def invert(self, chunk=None, done=0) -> Inversion:
        """The whole inversion, from its first step or after the first `done`."""
        inversion = Inversion([self.latents])
        if done:
            inversion = Inversion(self.inversion.latents[: done + 1], self.inversion.maps[:done])
        prompt = self.source, self.embeddings["source"]
        for _ in invert(self.unet, self.schedule, inversion, *prompt, self.temporal, chunk):
            pass
        return inversion

    def run(self, resume=None, inversion=None, chunk=None, **changes):
        plan = EditPlan(self.source, self.target, **({"self_window": (0.0, 0.8)} | changes))
        inversion = inversion or self.inversion
        return list(edit(self.unet, self.schedule, inversion, plan, self.embeddings, self.temporal, resume, chunk))


@pytest.fixture(scope="module")
def small_edit(model, unet, read, embedding):
    return Edit(model, unet, read, embedding)


@pytest.mark.parametrize("refined", [False, True])
def test_an_edit_goes_on_from_any_step(small_edit, refined):
    blend = Blend(("jeep",), ("jeep",), 0.4, latents=True, refined=refined)
    whole = small_edit.run(blend=blend)
    for k in range(len(whole) - 1):
        assert torch.equal(small_edit.run(resume=whole[k], blend=blend)[-1].latents, whole[-1].latents)


def test_an_inversion_goes_on_from_any_step(small_edit):
    whole = small_edit.inversion
    for done in range(1, small_edit.steps + 1):
        again = small_edit.invert(done=done)
        assert len(again.latents) == len(whole.latents) and len(again.maps) == len(whole.maps)
        assert all(map(torch.equal, again.latents, whole.latents)) and all(map(torch.equal, again.maps, whole.maps))


class OneStepAtATime(list):
    """Steps that may be asked for one at a time only, and are new tensors each time, as from a disk."""

    def __getitem__(self, step):
        assert isinstance(step, int)
        return super().__getitem__(step).clone()

    def __iter__(self):
        raise AssertionError("all steps at once")


def test_a_steps_maps_and_latents_are_all_that_is_read_at_once(small_edit):
    inversion = Inversion(OneStepAtATime([small_edit.latents]), OneStepAtATime())
    for _ in invert(
        small_edit.unet, small_edit.schedule, inversion, small_edit.source, small_edit.embeddings["source"],
        small_edit.temporal,
    ):  # fmt: skip
        pass
    for refined in (False, True):
        blend = Blend(("jeep",), ("jeep",), 0.4, latents=True, refined=refined)
        assert torch.equal(
            small_edit.run(blend=blend, inversion=inversion)[-1].latents, small_edit.run(blend=blend)[-1].latents
        )


def test_a_refined_mask_of_the_source_is_the_same_in_all_steps(small_edit):
    blend = Blend(("jeep",), ("jeep",), 0.4, latents=True, latent_window=(0.0, 1.0), refined=True)
    masks = [state.latent_masks for state in small_edit.run(blend=blend)]
    expected = place_mask(
        small_edit.inversion.mean_maps(), small_edit.source.positions(["jeep"]), (4, 4), (16, 16), 0.4
    )
    assert len(masks) == small_edit.steps and all(torch.equal(of_source, expected) for of_source, _ in masks)


def test_guidance_falls_evenly_and_no_lower_than_one(small_edit):
    plan = EditPlan(small_edit.source, small_edit.target, guidance=4.0, guidance_fall=0.5)
    strengths = [plan.guidance_at(step, 5) for step in range(5)]
    assert strengths == [6.0, 5.0, 4.0, 3.0, 2.0]
    assert replace(plan, guidance=1.5).guidance_at(4, 5) == 1.0
    assert replace(plan, guidance=1.0).guidance_at(0, 5) == 1.0, "no guidance is none in all steps"
    assert plan.guidance_at(0, 1) == 4.0
    falling, state = small_edit.run(guidance=4.0, guidance_fall=0.5), None
    for step, strength in enumerate(strengths):
        state = small_edit.run(resume=state, guidance=strength)[0]
        assert torch.equal(falling[step].latents, state.latents)


def test_a_new_shape_reaches_no_farther_beyond_the_old_one(small_edit):
    """To a random model both words are seen in many places; so the source's are kept few."""
    blend = Blend(("jeep",), ("red",), 0.7, latents=True, latent_window=(0.0, 1.0), refined=True)
    free, bound = (small_edit.run(blend=replace(blend, reach=reach))[0].latent_masks for reach in (1.0, 2 / 16))
    old, new = bound
    assert torch.equal(old, free[0])
    assert torch.equal(new, free[1] & grown(old, 2)) and not torch.equal(new, free[1])


SEVERAL = TemporalSettings(served=several_anchors("mid", 11, cuts=[8], every=3))


@pytest.fixture(
    scope="module",
    params=[TemporalSettings(), TemporalSettings(("first", "mid", "last")), SEVERAL],
    ids=["mid", "first-mid-last", "several"],
)
def longer_edit(request, model, unet, read, embedding):
    return Edit(model, unet, read, embedding, frames=11, side=8, temporal=request.param)


def difference(actual, expected):
    return float((actual - expected).norm() / expected.norm())


@pytest.mark.parametrize("chunk", [1, 3, 8, 11])
def test_parts_of_a_clip_come_to_what_the_whole_comes_to(longer_edit, chunk):
    whole = longer_edit.inversion
    inversion = longer_edit.invert(chunk)
    for kind in ("latents", "maps"):
        assert all(
            difference(*pair) <= 1e-5 for pair in zip(getattr(inversion, kind), getattr(whole, kind), strict=True)
        )
    for changes in (
        dict(blend=Blend(("jeep",), ("jeep",), 0.4, latents=True), replace=True, word_weights={"red": 5.0}),
        dict(blend=Blend(("jeep",), threshold=0.5), guidance=1.0),
        dict(blend=Blend(("jeep",), ("jeep",), 0.4, latents=True, refined=True)),
    ):
        expected, actual = longer_edit.run(**changes), longer_edit.run(inversion=inversion, chunk=chunk, **changes)
        for before, after in zip(expected, actual, strict=True):
            assert difference(after.latents, before.latents) <= 1e-5
            assert [mask.shape for mask in after.latent_masks] == [mask.shape for mask in before.latent_masks]
            if before.target_maps is not None:
                assert difference(after.target_maps, before.target_maps) <= 1e-5
        if chunk == 11:
            assert torch.equal(actual[-1].latents, expected[-1].latents), "one part is the whole"


def test_each_frame_is_computed_once_and_the_anchors_first():
    temporal = TemporalSettings(keys=("last", "first", "last"))
    assert temporal.parts(7, 3) == [[0, 1, 6], [2, 3, 4], [5]]
    assert temporal.parts(7, 1) == [[0, 6], [1], [2], [3], [4], [5]]
    assert TemporalSettings().parts(7, 3) == [[0, 1, 3], [2, 4, 5], [6]]
    assert TemporalSettings().parts(7, None) == TemporalSettings().parts(7, 7) == [[0, 1, 2, 3, 4, 5, 6]]
    assert TemporalSettings().parts(1, 3) == [[0]]


@pytest.mark.parametrize("temporal", [TemporalSettings(("-1", "first")), TemporalSettings(pooled_norm=True)])
def test_a_clip_whose_frames_meet_outside_the_anchors_stays_whole(model, unet, read, embedding, temporal):
    edit_of_it = Edit(model, unet, read, embedding, temporal=temporal)
    assert temporal.needs_whole_clip and temporal.parts(3, 1) == [[0, 1, 2]]
    assert all(map(torch.equal, edit_of_it.invert(chunk=1).latents, edit_of_it.inversion.latents))


def test_between_the_parts_of_a_step_its_share_is_told(small_edit):
    shares = []
    inversion = Inversion([small_edit.latents])
    loop = invert(
        small_edit.unet, small_edit.schedule, inversion, small_edit.source, small_edit.embeddings["source"],
        small_edit.temporal, 1, shares.append,
    )  # fmt: skip
    next(loop)
    assert shares == [1 / 3, 2 / 3]


def test_a_mask_of_everything_is_the_edits_own_attention(small_edit):
    free = small_edit.run(self_window=(0.0, 0.0))[-1].latents
    everywhere = small_edit.run(blend=Blend(("jeep",), threshold=-1.0))[-1].latents
    nowhere = small_edit.run(blend=Blend(("jeep",), threshold=1.0))[-1].latents
    injected = small_edit.run()[-1].latents
    torch.testing.assert_close(everywhere, free, rtol=1e-4, atol=1e-4)
    assert torch.equal(nowhere, injected)
    assert (injected - free).abs().max() > 1e-3


@pytest.mark.parametrize("temporal", [MID_FRAME, TemporalSettings(served=several_anchors("mid", 3, every=2))])
@pytest.mark.parametrize(("steps_of_room", "fewest", "most"), [(0, 0, 0), (1.5, 1, 2), (9, 3, 3)])
def test_what_the_inversion_leaves_is_what_the_source_would(small_edit, steps_of_room, fewest, most, temporal):
    """An edit ends in the same bits whether all of the source was kept, a part, or nothing; also in parts of the clip."""
    plan = EditPlan(small_edit.source, small_edit.target, self_window=(0.0, 0.4), cross_window=(0.0, 0.6))
    prompt = small_edit.source, small_edit.embeddings["source"]
    asked = Call((SOURCE,), 3, [[1, 1, 1]], leaves=Source(self_attention=True, cross_attention=True))
    room = int(steps_of_room * small_edit.unet.leave(small_edit.latents, 500, prompt[1], asked).nbytes)
    for chunk in (None, 2):
        kept, inversion = KeptSources(plan.takes(small_edit.steps), room), Inversion([small_edit.latents])
        for _ in invert(small_edit.unet, small_edit.schedule, inversion, *prompt, temporal, chunk, kept=kept):
            pass
        there = [step for step in range(small_edit.steps) if step in kept]
        what = inversion, plan, small_edit.embeddings, temporal
        with_kept = list(edit(small_edit.unet, small_edit.schedule, *what, chunk=chunk, kept=kept))
        assert not any(step in kept for step in there)
        without = list(edit(small_edit.unet, small_edit.schedule, *what, chunk=chunk))
        assert torch.equal(with_kept[-1].latents, without[-1].latents)
        assert fewest <= len(there) <= most


def test_what_the_inversion_leaves_never_takes_more_than_its_room_and_one_call(model, unet, read, embedding):
    """A step of a long clip has many calls, and what all of them leave would fill any memory."""
    longer = Edit(model, unet, read, embedding, frames=11, side=8, temporal=MID_FRAME)
    held, prompt = [], (longer.source, longer.embeddings["source"])

    class Watched(KeptSources):
        def empty(self, step):
            source = super().empty(step)
            held.append(weakref.ref(source))
            sizes.append([left.nbytes for each in held if (left := each())])
            return source

    sizes: list[list[int]] = []
    steps = longer.schedule.steps
    unbounded = Watched([(True, True)] * steps, 10**9)
    next(invert(longer.unet, longer.schedule, Inversion([longer.latents]), *prompt, MID_FRAME, 1, kept=unbounded))
    assert len(sizes[-1]) == 11, "one for each call of a step"
    of_call = max(sizes[-1])
    held.clear(), sizes.clear()
    kept = Watched([(True, True)] * steps, 3 * of_call)
    for _ in invert(longer.unet, longer.schedule, Inversion([longer.latents]), *prompt, MID_FRAME, 1, kept=kept):
        pass
    assert 3 * of_call >= max(map(sum, sizes)) >= of_call
    assert len(sizes) <= 4, "and it is not tried again in the next step"
    assert not any(step in kept for step in range(steps))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_comes_near(model, read, embedding, small_edit, dtype):
    half = load("tests/data/checkpoint", torch.device("cpu"), dtype)
    unet = FateZeroUNet(half.unet, Profile())
    x = small_edit.latents
    cross = EditPlan(small_edit.source, small_edit.target).cross_edits(5, torch.empty(0, dtype=dtype))[0]
    outputs = []
    for net, edit_of in ((small_edit.unet, CrossEdit(cross.take.float(), cross.keep.float())), (unet, cross)):
        asked = Call((SOURCE,), 3, [[1, 1, 1]], leaves=Source(self_attention=True, cross_attention=True))
        source = net.leave(x, 500, small_edit.embeddings[SOURCE], asked)
        call = Call((EMPTY, TARGET), 3, [[1, 1, 1]], source=source, cross=edit_of, inject_self=True, gather=TARGET)
        outputs.append(net([x] * 2, 500, [small_edit.embeddings[row] for row in call.rows], call)[-1].float())
    assert float((outputs[0] - outputs[1]).norm() / outputs[0].norm()) < (0.05 if dtype is torch.bfloat16 else 0.01)
