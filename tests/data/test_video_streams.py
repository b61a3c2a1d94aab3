"""What a video file says of itself is followed, or refused, or warned of."""

import re
import struct
import warnings
from collections import deque
from fractions import Fraction

import numpy as np
import pytest
import torch
from PIL import Image

from dastc.data import VideoFrames, VideoWriter, video_streams

av = pytest.importorskip("av", reason="PyAV is in the extra `video`")

COLOURS = ((255, 0, 0), (0, 255, 0), (0, 0, 255), (128, 128, 128), (200, 100, 50), (255, 255, 255))


def write(path, frames, *, codec="libx264", rate=10, options=None, form=None, container=None, ratio=None):
    """Write RGB frames with FFmpeg's own settings."""
    with av.open(f"file:{path}", "w", format=form, options=container or {}) as file:
        stream = file.add_stream(codec, rate=rate, options=options or {})
        stream.height, stream.width, stream.pix_fmt = *frames[0].shape[:2], "yuv420p"
        if ratio:
            stream.codec_context.sample_aspect_ratio = ratio
        for frame in frames:
            file.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        file.mux(stream.encode())
    return path


def noise(count=40, size=(48, 64)):
    return np.random.default_rng(0).integers(0, 256, (count, *size, 3), dtype=np.uint8)


def write_at(path, times):
    with VideoWriter(path, rate=5) as video:
        for seconds in times:
            video.write(torch.from_numpy(quarters()), seconds=seconds)


def quarters(size=(64, 96)):
    """Four areas of different brightness, which no turn or mirror leaves as they are."""
    height, width = size[0] // 2, size[1] // 2
    levels = np.array([[30, 90], [150, 210]], np.uint8).repeat(height, 0).repeat(width, 1)
    return levels[..., None].repeat(3, axis=2)


def patch(path, atom, offset, content):
    """Overwrite what is at an offset in an atom of an MP4 file."""
    whole = bytearray(path.read_bytes())
    at = whole.index(atom) + 4 + offset
    whole[at : at + len(content)] = content
    path.write_bytes(whole)


def say_matrix(path, a, b, c, d):
    patch(path, b"tkhd", 40, struct.pack(">9i", *(round(2**16 * x) for x in (a, b, 0, c, d, 0, 0, 0)), 2**30))


MATRICES = {
    (1, 0, 0, 1): lambda x: x,
    (0, 1, -1, 0): lambda x: np.rot90(x, -1),
    (-1, 0, 0, -1): lambda x: np.rot90(x, 2),
    (0, -1, 1, 0): np.rot90,
    (-1, 0, 0, 1): lambda x: x[:, ::-1],
    (1, 0, 0, -1): lambda x: x[::-1],
    (0, 1, 1, 0): lambda x: x.transpose(1, 0, 2),
    (0, -1, -1, 0): lambda x: x[::-1, ::-1].transpose(1, 0, 2),
}


@pytest.mark.parametrize("matrix", MATRICES)
def test_frames_are_turned_as_the_file_asks(tmp_path, matrix):
    path = write(tmp_path / "phone.mp4", [quarters()] * 2, options={"crf": "1"})
    say_matrix(path, *matrix)
    frames = list(VideoFrames(path))
    want = MATRICES[matrix](quarters())
    assert len(frames) == 2
    for frame in frames:
        assert frame.shape == want.shape
        assert frame.is_contiguous()
        assert np.abs(frame.numpy()[8::16, 8::16].astype(int) - want[8::16, 8::16]).max() <= 3


@pytest.mark.parametrize(("orientation", "turns"), [(1, 0), (3, 2), (6, -1), (8, 1)])
def test_a_single_photograph_is_a_video_that_is_turned(tmp_path, orientation, turns):
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(quarters()).save(tmp_path / "a.jpg", exif=exif, quality=95)
    (frame,) = VideoFrames(tmp_path / "a.jpg")
    want = np.rot90(quarters(), turns)
    assert frame.shape == want.shape
    assert np.abs(frame.numpy()[8::16, 8::16].astype(int) - want[8::16, 8::16]).max() <= 3


def test_a_turn_by_less_than_a_quarter_is_refused(tmp_path):
    path = write(tmp_path / "a.mp4", [quarters()])
    say_matrix(path, 0.866, 0.5, -0.5, 0.866)
    with pytest.raises(ValueError, match=r"a\.mp4 must be turned by quarters of a circle; got 30 degrees\. Turn it"):
        list(VideoFrames(path))


