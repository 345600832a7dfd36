"""Clips on disk: as a player shows them on the way in; whole, alone and shown alike on the way out."""

import struct
import tracemalloc
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from av.video.reformatter import ColorRange, Colorspace
from PIL import Image

from engine import clips
from engine.clips import check_output, pixel_aspect, read_clip, write_clip
from engine.errors import EditError

TURNS = {"clockwise": (0, 1, -1, 0), "over": (-1, 0, 0, -1), "counter-clockwise": (0, -1, 1, 0)}
"""The display matrix of a video that players turn so."""
NTSC = Fraction(30000, 1001)


def corners(frames=2) -> np.ndarray:
    """32 x 64 pixels, each quarter of another grey."""
    picture = np.kron(np.array([[40, 90], [150, 220]], np.uint8), np.ones((16, 32), np.uint8))
    return np.broadcast_to(picture[None, :, :, None], (frames, 32, 64, 3)).copy()


def turned(path: Path, how: str) -> Path:
    """The video with another display matrix, as a telephone writes it."""
    data = bytearray(path.read_bytes())
    matrix = data.find(b"tkhd") + 4 + 4 + 20 + 8 + 8  # version and flags, times and numbers, reserved, layer
    assert struct.unpack_from(">9i", data, matrix) == (65536, 0, 0, 0, 65536, 0, 0, 0, 1 << 30)
    a, b, c, d = (65536 * value for value in TURNS[how])
    struct.pack_into(">9i", data, matrix, a, b, 0, c, d, 0, 0, 0, 1 << 30)
    path.write_bytes(data)
    return path


@pytest.mark.parametrize("how", TURNS)
def test_a_video_is_read_as_a_player_shows_it(tmp_path, how):
    write_clip(tmp_path / "clip.mp4", corners(), Fraction(24), Fraction(16, 15))
    frames, _ = read_clip(turned(tmp_path / "clip.mp4", how))
    expected = np.rot90(corners(), {"clockwise": 3, "over": 2, "counter-clockwise": 1}[how], axes=(1, 2))
    assert frames.shape == expected.shape and np.abs(frames.astype(int) - expected).max() < 12
    assert pixel_aspect(tmp_path / "clip.mp4") == (Fraction(16, 15) if how == "over" else Fraction(15, 16))


def test_photographs_stand_upright(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned clockwise
    Image.fromarray(corners()[0]).save(tmp_path / "1.jpg", exif=exif, quality=95)
    frames, _ = read_clip(tmp_path)
    expected = np.rot90(corners(1), 3, axes=(1, 2))
    assert frames.shape == expected.shape and np.abs(frames.astype(int) - expected).max() < 12


def test_where_one_image_has_transparency_all_have(tmp_path):
    """Be it a channel, a colour or an entry of the palette."""
    grey, clear = np.full((4, 6, 3), 90, np.uint8), np.full((4, 6, 4), (90, 90, 90, 7), np.uint8)
    indexed = Image.fromarray(np.zeros((4, 6), np.uint8), "P")
    indexed.putpalette([90, 90, 90])
    for name, save in {
        "channel": lambda path: Image.fromarray(clear).save(path),
        "palette": lambda path: indexed.save(path, transparency=bytes([7])),
        "colour": lambda path: Image.fromarray(grey).save(path, transparency=(90, 90, 90)),
    }.items():
        folder = tmp_path / name
        folder.mkdir()
        Image.fromarray(grey).save(folder / "1.png")
        save(folder / "2.png")
        frames, _ = read_clip(folder)
        assert frames.shape == (2, 4, 6, 4) and (frames[..., :3] == 90).all()
        assert (frames[0, ..., 3] == 255).all() and (frames[1, ..., 3] == (0 if name == "colour" else 7)).all()
    assert read_clip(folder, 0, 1)[0].shape == (1, 4, 6, 3)


def video_of(path: Path, frames: np.ndarray, times=None, codec="libx264") -> Path:
    """A video whose frames are shown at so many twenty-fourths of a second."""
    with av.open(str(path), "w") as video:
        stream = video.add_stream(codec, rate=24)
        (stream.height, stream.width), clear = frames.shape[1:3], frames.shape[-1] == 4
        stream.pix_fmt = "rgba" if clear else "yuv420p"
        for time, pixels in zip(times or range(len(frames)), frames):
            frame = av.VideoFrame.from_ndarray(pixels, format="rgba" if clear else "rgb24")
            frame.pts, frame.time_base = time, Fraction(1, 24)
            video.mux(stream.encode(frame))
        video.mux(stream.encode())
    return path


def test_images_that_are_broken_inside_or_far_too_large_are_refused_by_name(tmp_path, monkeypatch):
    path = tmp_path / "00001.png"
    Image.fromarray(np.zeros((32, 64, 3), np.uint8)).save(path)
    whole = path.read_bytes()
    path.write_bytes(whole.replace(b"IDAT", b"ID\x00\x01"))
    with pytest.raises(EditError, match="'.*00001.png' cannot be read"):
        read_clip(tmp_path)
    path.write_bytes(whole)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)  # as one of 20,000 x 20,000 is
    with pytest.raises(EditError, match="'.*00001.png' cannot be read"):
        read_clip(tmp_path)


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
def test_a_video_whose_frames_come_unevenly_is_told(tmp_path, suffix):
    told = []
    read_clip(video_of(tmp_path / f"even{suffix}", corners(5)), note=told.append)
    path = video_of(tmp_path / f"clip{suffix}", corners(5), [0, 1, 2, 4, 5])
    read_clip(path, 0, 3, told.append)
    assert told == []
    assert len(read_clip(path, note=told.append)[0]) == 5
    (note,) = told
    assert note.startswith(f"The frames of 'clip{suffix}' follow each other unevenly. The result has ")


