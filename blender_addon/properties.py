"""What the user sets for the next edit: kept with the scene, saved with the file."""

from __future__ import annotations

import bpy
from bpy.props import BoolProperty, EnumProperty, FloatProperty, IntProperty, PointerProperty, StringProperty

from . import model_choice, own_masks, tuned
from .protocol.limits import MAX_FRAMES
from .protocol.settings import (
    BUILTIN_MODEL,
    DEFAULT_GUIDANCE,
    MAX_STEADY,
    MAX_STEPS,
    EditSettings,
    Preset,
    SettingsError,
    Window,
    apply_preset,
    draft_of,
    keeps_background,
    new_words,
)
from .trouble import as_is

_DEFAULTS = EditSettings(source="", target="")
_FIRST = Preset.of("attribute", BUILTIN_MODEL)


def _take_preset(settings: FATEZERO_PG_settings, _context) -> None:
    """Set what the preset sets for the chosen model; the rest stays as the user has it."""
    values = settings.preset_values()
    for name in (
        "guidance",
        "cross_end",
        "self_end",
        "new_word_strength",
        "mask",
        "blend_threshold",
        "keep_background",
        "steady",
    ):
        setattr(settings, name, values[name])


def _take_model(settings: FATEZERO_PG_settings, context) -> None:
    """Set what the preset sets for the chosen model."""
    settings.model_base = tuned.base_of(settings.model, settings.model_folder, settings.model_name.strip())
    _take_preset(settings, context)


def _take_name(settings: FATEZERO_PG_settings, context) -> None:
    """The same where the model that is called so takes other presets: what the user has set is left else."""
    if settings.model_base != tuned.base_of(settings.model, settings.model_folder, settings.model_name.strip()):
        _take_model(settings, context)


def _alike(mine: object, presets: object) -> bool:
    return round(mine, 4) == round(presets, 4) if isinstance(presets, float) else mine == presets