@pytest.mark.parametrize(
    ("name", "codec", "container"),
    [
        ("a.mp4", "libx264", {"movflags": "+faststart"}),
        ("a.mp4", "mpeg4", {"movflags": "+faststart"}),
        ("a.mov", "mpeg4", {"movflags": "+faststart"}),
        ("a.mp4", "libx264", {"movflags": "frag_keyframe+empty_moov"}),
        ("a.mkv", "libx264", {}),
        ("a.webm", "libvpx", {}),
        ("a.avi", "mpeg4", {}),
        ("a.flv", "flv", {}),
    ],
    ids=lambda value: str(value),
)
@pytest.mark.parametrize("share", [0.45, 0.9])
def test_a_file_that_was_cut_off_is_an_error(tmp_path, name, codec, container, share):
    path = write(tmp_path / name, noise(), codec=codec, container=container)
    assert len(list(VideoFrames(path))) == 40
    whole = path.read_bytes()
    path.write_bytes(whole[: int(len(whole) * share)])
    message = rf"VideoFrames: .*{name} (must .* It was cut off: fetch it again|cannot be read)"
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        with pytest.raises(RuntimeError, match=message):
            list(VideoFrames(path))
    assert all(re.search(message, str(warning.message)) for warning in said)


def test_a_file_whose_index_shows_that_it_was_cut_off_warns_at_once_and_gives_what_is_there(tmp_path):
    path = write(tmp_path / "a.mp4", noise(), codec="mpeg4", container={"movflags": "+faststart"})
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.warns(RuntimeWarning, match="must hold what its index names, 40 frames .* It was cut off"):
        frames = VideoFrames(path)
    kept = deque()
    with pytest.raises(RuntimeError, match=r"a\.mp4 "):
        kept.extend(frame.shape for frame in frames)
    assert 10 < len(kept) < 40


def test_a_video_that_was_trimmed_is_whole(tmp_path):
    path = write(tmp_path / "a.mp4", noise())
    patch(path, b"elst", 8, struct.pack(">I", 2000))  # milliseconds: half of it
    frames = VideoFrames(path)
    assert frames.total == len(list(frames)) == 20


