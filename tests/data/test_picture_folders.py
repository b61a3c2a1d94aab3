"""The order and the names of the pictures in a folder."""

import unicodedata

import numpy as np
import pytest
from PIL import Image

from dastc.data import VideoFrames
from dastc.data.picture_folders import distinct_names, pictures_of


def _folder(folder, *names):
    for name in names:
        (folder / name).touch()
    return folder


def _names(folder):
    return [path.name for path in pictures_of("Me", folder)]


@pytest.mark.parametrize(
    "names",
    [
        ["frame_1.png", "frame_2.png", "frame_9.png", "frame_10.png", "frame_11.png", "frame_100.png"],
        ["1.jpg", "02.jpg", "3.jpg", "0010.jpg"],
        ["a 2.png", "a 10.png", "b 1.png"],
        ["s1_f2.png", "s1_f10.png", "s2_f1.png", "s10_f1.png"],
        ["2.png", "10.png", "intro.png", "intro2.png", "intro10.png"],
        ["20240101T000009.png", "20240101T000010.png"],
        ["v1.2.png", "v1.10.png"],
    ],
    ids=lambda names: names[0],
)
def test_numbers_in_names_count_by_value(tmp_path, names):
    assert _names(_folder(tmp_path, *reversed(names))) == names


def test_names_that_only_zeros_or_accents_tell_apart_have_an_order(tmp_path):
    assert _names(_folder(tmp_path, "1.png", "01.png", "001.png")) == ["001.png", "01.png", "1.png"]
    accents = [unicodedata.normalize(form, f"ä{n}.png") for n, form in ((1, "NFC"), (2, "NFD"), (3, "NFC"))]
    (tmp_path / "b").mkdir()
    assert _names(_folder(tmp_path / "b", *reversed(accents))) == accents


def test_suffixes_in_capitals_are_taken(tmp_path):
    assert _names(_folder(tmp_path, "1.JPG", "2.jpg", "3.Png", "4.TIFF", "5.gif", ".6.png")) == [
        "1.JPG", "2.jpg", "3.Png", "4.TIFF"
    ]  # fmt: skip


def test_pictures_of_one_name_keep_their_suffixes_and_are_told(tmp_path):
    pictures = pictures_of("Me", _folder(tmp_path, "1.jpg", "1.png", "2.png", "3.JPG", "3.jpg"))
    with pytest.warns(UserWarning, match=r"^Me: .*1\.jpg and 1\.png have one name, as have 1 more pairs, and both are"):
        assert distinct_names("Me", pictures) == ("1.jpg", "1.png", "2", "3.JPG", "3.jpg")


def test_frames_come_in_this_order(tmp_path):
    for n in range(1, 13):
        Image.fromarray(np.full((4, 6, 3), n, np.uint8)).save(tmp_path / f"shot-{n}.png")
    frames = VideoFrames(tmp_path)
    assert frames.names == tuple(f"shot-{n}" for n in range(1, 13))
    assert [int(frame[0, 0, 0]) for frame in frames] == list(range(1, 13))
    assert [seconds for _, seconds in frames.timed()] == [None] * 12


def test_pictures_are_upright(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    upright = np.zeros((8, 4, 3), np.uint8)
    upright[:4] = 200
    Image.fromarray(np.ascontiguousarray(np.rot90(upright))).save(tmp_path / "1.png", exif=exif)
    assert np.array_equal(next(iter(VideoFrames(tmp_path))).numpy(), upright)