class FATEZERO_PG_settings(own_masks.OwnMaskSettings, bpy.types.PropertyGroup):
    """Prompts and settings of the next edit."""

    source: StringProperty(
        name="Source",
        description="What is in the strip, in a few words that name every object to be changed or kept",
        options=set(),
    )
    target: StringProperty(
        name="Target",
        description="What shall be there instead: the same words, but for those that change",
        options=set(),
    )
    preset: EnumProperty(
        name="Preset",
        description="The kind of edit; choosing one sets the settings below",
        items=[
            ("style", "Style", "Change how the whole picture is drawn, and keep what is in it"),
            ("attribute", "Attribute", "Change colour, material or kind of an object, and keep its shape"),
            ("shape", "Shape", "Change an object into one of another shape; best with as many words in both prompts"),
            ("reconstruct", "Reconstruct", "Change nothing: shows how well the model knows the clip"),
        ],
        default="attribute",
        update=_take_preset,
        options=set(),
    )
    quality: EnumProperty(
        name="Quality",
        description="How exactly the edit is computed",
        items=[
            ("FULL", "Full", "All of the steps, and all of the model in each"),
            (
                "DRAFT",
                "Draft",
                "Fewer steps, and most of the model in every fifth of them only: a quick look, to be rendered in full later",
            ),
        ],
        options=set(),
    )
    steps: IntProperty(
        name="Steps",
        description="Denoising steps, there and back: more take longer and come closer to the source",
        min=1,
        max=MAX_STEPS,
        soft_max=50,
        default=_DEFAULTS.steps,
        options=set(),
    )
    guidance: FloatProperty(
        name="Guidance",
        description="How strongly the target prompt is followed; at 1 or less there is no guidance",
        min=0.0,
        max=50.0,
        soft_max=15.0,
        default=_FIRST.values["guidance"],
        options=set(),
    )
    cross_end: FloatProperty(
        name="Keep Layout",
        description="Part of the steps in which the words keep their places in the picture (cross-attention window)",
        min=0.0,
        max=1.0,
        subtype="FACTOR",
        default=_FIRST.values["cross_window"].end,
        options=set(),
    )
    self_end: FloatProperty(
        name="Keep Structure",
        description="Part of the steps in which shapes and motion are kept (self-attention window)",
        min=0.0,
        max=1.0,
        subtype="FACTOR",
        default=_FIRST.values["self_window"].end,
        options=set(),
    )
    new_word_strength: FloatProperty(
        name="New Words",
        description="Strength of the words that only the target prompt has. At 1 they are as they are, or as the preset has "
        "them where they change the whole picture, as 'night' does",
        min=0.0,
        max=100.0,
        soft_max=20.0,
        default=_FIRST.weight,
        options=set(),
    )
    blend_source: StringProperty(
        name="Blend Words",
        description="Words of the source prompt whose place in the picture may change its shape, parted by spaces. "
        "Empty: those that the preset takes",
        options=set(),
    )
    blend_target: StringProperty(
        name="Become",
        description="Words of the target prompt for the same place, parted by spaces. "
        "Empty: those that the preset takes",
        options=set(),
    )
    mask: EnumProperty(
        name="Mask",
        description="How a word's place in the picture is found: for the blend words, and for Show Masks",
        items=[
            ("paper", "As in the Paper", "Places of the model's own coarse grid, and their neighbours"),
            ("refined", "Refined", "The mean over all steps, with edges drawn by those of the picture"),
        ],
        default=_FIRST.values["mask"],
        options=set(),
    )
    blend_threshold: FloatProperty(
        name="Threshold",
        description="How sure a place must be to belong to the blend words; lower takes more of the picture",
        min=0.0,
        max=1.0,
        subtype="FACTOR",
        default=_FIRST.values["blend_threshold"],
        options=set(),
    )
    keep_background: BoolProperty(
        name="Keep Background",
        description="Take the source's own pixels, at full resolution and with soft edges, wherever the picture is far "
        "from the blend words, and outside of your own mask: what shall not change stays exactly as it was. Needs one of them",
        default=_FIRST.values["keep_background"],
        options=set(),
    )
    anchor_cuts: BoolProperty(
        name="Shots Apart",
        description="Find the strip's cuts: each shot takes its look from its own middle frame, and nothing is carried or "
        "averaged across a cut. Without, all frames take it from one, whatever that shows",
        default=_DEFAULTS.anchor_cuts,
        options=set(),
    )
    anchor_every: IntProperty(
        name="Anchor Every",
        description="For long strips whose picture changes: frames, so many apart at most, that those between them take "
        "their look from, cross-faded. 0: one frame for all of a shot",
        min=0,
        max=MAX_FRAMES,
        soft_max=100,
        default=_DEFAULTS.anchor_every,
        options=set(),
    )
    steady: IntProperty(
        name="Steadiness",
        description="Average what the edit changes over so many frames on either side, along the clip's own motion: it "
        "flickers less, and details of the source stay sharp. 0: not at all",
        min=0,
        max=MAX_STEADY,
        default=_FIRST.values["steady"],
        options=set(),
    )
    model: EnumProperty(
        name="Model",
        description="The model that makes the edit",
        items=[
            ("BUILTIN", "Built-in", "The small model that the engine brings with it"),
            ("FOLDER", "Folder", "A Stable Diffusion 1.x checkpoint in a folder (diffusers layout) on this computer"),
            ("NAMED", "Checkpoint", "One of the engine's checkpoints, by its name; the preferences add and fetch them"),
        ],
        update=_take_model,
        options=set(),
    )
    model_folder: StringProperty(
        name="Folder",
        description="The checkpoint's folder",
        subtype="DIR_PATH",
        update=_take_name,
        options=set(),
    )
    model_name: StringProperty(
        name="Checkpoint",
        description="The checkpoint's name; those that the engine has are offered, a remote one's once it is connected",
        search=model_choice.names,
        update=_take_name,
        options=set(),
    )
    model_base: StringProperty(
        name="Tuned From",
        description="The model that the chosen one was tuned from, whose presets it takes",
        options={"HIDDEN"},
    )

    def preset_values(self) -> dict[str, object]:
        """What every setting is where the user leaves it to the preset."""
        preset = self._preset()
        return {
            "steps": _DEFAULTS.steps,
            "guidance": preset.values["guidance"],
            "cross_end": preset.values["cross_window"].end,
            "self_end": preset.values["self_window"].end,
            "new_word_strength": preset.weight,
            "blend_source": "",
            "blend_target": "",
            "mask": preset.values["mask"],
            "blend_threshold": preset.values["blend_threshold"],
            "keep_background": keeps_background(preset, self.own_mask_action),
            "anchor_cuts": _DEFAULTS.anchor_cuts,
            "anchor_every": _DEFAULTS.anchor_every,
            "steady": preset.values["steady"],
        }

    def changed_settings(self) -> set[str]:
        """Names of the settings that are not as the preset has them."""
        return {name for name, value in self.preset_values().items() if not _alike(getattr(self, name), value)}

    def blend_words(self, role: str) -> list[str]:
        """The words of the prompt `role` (`source` or `target`) whose place may change: the user's, or the preset's."""
        named = getattr(self, f"blend_{role}").replace(",", " ").split()
        return named or self.preset_words()[role == "target"]

    def as_reconstruction(self) -> EditSettings:
        """The settings of an edit that changes nothing, with the user's model, steps and anchors; `Trouble` as `as_edit`."""
        source = self.source.strip()
        try:
            # With the guidance of edits: without any, every clip comes back well, whatever the words say.
            how = dict(steps=self.steps, guidance=DEFAULT_GUIDANCE, model=model_choice.name_of(self), **self._anchors())
            return apply_preset("reconstruct", source, source, base=self.model_base, **how)
        except SettingsError as error:
            raise as_is(str(error)) from error

    def as_edit(self, target: str = "", **more) -> EditSettings:
        """The settings in the engine's words, with another `target` prompt if one is given, and `more` on top.

        `Trouble` for the first that cannot be used.
        """
        target = target or self.target
        changes = {
            "steps": self.steps,
            "guidance": round(self.guidance, 4),
            "cross_window": Window(0.0, round(self.cross_end, 4)),
            "self_window": Window(0.0, round(self.self_end, 4)),
            "mask": self.mask,
            "blend_threshold": round(self.blend_threshold, 4),
            "own_mask": self.own_mask_action,
            "steady": self.steady,
            "keyframe_step": self.id_data.fatezero_work.keyframe_step,
            "model": model_choice.name_of(self),
            **self._anchors(),
        }
        if self.keep_background != self.preset_values()["keep_background"]:
            changes["keep_background"] = self.keep_background  # the preset's own it may not have: without blend words
        if self.preset != "reconstruct":
            weight = round(self.new_word_strength, 4)
            changes["word_weights"] = {word: weight for word in new_words(self.source, target) if weight != 1.0}
        for name in ("blend_source", "blend_target"):
            if words := getattr(self, name).replace(",", " ").split():
                changes[name] = tuple(words)
        try:
            prompts = self.source.strip(), target.strip()
            edit = apply_preset(self.preset, *prompts, base=self.model_base, **changes | more)
        except SettingsError as error:
            raise as_is(str(error)) from error
        return draft_of(edit) if self.quality == "DRAFT" else edit

    def show(self, edit: EditSettings) -> None:
        """Put an edit's prompts and settings into the panel: what the panel has no field for is left as it is."""
        self.source, self.target = edit.source, edit.target
        model = "BUILTIN" if edit.model == BUILTIN_MODEL else "NAMED"
        if self.model != model:  # setting it again would look for its base, which nobody may know of a remote engine's
            self.model = model
        if model == "NAMED" and self.model_name.strip() != edit.model:
            self.model_name = edit.model
        self.preset = edit.preset
        self.quality = "DRAFT" if edit.full_steps else "FULL"
        self.steps, self.guidance = edit.full_steps or edit.steps, edit.guidance
        self.cross_end, self.self_end = edit.cross_window.end, edit.self_window.end
        self.new_word_strength = next(iter(edit.word_weights.values()), 1.0)
        self.mask, self.blend_threshold = edit.mask, edit.blend_threshold
        self.anchor_cuts, self.anchor_every = edit.anchor_cuts, edit.anchor_every
        self.steady = edit.steady
        self.own_mask_mode = edit.own_mask.upper() or "NONE"
        if edit.blend_source or edit.own_mask:  # else nothing names a place, and it says nothing of what is wanted
            self.keep_background = edit.keep_background
        work = self.id_data.fatezero_work
        if edit.keyframe_step != work.keyframe_step:
            work.step, work.between = edit.keyframe_step, "MOTION"
        for name, taken in zip(("blend_source", "blend_target"), self.preset_words()):
            words = getattr(edit, name)
            setattr(self, name, "" if list(words) == taken else " ".join(words))

    def preset_words(self) -> tuple[list[str], list[str]]:
        """The blend words that the preset takes where the user names none."""
        gone = new_words(self.target, self.source)
        if not gone or not self._preset().blends:
            return [], []
        return gone, new_words(self.source, self.target)

    def _preset(self) -> Preset:
        return Preset.of(self.preset, BUILTIN_MODEL if self.model == "BUILTIN" else self.model, self.model_base)

    def _anchors(self) -> dict[str, object]:
        return {"anchor_cuts": self.anchor_cuts, "anchor_every": self.anchor_every}


def register() -> None:
    bpy.types.Scene.fatezero = PointerProperty(type=FATEZERO_PG_settings)


def unregister() -> None:
    del bpy.types.Scene.fatezero