def test_names_that_look_like_addresses_are_files(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("2024-01-01 10:30.mp4", "http:a.mp4", "a%03d.mp4", "ü.mp4"):
        with VideoWriter(name, rate=5) as video:
            video.write(torch.from_numpy(quarters()))
        assert VideoFrames(name).total == len(list(VideoFrames(name))) == 1
    assert len(list(tmp_path.iterdir())) == 4


def test_a_title_in_another_encoding_does_no_harm(tmp_path):
    path = write(tmp_path / "a.mp4", noise(2))
    patch(path, b"ftyp", 8 + 4, b"\xe9\xff\xfe\xe8")
    assert len(list(VideoFrames(path))) == 2


def _plain(colour, size=(64, 64)):
    return np.broadcast_to(np.array(colour, np.uint8), (*size, 3)).copy()


def _raw(path, values, *, tag, full=False):
    """Write planes of Y, U and V as they are, and what the file says of them."""
    options = {"crf": "0", "color_range": "pc" if full else "tv"}
    options |= {} if tag is None else {"colorspace": tag, "color_primaries": tag, "color_trc": tag}
    with av.open(str(path), "w") as file:
        stream = file.add_stream("libx264", rate=10, options=options)
        stream.height, stream.width, stream.pix_fmt = 64, 64, "yuv420p"
        for planes in values:
            frame = av.VideoFrame(64, 64, "yuv420p")
            for plane, value in zip(frame.planes, planes, strict=True):
                plane.update(bytes([value]) * plane.buffer_size)
            file.mux(stream.encode(frame))
        file.mux(stream.encode())
    return path


def _means(path):
    return [frame.double().mean(dim=(0, 1)).tolist() for frame in VideoFrames(path)]


def test_the_matrix_that_the_file_says_is_taken(tmp_path):
    # by the standards' formulas: Y, U, V of red in limited range
    assert np.allclose(_means(_raw(tmp_path / "a.mp4", [(63, 102, 240)], tag="bt709")), [[255, 0, 0]], atol=2)
    assert np.allclose(_means(_raw(tmp_path / "b.mp4", [(81, 90, 240)], tag="smpte170m")), [[255, 0, 0]], atol=2)
    assert np.allclose(_means(_raw(tmp_path / "c.mp4", [(81, 90, 240)], tag=None)), [[255, 0, 0]], atol=2)


def test_the_range_that_the_file_says_is_taken(tmp_path):
    greys = [(16, 128, 128), (126, 128, 128), (235, 128, 128)]
    assert np.allclose(_means(_raw(tmp_path / "a.mp4", greys, tag="bt709")), [[0] * 3, [128] * 3, [255] * 3], atol=1)
    full = [(0, 128, 128), (128, 128, 128), (255, 128, 128)]
    path = _raw(tmp_path / "b.mp4", full, tag="bt709", full=True)
    assert np.allclose(_means(path), [[0] * 3, [128] * 3, [255] * 3], atol=1)


def test_what_is_written_says_its_matrix_and_has_it(tmp_path):
    with VideoWriter(tmp_path / "a.mp4", rate=10, quality=1) as video:
        for colour in COLOURS:
            video.write(torch.from_numpy(_plain(colour)))
    assert np.allclose(_means(tmp_path / "a.mp4"), COLOURS, atol=3)
    with av.open(str(tmp_path / "a.mp4")) as file:
        context = file.streams.video[0].codec_context
        assert [
            int(x) for x in (context.colorspace, context.color_range, context.color_primaries, context.color_trc)
        ] == [1] * 4
        red = next(file.decode(video=0))
        assert [bytes(plane)[0] for plane in red.planes] == pytest.approx([63, 102, 240], abs=2)


def test_frames_at_uneven_times_keep_them(tmp_path):
    times = [0, 0.04, 0.3, 0.33, 1.0, 1.02, 2.5]
    with VideoWriter(tmp_path / "a.mp4", rate=25) as video:
        for seconds, frame in zip(times, noise(7), strict=True):
            video.write(torch.from_numpy(frame), seconds=seconds)
    frames = VideoFrames(tmp_path / "a.mp4")
    assert [seconds for _, seconds in frames.timed()] == pytest.approx(times, abs=1e-4)
    assert frames.total == 7
    with VideoWriter(tmp_path / "b.mp4", rate=frames.rate) as video:
        for rgb, seconds in frames.timed():
            video.write(rgb, seconds=seconds)
    assert [seconds for _, seconds in VideoFrames(tmp_path / "b.mp4").timed()] == pytest.approx(times, abs=1e-4)


def test_frames_at_even_times_are_timed_by_the_rate(tmp_path):
    with VideoWriter(tmp_path / "a.mp4", rate=Fraction(30000, 1001)) as video:
        for frame in noise(5):
            video.write(torch.from_numpy(frame))
    frames = VideoFrames(tmp_path / "a.mp4")
    assert frames.rate == Fraction(30000, 1001)
    assert [seconds for _, seconds in frames.timed()] == pytest.approx([n * 1001 / 30000 for n in range(5)], abs=1e-4)


@pytest.mark.parametrize(
    ("times", "message"),
    [
        ([0.5, 0.5], r"`seconds` must grow from 0 on; got 0\.5 after 0\.5\."),
        ([0.5, 0.2], r"`seconds` must grow from 0 on; got 0\.2 after 0\.5\."),
        ([-0.1], r"`seconds` must grow from 0 on; got -0\.1 after 0\."),
        ([float("nan")], r"`seconds` must grow from 0 on; got nan after 0\."),
        ([0.0, None], r"`seconds` must be given for all frames or none; got None\."),
        ([None, 0.1], r"`seconds` must be given for all frames or none; got 0\.1\."),
    ],
)
def test_times_that_do_not_grow_are_refused(tmp_path, times, message):
    with pytest.raises(ValueError, match=f"^VideoWriter.write: {message}"):
        write_at(tmp_path / "a.mp4", times)
    assert not list(tmp_path.iterdir())


def test_what_the_encoder_refuses_names_the_file(tmp_path):
    with pytest.raises(RuntimeError, match=r"^VideoWriter: .*wide\.mp4 cannot be written \(\w+: .*16384 pixels"):
        with_one_frame(tmp_path / "wide.mp4", torch.zeros(2, 40_000, 3, dtype=torch.uint8))
    assert not list(tmp_path.iterdir())


def with_one_frame(path, frame):
    with VideoWriter(path, rate=5) as video:
        video.write(frame)


def test_pixels_that_are_not_square_are_told(tmp_path):
    with pytest.warns(UserWarning, match=r"VideoFrames: .*a\.mp4 has pixels of 4:3, and its frames are not stretched"):
        VideoFrames(write(tmp_path / "a.mp4", noise(2), ratio=Fraction(4, 3)))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        VideoFrames(write(tmp_path / "b.mp4", noise(2), ratio=Fraction(1, 1)))


def test_hdr_is_told(tmp_path):
    tags = {"colorspace": "bt2020nc", "color_primaries": "bt2020", "color_trc": "arib-std-b67"}
    with pytest.warns(UserWarning, match=r"VideoFrames: .*a\.mp4 is HDR \(HLG\)"):
        VideoFrames(write(tmp_path / "a.mp4", noise(2), options=tags))


def test_the_cover_of_a_song_is_no_video(tmp_path):
    with av.open(str(tmp_path / "a.mp4"), "w") as file:
        sound, cover = file.add_stream("aac", rate=8000, layout="mono"), file.add_stream("mjpeg", rate=1)
        cover.height, cover.width, cover.pix_fmt = 64, 96, "yuvj420p"
        cover.disposition = 0x400  # an attached picture, by FFmpeg's number
        samples = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
        samples.rate = 8000
        file.mux(cover.encode(av.VideoFrame.from_ndarray(quarters(), format="rgb24")))
        file.mux(cover.encode())
        file.mux(sound.encode(samples))
        file.mux(sound.encode())
    with pytest.raises(ValueError, match=r"a\.mp4 must hold a video; got none, perhaps sound alone"):
        VideoFrames(tmp_path / "a.mp4")


def test_an_older_pyav_is_refused(tmp_path, monkeypatch):
    path = write(tmp_path / "a.mp4", noise(2))
    monkeypatch.setattr(av, "__version__", "16.1.0")
    with pytest.raises(RuntimeError, match=r"^VideoFrames needs PyAV 17 or later, .*; got 16\.1\.0\. Install it with"):
        VideoFrames(path)
    assert video_streams.url_of(path) == f"file:{path}"
