"""The two shaders that draw over the preview, made when they are first used."""

from __future__ import annotations

import functools

import gpu

_VERTEX = """
void main()
{
  uv = texture_at;
  gl_Position = ModelViewProjectionMatrix * vec4(pos, 0.0, 1.0);
}
"""

# Textures that Python makes are read without filtering until Blender 4.5, which a mask of few pixels would show.
_SMOOTH = """
vec4 smooth_texture(vec2 at)
{
  ivec2 size = textureSize(picture, 0);
  vec2 place = at * vec2(size) - 0.5;
  ivec2 low = ivec2(floor(place));
  vec2 part = place - floor(place);
  ivec2 last = size - 1;
  ivec2 zero = ivec2(0);
  vec4 below = mix(texelFetch(picture, clamp(low, zero, last), 0),
                   texelFetch(picture, clamp(low + ivec2(1, 0), zero, last), 0), part.x);
  vec4 above = mix(texelFetch(picture, clamp(low + ivec2(0, 1), zero, last), 0),
                   texelFetch(picture, clamp(low + ivec2(1, 1), zero, last), 0), part.x);
  return mix(below, above, part.y);
}
"""

_MASK = """
void main()
{
  float value = smooth_texture(uv).r;
  float edge = max(fwidth(value), 0.001);
  float taken = smoothstep(threshold - edge, threshold + edge, value);
  value = hard > 0.5 ? taken : value * taken;
  fragColor = blender_srgb_to_framebuffer_space(vec4(colour.rgb, colour.a * value));
}
"""

_PICTURE = """
void main()
{
  fragColor = blender_srgb_to_framebuffer_space(smooth_texture(uv));
}
"""


@functools.cache
def mask() -> gpu.types.GPUShader:
    """A grey `picture` as a veil of one `colour`; below `threshold` there is none, and with `hard` all is alike above."""
    return _shader("fatezero_mask", _MASK, colour="VEC4", threshold="FLOAT", hard="FLOAT")


@functools.cache
def picture() -> gpu.types.GPUShader:
    """A `picture` in the colours of the display."""
    return _shader("fatezero_picture", _PICTURE)


def forget() -> None:
    """Let go of both, as long as there is a GPU to give them back to."""
    mask.cache_clear()
    picture.cache_clear()


def _shader(name: str, fragment: str, **values: str) -> gpu.types.GPUShader:
    passed = gpu.types.GPUStageInterfaceInfo(f"{name}_interface")
    passed.smooth("VEC2", "uv")
    info = gpu.types.GPUShaderCreateInfo()
    info.push_constant("MAT4", "ModelViewProjectionMatrix")
    for value, kind in values.items():
        info.push_constant(kind, value)
    info.sampler(0, "FLOAT_2D", "picture")
    info.vertex_in(0, "VEC2", "pos")
    info.vertex_in(1, "VEC2", "texture_at")
    info.vertex_out(passed)
    info.fragment_out(0, "VEC4", "fragColor")
    info.vertex_source(_VERTEX)
    info.fragment_source(_SMOOTH + fragment)
    return gpu.shader.create_from_info(info)
