"""What an edit is asked to do: one value that the add-on shows, the wire carries and the engine obeys."""

from __future__ import annotations

import re
from dataclasses import dataclass

import msgspec

from .limits import MAX_FRAMES

BUILTIN_MODEL = "builtin"
DEFAULT_GUIDANCE = 7.5
MAX_STEPS = 999
"""Of the 1000 timesteps that Stable Diffusion was trained on, its offset leaves this many."""
MAX_REUSE = 10
"""Far beyond what is of use."""


class Window(msgspec.Struct, frozen=True, array_like=True):
    """A part of the denoising steps: from fraction `start` to fraction `end`, 0 being the noisiest step."""

    start: float
    end: float


class EditSettings(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that decides an edit's result, apart from the frames (FateZero, section 3; Prompt-to-Prompt)."""

    source: str
    """What is in the clip, naming every object to be edited or kept."""
    target: str
    """What shall be in it instead."""
    preset: str = "attribute"
    """The preset that the other settings were taken from; it changes nothing by itself."""
    steps: int = 20
    reuse: int = 1
    """Every how many steps all of the UNet is computed; in those between, its finest level alone, on what the last whole
    one has brought up to it (DeepCache): faster, and less exact. 1: in every step."""
    full_steps: int = 0
    """Of a draft (`draft_of`) the steps that it takes in full; it changes nothing by itself. 0: this is no draft."""
    guidance: float = DEFAULT_GUIDANCE
    """Classifier-free guidance of the editing steps; at 1 or less there is none."""
    guidance_fall: float = 0.0
    """How much of itself `guidance` is above in the first step and below in the last, falling evenly between, but never
    below 1: what is there is settled early, and how it looks is drawn gently. 0: the same in all steps, as in the paper."""
    cross_mode: str = "refine"
    """`refine` aligns prompts of any lengths, `replace` swaps words one for one."""
    cross_window: Window = Window(0.0, 0.5)
    """Where the source's cross-attention (the layout of the words) is kept."""
    word_windows: dict[str, Window] = {}
    """Cross-attention windows of single words of the target prompt, where they differ from `cross_window`."""
    self_window: Window = Window(0.0, 0.5)
    """Where the source's self-attention (structure and motion) is kept."""
    word_weights: dict[str, float] = {}
    """The equalizer: strength of single words of the target prompt, 1 being as it is."""
    picture_weight: float = 1.0
    """Strength of the words of `blend_target` that have none of their own, where those of `blend_source` name no place, but
    the whole picture, as 'night' does: so the middle frame's refined mask says."""
    blend_source: tuple[str, ...] = ()
    """Words of the source prompt whose place in the picture may change its shape; none: structure is kept all over."""
    blend_target: tuple[str, ...] = ()
    """Words of the target prompt for the same place; used by latent blending and by `keep_background`."""
    blend_threshold: float = 0.3
    """How sure a place must be to belong to the blend words, 0 to 1; lower takes more of the picture."""
    mask: str = "paper"
    """How a word's place is found: `paper`, or `refined`: the mean over all steps, with the picture's own edges. It decides
    what blend words and mask words mean, and what the masks of a survey are."""
    blend_reach: float = 1.0
    """How far beyond the place of `blend_source` that of `blend_target` may reach, as a part of the picture's shorter side;
    1: anywhere."""
    blend_attention: bool = True
    """Let self-attention leave the source's structure in the blend words' place: what a change of shape needs."""
    blend_latents: bool = False
    """Also keep the source's latents outside the blend words' place (for local changes of shape)."""
    blend_steps: Window = Window(0.2, 0.8)
    """Where latents are blended; with an end of 1 also after the last step, so that what is outside stays the source's."""
    keep_background: bool = False
    """Far outside the blend words' place, take the source's own pixels at full resolution, with soft edges."""
    own_mask: str = ""
    """What the user's own mask does to the blend words' place: `replace` it, `limit` it (both must hold), `add` to it or
    `subtract` from it; empty: there is none. Without blend words that place is nowhere for what may change its shape,
    and for what `blend_latents` and `keep_background` let change it is everywhere, or nowhere to `add` to."""
    mask_words: tuple[str, ...] = ()
    """Words of the source prompt whose masks are wanted beside the edited frames."""
    keys: tuple[str, ...] = ("mid",)
    """Frames that give spatial-temporal self-attention its keys and values: `first`, `mid`, `last` or an offset."""
    anchor_every: int = 0
    """Several anchors in place of one middle frame, so many frames apart at most; every frame attends to the two beside
    it, cross-faded. 0: one for the clip, or for each of its shots."""
    anchor_cuts: bool = True
    """Find the clip's cuts, and let each shot have anchors, or `keys`, and keyframes of its own; nor is it steadied
    across a cut. Only a tuned checkpoint's temporal layers and the whole clip's normalisation see all shots."""
    normalization: str = "frame"
    """Statistics of group normalisation: of each `frame`, or of the whole `clip` (as the authors ran it)."""
    keyframe_step: int = 1
    """The model edits every so-manieth frame, and the last; what it changes is carried along the clip's own motion to the
    others. 1: all frames."""
    steady: int = 0
    """Frames on either side over which what an edit changes is averaged along the clip's own motion, against flicker; of
    keyframes, so many keyframes. 0: none."""
    model: str = BUILTIN_MODEL
    """`builtin`, or the name under which a checkpoint is registered on the engine's machine (see `models`)."""
    precision: str = "auto"
    """`float32`, `float16`, `bfloat16`, or `auto`: what is fast and safe on the device."""


MASKS = ("paper", "refined")
MAX_KEYFRAME_STEP = 24
MAX_STEADY = 8
MAX_WEIGHT = 100.0
OWN_MASKS = ("replace", "limit", "add", "subtract")
"""What a user's own mask may do."""


class SettingsError(ValueError):
    """A setting that no edit can be made with; its text is one sentence that says which and what would do."""


PRESETS: dict[str, dict] = {
    "style": dict(cross_window=Window(0.0, 0.8), self_window=Window(0.0, 0.8)),
    "attribute": dict(cross_window=Window(0.0, 0.5), self_window=Window(0.0, 0.5)),
    "shape": dict(cross_mode="replace", cross_window=Window(0.0, 0.5), self_window=Window(0.0, 0.5)),
    "reconstruct": dict(cross_window=Window(0.0, 0.8), self_window=Window(0.0, 0.9)),
}
"""Settings by the kind of edit, drawn from the authors' configurations; what is absent is the field's default."""

PRESET_WEIGHT = {"style": 10.0, "attribute": 5.0}
"""Equalizer weight that a preset gives to the words that are new in the target prompt; 1 where it is absent."""

_PLACES = dict(mask="refined", blend_threshold=0.4, steady=2)
_LOCAL = dict(blend_latents=True, blend_steps=Window(0.0, 1.0), keep_background=True)
BUILTIN_PRESETS: dict[str, dict] = {
    "style": _PLACES
    | dict(guidance=2.0, guidance_fall=0.8, cross_window=Window(0.0, 0.5), self_window=Window(0.0, 0.5)),
    "attribute": _PLACES
    | _LOCAL
    | dict(
        guidance_fall=0.8,
        cross_window=Window(0.0, 0.8),
        self_window=Window(0.0, 0.8),
        blend_attention=False,
        picture_weight=3.0,
    ),
    "shape": _PLACES | _LOCAL | dict(guidance_fall=0.8, cross_window=Window(0.0, 0.0), blend_reach=0.0625),
    "reconstruct": _PLACES | dict(guidance=1.0),
}
"""What the small model takes instead, and why: `docs/quality.md`. Its words name places well, so that latents are blended."""
BUILTIN_WEIGHT = {"style": 1.0, "attribute": 1.0}


_USUAL = dict(guidance=DEFAULT_GUIDANCE, mask="paper", blend_threshold=0.3, keep_background=False, steady=0)


@dataclass(frozen=True)
class Preset:
    """What a preset sets for a model: `values` by field, `weight` of the words that are new in the target prompt."""

    values: dict
    weight: float

    @classmethod
    def of(cls, name: str, model: str, base: str = "") -> Preset:
        """The preset called `name` for `model`, or for the one that it was tuned from (`base`); `SettingsError` where there
        is none."""
        if name not in PRESETS:
            raise SettingsError(f"There is no preset called '{name}'; choose one of {', '.join(PRESETS)}.")
        values = _USUAL | PRESETS[name]
        weight = PRESET_WEIGHT.get(name, 1.0)
        if BUILTIN_MODEL in (model, base):
            return cls(values | BUILTIN_PRESETS.get(name, {}), BUILTIN_WEIGHT.get(name, weight))
        return cls(values, weight)

    @property
    def blends(self) -> bool:
        """Whether the words that change become the blend words."""
        return self.values.get("cross_mode") == "replace" or self.values.get("blend_latents", False)


def words_of(prompt: str) -> list[str]:
    """The prompt's words as everything here counts them: parted by spaces."""
    return prompt.split()


def new_words(source: str, target: str) -> list[str]:
    """Words of `target` that `source` lacks, in order, each once."""
    known = set(words_of(source))
    return list(dict.fromkeys(word for word in words_of(target) if word not in known))


def apply_preset(preset: str, source: str, target: str, *, base: str = "", **changes) -> EditSettings:
    """Settings of `preset` for a pair of prompts, with `changes` on top; `SettingsError` where they are out of range.

    `base`: the model that the one in `changes` was tuned from (`models.base_of`), whose presets it takes."""
    chosen = Preset.of(preset, changes.get("model", BUILTIN_MODEL), base)
    values = dict(chosen.values)
    if preset == "reconstruct":
        target = source
    added = new_words(source, target)
    if chosen.weight != 1.0:
        values["word_weights"] = {word: chosen.weight for word in added}
    if chosen.blends and (gone := new_words(target, source)):
        values["blend_source"], values["blend_target"] = tuple(gone), tuple(added)
    elif not changes.get("own_mask"):
        values.pop("blend_latents", None)  # nothing names a place
    values["keep_background"] = keeps_background(chosen, changes.get("own_mask", ""))
    values |= changes
    if "keep_background" not in changes and not (values.get("blend_source") or values.get("own_mask")):
        values["keep_background"] = False  # of the preset's own: nothing names a place
    settings = EditSettings(source=source, target=target, preset=preset, **values)
    check(settings)
    return settings


def asks_for_picture_words(settings: EditSettings) -> bool:
    """Whether the edit depends on what the middle frame's masks say of the blend words (`picture_weight`)."""
    return bool(settings.picture_weight != 1.0 and settings.mask == "refined" and settings.blend_source)


def keeps_background(preset: Preset, own_mask: str) -> bool:
    """Whether an edit of `preset` keeps the background where nothing is said of that: what lies outside the user's own
    mask is meant to stay, whatever the preset."""
    return bool(own_mask) or preset.values["keep_background"]


def draft_of(settings: EditSettings) -> EditSettings:
    """The same edit as a draft: three quarters of its steps, and all of the UNet in every fifth of them. What that
    saves, and costs: `docs/speed.md`."""
    if settings.full_steps:
        return settings
    return msgspec.structs.replace(settings, steps=-(-3 * settings.steps // 4), reuse=5, full_steps=settings.steps)


def in_full(settings: EditSettings) -> EditSettings:
    """The edit that `settings` are a draft of; themselves where they are none."""
    if not settings.full_steps:
        return settings
    return msgspec.structs.replace(settings, steps=settings.full_steps, reuse=1, full_steps=0)


FOR_INVERSION = ("steps", "reuse", "keys", "anchor_every", "anchor_cuts", "normalization", "model", "precision")
"""Settings that, with the source prompt, decide an inversion."""


def for_masks(settings: EditSettings) -> EditSettings:
    """What of these settings counts where only masks are wanted: all that decides the inversion, and what becomes of it."""
    same = {name: getattr(settings, name) for name in (*FOR_INVERSION, "mask")}
    return EditSettings(source=settings.source, target=settings.source, preset="reconstruct", **same)


def check(settings: EditSettings) -> None:
    """Raise `SettingsError` for the first setting that is out of range or names a word its prompt lacks."""
    for role, prompt in (("source", settings.source), ("target", settings.target)):
        if not prompt.strip():
            raise SettingsError(f"The {role} prompt is empty; say in a few words what {_MEANING[role]}.")
    _in_range("steps", settings.steps, 1, MAX_STEPS)
    _in_range("reuse", settings.reuse, 1, MAX_REUSE)
    _in_range("full_steps", settings.full_steps, 0, MAX_STEPS)
    _in_range("guidance", settings.guidance, 0.0, 50.0)
    _in_range("guidance_fall", settings.guidance_fall, 0.0, 1.0)
    _in_range("blend_reach", settings.blend_reach, 0.0, 1.0)
    _in_range("blend_threshold", settings.blend_threshold, 0.0, 1.0)
    _one_of("mask", settings.mask, MASKS)
    _in_range("keyframe_step", settings.keyframe_step, 1, MAX_KEYFRAME_STEP)
    _in_range("steady", settings.steady, 0, MAX_STEADY)
    _one_of("own_mask", settings.own_mask, ("", *OWN_MASKS))
    _one_of("cross_mode", settings.cross_mode, ("refine", "replace"))
    _one_of("normalization", settings.normalization, ("frame", "clip"))
    _one_of("precision", settings.precision, ("auto", "float32", "float16", "bfloat16"))
    for name, window in (
        ("cross_window", settings.cross_window),
        ("self_window", settings.self_window),
        ("blend_steps", settings.blend_steps),
        *((f"word_windows of '{word}'", window) for word, window in settings.word_windows.items()),
    ):
        if not 0.0 <= window.start <= window.end <= 1.0:
            raise SettingsError(f"{name} is {window.start:g} to {window.end:g}; it must run forward between 0 and 1.")
    for word, weight in settings.word_weights.items():
        _in_range(f"word_weights of '{word}'", weight, 0.0, MAX_WEIGHT)
    _in_range("picture_weight", settings.picture_weight, 0.0, MAX_WEIGHT)
    _in_prompt("blend_source", settings.blend_source, "source", settings.source)
    _in_prompt("mask_words", settings.mask_words, "source", settings.source)
    _in_prompt("blend_target", settings.blend_target, "target", settings.target)
    _in_prompt("word_weights", settings.word_weights, "target", settings.target)
    _in_prompt("word_windows", settings.word_windows, "target", settings.target)
    placed = settings.blend_source or settings.own_mask
    if settings.blend_latents and not placed:
        raise SettingsError(
            "To blend latents, name the words that may change in both prompts (blend_source, blend_target), or give a mask "
            "of your own."
        )
    if settings.keep_background and not placed:
        raise SettingsError(
            "To keep the background, name the words that may change in both prompts (blend_source, blend_target), or give "
            "a mask of your own."
        )
    if settings.own_mask and not _own_mask_acts(settings):
        raise SettingsError(
            f"Your own mask (own_mask '{settings.own_mask}') has nothing to act on; keep the background, or blend latents "
            "(keep_background, blend_latents)."
        )
    if not settings.keys:
        raise SettingsError("keys names no frame; use 'mid', 'first', 'last' or an offset such as '-1'.")
    for key in settings.keys:
        if key not in ("first", "mid", "last") and not re.fullmatch(r"[+-]?[0-9]{1,6}", key):
            raise SettingsError(f"keys has '{key}'; use 'mid', 'first', 'last' or an offset such as '-1'.")
    _in_range("anchor_every", settings.anchor_every, 0, MAX_FRAMES)
    if settings.anchor_every and settings.keys != ("mid",):
        raise SettingsError(
            f"anchor_every is {settings.anchor_every}, and keys are {' and '.join(settings.keys)}; several anchors are "
            "middle frames: set keys to 'mid', or anchor_every to 0."
        )
    if settings.anchor_every and settings.normalization != "frame":
        raise SettingsError(
            f"anchor_every is {settings.anchor_every}, and normalization is over the {settings.normalization}; set it to "
            "'frame', or anchor_every to 0."
        )


def _own_mask_acts(settings: EditSettings) -> bool:
    """Whether the user's own mask can make a difference: without blend words there is no shape to narrow."""
    shape = settings.blend_attention and bool(settings.blend_source or settings.own_mask in ("replace", "add"))
    return shape or settings.blend_latents or settings.keep_background


_MEANING = {"source": "is in the clip", "target": "shall be in it instead"}


def _in_range(name: str, value: float, low: float, high: float) -> None:
    if not low <= value <= high:
        raise SettingsError(f"{name} is {value:g}; it must lie between {low:g} and {high:g}.")


def _one_of(name: str, value: str, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise SettingsError(f"{name} is '{value}'; choose one of {', '.join(choices)}.")


def _in_prompt(name: str, words, role: str, prompt: str) -> None:
    present = words_of(prompt)
    for word in words:
        if word not in present:
            raise SettingsError(
                f"'{word}' ({name}) is not a word of the {role} prompt '{prompt}'; use one of its words as written."
            )