def test_transparency_that_is_lost_is_told(tmp_path):
    told, clear = [], np.full((2, 32, 64, 4), 100, np.uint8)
    frames, _ = read_clip(video_of(tmp_path / "clear.mov", clear, codec="png"), note=told.append)
    assert frames.shape[-1] == 3
    write_clip(tmp_path / "out.mp4", clear, Fraction(24), note=told.append)
    for path in (tmp_path / "out", tmp_path / "opaque.mp4"):
        write_clip(path, clear, Fraction(24), note=told.append)
        clear[..., 3] = 255
    assert told == [
        "The transparency of 'clear.mov' is not read; give a folder of PNGs to keep it.",
        "'out.mp4' is opaque, as videos are written without transparency; a folder of PNGs keeps it.",
    ]


@pytest.mark.parametrize("where", ["clip.mp4", "clip.mkv", "clip.webm", "folder"])
def test_a_clip_is_in_memory_once_while_it_is_read(tmp_path, where):
    write_clip(tmp_path / where, np.zeros((60, 128, 256, 3), np.uint8), Fraction(24))
    read_clip(tmp_path / where, 0, 1)
    tracemalloc.start()
    try:
        frames, _ = read_clip(tmp_path / where)
        assert frames.shape == (60, 128, 256, 3)
        assert tracemalloc.get_traced_memory()[1] < 1.2 * frames.nbytes
    finally:
        tracemalloc.stop()


def test_a_video_that_says_nothing_of_its_length_is_read_whole(tmp_path, monkeypatch):
    monkeypatch.setattr(clips, "_length", lambda container, stream: 0)
    write_clip(tmp_path / "clip.mp4", corners(40), Fraction(24))
    assert read_clip(tmp_path / "clip.mp4")[0].shape == (40, 32, 64, 3)
    assert read_clip(tmp_path / "clip.mp4", 30, 45)[0].shape == (10, 32, 64, 3)


def test_images_are_read_in_the_order_of_their_numbers(tmp_path):
    for number in range(1, 13):
        Image.fromarray(np.full((4, 4, 3), number, np.uint8)).save(tmp_path / f"frame{number}.png")
    (tmp_path / "._frame1.png").write_bytes(b"what macOS leaves on other disks")
    assert list(read_clip(tmp_path)[0][:, 0, 0, 0]) == list(range(1, 13))
    assert list(read_clip(tmp_path, 8, 11)[0][:, 0, 0, 0]) == [9, 10, 11]


RED = (200, 40, 40)


@pytest.mark.parametrize("suffix", [".mp4", ".webm"])
def test_a_video_says_what_its_colours_mean(tmp_path, suffix):
    """Players guess else: by the size, and for large pictures wrong."""
    write_clip(tmp_path / f"clip{suffix}", np.full((1, 48, 64, 3), RED, np.uint8), Fraction(24))
    with av.open(str(tmp_path / f"clip{suffix}")) as video:
        (frame,) = video.decode(video=0)
        colours = video.streams.video[0].codec_context
        assert (frame.colorspace, frame.color_range) == (Colorspace.ITU709, ColorRange.MPEG)
        assert colours.color_primaries == colours.color_trc == 1
        picture = frame.reformat(format="rgb24", src_colorspace=Colorspace.ITU709).to_ndarray()
        assert np.abs(picture.astype(int) - RED).max() < 4


