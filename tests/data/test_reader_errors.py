"""Whatever a reader raises on damaged files, the error is this package's and names the file."""

import io
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, features

from dastc.data import FolderClips, VideoFrames, read_flow, write_flow
from dastc.data.reader_errors import reading

OPTIONS = {
    "png": {}, "jpg": {}, "webp": {}, "bmp": {}, "tif": {"compression": "tiff_lzw"}, "tiff": {}, "gif": {}, "jp2": {},
    "ppm": {}, "tga": {}, "ico": {}, "avif": {}, "pcx": {}, "sgi": {}, "jfif": {}, "apng": {},
}  # fmt: skip
FORMATS = {"jpg": "JPEG", "jfif": "JPEG", "tif": "TIFF", "tiff": "TIFF", "jp2": "JPEG2000", "apng": "PNG"}
NEEDS = {"avif": "avif", "webp": "webp", "jp2": "jpg_2000"}


@pytest.fixture(autouse=True)
def _quiet():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow's, of what it can pass over
        yield


def damaged(whole, seed, times):
    """Yield cut-off and overwritten copies of a file."""
    rng = np.random.default_rng(seed)
    for attempt in range(times):
        if attempt % 3 == 0:
            yield whole[: int(rng.integers(0, len(whole)))]
            continue
        content = bytearray(whole)
        for _ in range(int(rng.integers(1, 9))):
            content[int(rng.integers(0, len(content)))] = int(rng.integers(0, 256))
        yield bytes(content)


def assert_named(path, read):
    """Read, or raise an error that names the file; return whether it could be read."""
    try:
        read()
    except (RuntimeError, ValueError) as caught:
        error = caught
    else:
        return True
    assert str(path) in str(error), f"{type(error).__name__}: {error}"
    return False


@pytest.mark.parametrize("suffix", OPTIONS)
def test_damaged_pictures_and_labels(tmp_path, suffix):
    if suffix in NEEDS and not features.check(NEEDS[suffix]):
        pytest.skip(f"this Pillow has no {NEEDS[suffix]}")
    path, buffer = tmp_path / f"1.{suffix}", io.BytesIO()
    pixels = np.random.default_rng(1).integers(0, 5, (24, 32, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(buffer, FORMATS.get(suffix, suffix.upper()), **OPTIONS[suffix])
    label = io.BytesIO()
    picture = Image.fromarray(pixels[..., 0]) if suffix not in ("webp", "avif") else Image.fromarray(pixels)
    picture.save(label, FORMATS.get(suffix, suffix.upper()), **OPTIONS[suffix])
    good = tmp_path / "good_1.png"
    Image.fromarray(pixels).save(good)
    Image.fromarray(pixels[..., 0]).save(tmp_path / f"label_1.{suffix}", FORMATS.get(suffix, suffix.upper()))
    path.write_bytes(buffer.getvalue())
    clips = FolderClips(tmp_path, images=f"{{number}}.{suffix}")
    labelled = FolderClips(
        tmp_path, images="good_{number}.png", labels=f"label_{{number}}.{suffix}", label_space=tuple("abcde")
    )
    read = 0
    for content in damaged(buffer.getvalue(), 0, 60):
        path.write_bytes(content)
        read += assert_named(path, lambda: clips[0])
    assert read < 60
    path = tmp_path / f"label_1.{suffix}"
    for content in damaged(label.getvalue(), 1, 60):
        path.write_bytes(content)
        if not assert_named(path, lambda: labelled[0]):
            assert path.name in str(labelled.check(progress=False).problems)


@pytest.mark.parametrize("name", ["a.npy", "a.flo", "a.png"])
def test_damaged_flow(tmp_path, name):
    write_flow(tmp_path / name, torch.randn(2, 9, 11))
    whole, read = (tmp_path / name).read_bytes(), 0
    for content in damaged(whole, 2, 150):
        (tmp_path / name).write_bytes(content)
        read += assert_named(tmp_path / name, lambda: read_flow(tmp_path / name))
    assert read < 150


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv", "a.avi", "a.mov", "a.ts"])
def test_damaged_videos(tmp_path, name):
    av = pytest.importorskip("av", reason="PyAV is in the extra `video`")
    path = tmp_path / name
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=10, width=32, height=32, pix_fmt="yuv420p")
        noise = np.random.default_rng(0).integers(0, 256, (6, 32, 32, 3), dtype=np.uint8)
        for frame in noise:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode())
    whole, read = path.read_bytes(), 0
    assert len(list(VideoFrames(path))) == 6
    for content in damaged(whole, 3, 40):
        path.write_bytes(content)
        read += assert_named(path, lambda: list(VideoFrames(path)))
    assert read < 40


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (FileNotFoundError("x"), r"^Me: a\.png is missing\.$"),
        (PermissionError("no"), r"^Me: a\.png cannot be read \(PermissionError: no\)\. Give yourself the permission"),
        (IsADirectoryError("no"), r"a\.png cannot be read .*Name a file, not a folder\.$"),
        (MemoryError(), r"a\.png cannot be read \(MemoryError: \)\. It needs more memory than there is\.$"),
        (KeyError("length"), r"a\.png cannot be read \(KeyError: 'length'\)\. Fetch the file again\.$"),
        (UserWarning("odd"), r"a\.png cannot be read \(UserWarning: odd\)\. Fetch the file again\.$"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_any_error_becomes_one_that_names_the_file(error, message):
    with pytest.raises(RuntimeError, match=message) as caught, reading("Me", Path("a.png")):
        raise error
    assert caught.value.__cause__ is error


def test_what_ends_a_program_is_no_fault_of_a_file():
    with pytest.raises(KeyboardInterrupt), reading("Me", Path("a.png")):
        raise KeyboardInterrupt
