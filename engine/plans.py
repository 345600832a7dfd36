"""What the settings ask for, in the method's terms and checked against the prompts."""

from __future__ import annotations

from difflib import get_close_matches

from protocol.settings import EditSettings

from .errors import EditError
from .fatezero.blending import Blend
from .fatezero.frames import TemporalSettings
from .fatezero.method import EditPlan
from .fatezero.profile import Profile
from .fatezero.prompts import Prompt, can_replace


def edit_plan(settings: EditSettings, source: Prompt, target: Prompt) -> EditPlan:
    """The settings in the method's terms."""
    blend = None
    if settings.blend_source or settings.own_mask:
        blend = Blend(
            source_words=settings.blend_source,
            target_words=settings.blend_target,
            threshold=settings.blend_threshold,
            reach=settings.blend_reach,
            attention=settings.blend_attention,
            latents=settings.blend_latents,
            latent_window=_pair(settings.blend_steps),
            background=settings.keep_background,
            refined=settings.mask == "refined",
        )
    return EditPlan(
        source=source,
        target=target,
        guidance=settings.guidance,
        guidance_fall=settings.guidance_fall,
        replace=settings.cross_mode == "replace",
        cross_window=_pair(settings.cross_window),
        word_windows={word: _pair(window) for word, window in settings.word_windows.items()},
        word_weights=settings.word_weights,
        picture_weight=settings.picture_weight,
        self_window=_pair(settings.self_window),
        blend=blend,
        reuse=settings.reuse,
    )


def check_words(settings: EditSettings, source: Prompt, target: Prompt) -> None:
    """Refuse settings for words that lie beyond what the model takes of a prompt: it would never see them."""
    for role, prompt, words in (
        ("source", source, (*settings.blend_source, *settings.mask_words)),
        ("target", target, (*settings.blend_target, *settings.word_weights, *settings.word_windows)),
    ):
        for word in words:
            if not prompt.positions([word]):
                raise EditError(
                    "settings",
                    f"The {role} prompt is longer than the model takes, and '{word}' is beyond the cut.",
                    "Shorten the prompt, or name another word.",
                )


def notes_on(plan: EditPlan, steps: int) -> list[str]:
    """What was done otherwise than asked in an edit of so many steps, a sentence each."""
    prompts = {"source": plan.source} | ({"target": plan.target} if plan.target != plan.source else {})
    notes = [
        f"The {role} prompt is longer than the model takes; these words were cut: {' '.join(prompt.cut)}."
        for role, prompt in prompts.items()
        if prompt.cut
    ]
    if plan.replace and not can_replace(plan.source, plan.target):
        notes.append(
            f"The prompts have {len(plan.source.words)} and {len(plan.target.words)} words, so that words could not "
            "be replaced one for one; the prompts were aligned (refine) instead."
        )
    if idle := plan.idle_weights(steps):
        notes.append(
            f"The strength of {' and '.join(map(repr, idle))} had no effect: it counts in the steps in which words keep their "
            "layout (cross-attention window), and there are none of them here."
        )
    return notes


def temporal_settings(profile: Profile, settings: EditSettings) -> TemporalSettings:
    """How frames see each other: as the checkpoint was trained, where that is a fact of it, else as the settings say."""
    return TemporalSettings(
        keys=settings.keys if profile.keys is None else profile.keys,
        pooled_norm=settings.normalization == "clip" if profile.pooled_norm is None else profile.pooled_norm,
        temporal_layers=profile.needs_whole_clip,
    )


def notes_on_words(profile: Profile, plan: EditPlan) -> list[str]:
    """A sentence on words that the checkpoint was not taught, each with the word that may be meant."""
    if profile.words is None:
        return []
    asked = dict.fromkeys(word.strip(".,;:!?").lower() for word in (*plan.source.words, *plan.target.words))
    unknown = []
    for word in asked:
        if word and word not in profile.words:
            near = get_close_matches(word, sorted(profile.words), 1)
            unknown.append(f"'{word}' ({near[0]}?)" if near else f"'{word}'")
    if not unknown:
        return []
    return [
        f"This model was not taught {', '.join(unknown)}: what it makes of that is chance. Its card says what it knows."
    ]


def notes_on_profile(profile: Profile, settings: EditSettings) -> list[str]:
    """What was done otherwise than asked because of the checkpoint, a sentence each."""
    asked, used = settings.keys, temporal_settings(profile, settings)
    over = {True: "clip", False: "frame"}
    if (asked, settings.normalization) == (used.keys, over[used.pooled_norm]):
        return []
    note = (
        f"This checkpoint was tuned on video with keys from {' and '.join(used.keys)} and normalisation over the "
        f"{over[used.pooled_norm]}, so these were used, not {' and '.join(asked)} and {settings.normalization}."
    )
    return [note]


def _pair(window) -> tuple[float, float]:
    return window.start, window.end
