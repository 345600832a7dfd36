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

# `pictures.upload` says how the pixels are packed; so they have to be mixed here, as a filtered texture would be.
_SMOOTH = """
vec3 pixel(ivec2 at)
{
  uint bits = floatBitsToUint(texelFetch(picture, clamp(at, ivec2(0), textureSize(picture, 0) - 1), 0).r);
  return vec3(float((bits >> 16u) & 255u), float((bits >> 8u) & 255u), float(bits & 255u)) / 255.0;
}

vec3 smooth_pixel(vec2 at)
{
  vec2 place = at * vec2(textureSize(picture, 0)) - 0.5;
  vec2 corner = floor(place);
  vec2 part = place - corner;
  ivec2 low = ivec2(corner);
  vec3 upper = mix(pixel(low), pixel(low + ivec2(1, 0)), part.x);
  vec3 lower = mix(pixel(low + ivec2(0, 1)), pixel(low + ivec2(1, 1)), part.x);
  return mix(upper, lower, part.y);
}
"""

# Some of Blender's framebuffers turn what is written to them into sRGB. It sets `srgbTarget` for those.
_WRITE = """
vec4 for_framebuffer(vec3 colour, float alpha)
{
  vec3 linear = mix(colour / 12.92, pow((colour + 0.055) / 1.055, vec3(2.4)), step(vec3(0.04045), colour));
  return vec4(srgbTarget ? linear : colour, alpha);
}
"""

_MASK = """
void main()
{
  float value = smooth_pixel(uv).r;
  float edge = max(fwidth(value), 0.001);
  float taken = smoothstep(threshold - edge, threshold + edge, value);
  value = hard > 0.5 ? taken : value * taken;
  fragColor = for_framebuffer(colour.rgb, colour.a * value);
}
"""

_PICTURE = """
void main()
{
  fragColor = for_framebuffer(smooth_pixel(uv), 1.0);
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
    info.push_constant("BOOL", "srgbTarget")
    for value, kind in values.items():
        info.push_constant(kind, value)
    info.sampler(0, "FLOAT_2D", "picture")
    info.vertex_in(0, "VEC2", "pos")
    info.vertex_in(1, "VEC2", "texture_at")
    info.vertex_out(passed)
    info.fragment_out(0, "VEC4", "fragColor")
    info.vertex_source(_VERTEX)
    info.fragment_source(_SMOOTH + _WRITE + fragment)
    return gpu.shader.create_from_info(info)