@pytest.mark.parametrize(("lines", "meant"), [(576, Colorspace.ITU601), (720, Colorspace.ITU709)])
def test_colours_of_which_a_video_says_nothing_are_taken_as_players_take_them(tmp_path, lines, meant):
    with av.open(str(tmp_path / "clip.mp4"), "w") as video:
        stream = video.add_stream("libx264", rate=24, options={"crf": "8"})
        stream.width, stream.height, stream.pix_fmt = 64, lines, "yuv420p"
        frame = av.VideoFrame.from_ndarray(np.full((lines, 64, 3), RED, np.uint8), format="rgb24")
        video.mux(stream.encode(frame.reformat(format="yuv420p", dst_colorspace=meant)))
        video.mux(stream.encode())
    frames, _ = read_clip(tmp_path / "clip.mp4")
    assert np.abs(frames.astype(int) - RED).max() < 4


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".mov", ".webm"])
def test_a_video_keeps_size_rate_and_pixels_shape(tmp_path, suffix):
    path = tmp_path / f"clip{suffix}"
    write_clip(path, corners(3), NTSC, Fraction(16, 15))
    frames, rate = read_clip(path)
    assert frames.shape == (3, 32, 64, 3) and np.abs(frames.astype(int) - corners(3)).max() < 12
    assert abs(rate - NTSC) < Fraction(1, 100)
    assert suffix == ".webm" or pixel_aspect(path) == Fraction(16, 15)
    assert [there.name for there in tmp_path.iterdir()] == [path.name]


def test_images_of_16_bits_are_refused(tmp_path):
    grey = np.linspace(0, 65535, 12).reshape(3, 4).astype(np.uint16)
    for suffix in ("png", "tif"):
        folder = tmp_path / suffix
        folder.mkdir()
        Image.fromarray(grey).save(folder / f"1.{suffix}")
        with pytest.raises(EditError, match="more than 8 bits per channel") as refused:
            read_clip(folder)
        assert refused.value.code == "sixteen-bit"
        Image.fromarray((grey >> 8).astype(np.uint8)).save(folder / f"1.{suffix}")
        assert read_clip(folder)[0].shape == (1, 3, 4, 3)


def test_what_is_there_is_neither_mixed_with_nor_replaced(tmp_path):
    folder, video = tmp_path / "out", tmp_path / "out.mp4"
    write_clip(folder, corners(4), Fraction(24))
    write_clip(video, corners(2), Fraction(24))
    before = {path: path.read_bytes() for path in (*folder.iterdir(), video)}
    assert len(before) == 5
    for refuse in (lambda: write_clip(folder, corners(2), Fraction(24)), lambda: check_output(folder)):
        with pytest.raises(EditError, match="is not an empty folder. Give the path of a new folder"):
            refuse()
    with pytest.raises(EditError, match="There is already a"):
        check_output(video)
    (tmp_path / "notes").write_text("mine")
    with pytest.raises(EditError, match="is not an empty folder"):
        check_output(tmp_path / "notes")
    with pytest.raises(EditError, match="Nothing can be written to"):
        check_output(tmp_path / "notes" / "out.mp4")
    assert before == {path: path.read_bytes() for path in (*folder.iterdir(), video)}
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / ".DS_Store").touch()
    for path in (tmp_path / "empty", tmp_path / "new" / "out.mp4", tmp_path / "new"):
        check_output(path)
    assert not (tmp_path / "new").exists()
    write_clip(tmp_path / "empty", corners(2), Fraction(24))
    assert np.array_equal(read_clip(tmp_path / "empty")[0], corners(2))


@pytest.mark.parametrize("there", [False, True])
def test_a_folder_whose_writing_ends_early_has_nothing(tmp_path, there):
    out = tmp_path / "out"
    if there:
        out.mkdir()

    def frames():
        yield from corners(2)
        raise KeyboardInterrupt

    class Stopped:
        """Frames of which the user has enough before the last one."""

        __len__ = staticmethod(lambda: 3)
        __iter__ = staticmethod(frames)

    with pytest.raises(KeyboardInterrupt):
        write_clip(out, Stopped(), Fraction(24))
    assert out.exists() == there and not (there and list(out.iterdir()))
