"""Where things lie in the preview: rectangles in the region's pixels, from its lower left corner. Without gpu."""

from __future__ import annotations

from dataclasses import dataclass

import bpy


@dataclass(frozen=True)
class Rect:
    """A rectangle of `width` by `height` whose lower left corner is at (`x`, `y`)."""

    x: float
    y: float
    width: float
    height: float

    @property
    def right(self) -> float:
        return self.x + self.width

    @property
    def top(self) -> float:
        return self.y + self.height

    def part(self, left: float, right: float) -> Rect:
        """From one fraction of its width to another."""
        return Rect(self.x + left * self.width, self.y, (right - left) * self.width, self.height)

    def clipped(self, bounds: Rect) -> Rect:
        """What of it is within `bounds`; of no width or height where that is nothing."""
        x, y = max(self.x, bounds.x), max(self.y, bounds.y)
        return Rect(x, y, max(0.0, min(self.right, bounds.right) - x), max(0.0, min(self.top, bounds.top) - y))

    def texture(self, picture: Rect) -> tuple[float, float, float, float]:
        """Texture coordinates (left, bottom, right, top) of this part of `picture`, whose top row is at 0."""
        return (
            (self.x - picture.x) / picture.width,
            (picture.top - self.y) / picture.height,
            (self.right - picture.x) / picture.width,
            (picture.top - self.top) / picture.height,
        )


def picture(region: bpy.types.Region, scene: bpy.types.Scene) -> Rect:
    """Where the sequencer draws the picture: around the view's origin, with square pixels, whatever its proxy's size."""
    width = scene.render.resolution_x * scene.render.pixel_aspect_x / scene.render.pixel_aspect_y
    height = scene.render.resolution_y
    # Two points tell the view exactly; `view_to_region` would round to whole pixels.
    left, bottom = region.view2d.region_to_view(0, 0)
    right, top = region.view2d.region_to_view(region.width, region.height)
    across, up = region.width / (right - left), region.height / (top - bottom)
    return Rect((-width / 2 - left) * across, (-height / 2 - bottom) * up, width * across, height * up)


def halves(whole: Rect, shown: Rect) -> list[tuple[Rect, Rect]]:
    """Side by side: for each half of the region `whole` a picture at half the size of `shown`, and what one sees of it.

    Both show the same part of the picture; they follow zoom and pan as the one picture does.
    """
    centre_x, centre_y = whole.x + whole.width / 2, whole.y + whole.height / 2
    x = centre_x + (shown.x - centre_x) / 2
    small = Rect(x, centre_y + (shown.y - centre_y) / 2, shown.width / 2, shown.height / 2)
    pair = []
    for side, bounds in ((-1, whole.part(0.0, 0.5)), (1, whole.part(0.5, 1.0))):
        moved = Rect(small.x + side * whole.width / 4, small.y, small.width, small.height)
        pair.append((moved, moved.clipped(bounds)))
    return pair


def inset(shown: Rect, aspect: float, part: float = 0.36) -> Rect:
    """A small picture in the lower right corner of `shown`, `part` of its width."""
    margin = shown.width * 0.015
    width = shown.width * part
    height = width / aspect
    return Rect(shown.right - margin - width, shown.y + margin, width, height)
