"""The add-on's keys, in Blender's add-on keymaps: users change them in the preferences, as all others."""

from __future__ import annotations

from dataclasses import dataclass, field

import bpy

from . import compat


@dataclass(frozen=True)
class Key:
    """One key, with `modifiers` of `shift`, `ctrl` and `alt`: in the timeline, or in the `preview`."""

    operator: str
    key: str
    modifiers: tuple[str, ...] = ()
    properties: dict[str, object] = field(default_factory=dict)
    preview: bool = False

    @property
    def keymap(self) -> str:
        """Blender's keymap that it is in."""
        return compat.PREVIEW_KEYMAP if self.preview else "Sequencer"


KEYS = (
    Key("fatezero.edit_strip", "E", ("shift", "alt")),
    Key("fatezero.select_result", "R", ("shift", "ctrl")),
    Key("fatezero.jump_to_strip", "J", ("shift", "alt")),
    Key("fatezero.render_again", "U", ("shift", "alt")),
    Key("fatezero.compare", "C", ("shift", "alt"), preview=True),
    Key("fatezero.toggle_masks", "M", ("shift", "alt"), preview=True),
)

_registered: list[tuple[Key, bpy.types.KeyMap, bpy.types.KeyMapItem]] = []


def register() -> None:
    added = bpy.context.window_manager.keyconfigs.addon
    if added is None:
        return  # Blender in the background may have none
    for key in KEYS:
        keymap = added.keymaps.new(name=key.keymap, space_type="SEQUENCE_EDITOR", region_type="WINDOW")
        pressed = dict.fromkeys(key.modifiers, True)
        item = keymap.keymap_items.new(key.operator, key.key, "PRESS", **pressed)
        for name, value in key.properties.items():
            setattr(item.properties, name, value)
        _registered.append((key, keymap, item))


def unregister() -> None:
    for _, keymap, item in _registered:
        keymap.keymap_items.remove(item)
    _registered.clear()


def draw(layout) -> None:
    """The keys, in the preferences: each with its switch and what is pressed, as the user has set it."""
    layout.use_property_split = False
    users = bpy.context.window_manager.keyconfigs.user
    for key, _, _ in _registered:
        theirs = users.keymaps.get(key.keymap) if users else None
        item = theirs and next((item for item in theirs.keymap_items if _is(item, key)), None)
        if item is None:
            continue
        row = layout.row()
        row.context_pointer_set("keymap", theirs)
        row.prop(item, "active", text="", emboss=False)
        split = row.split(factor=0.6)
        split.label(text=item.name)
        split.prop(item, "type", text="", full_event=True)


def _is(item: bpy.types.KeyMapItem, key: Key) -> bool:
    """Whether the user's `item` stands for `key`: what is pressed may differ, what that does may not."""
    same = item.idname == key.operator
    return same and all(getattr(item.properties, name) == value for name, value in key.properties.items())
