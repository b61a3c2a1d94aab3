"""Clips of pictures without a pattern for their names."""

import numpy as np
import pytest
from PIL import Image

from dastc.data import StreetClips
from dastc.data.folder_clips import label_files_of, named_space
from dastc.data.joined_clips import JoinedClips
from dastc.data.picture_clips import PictureClips

SPACE = named_space(("a", "b"))


@pytest.fixture
def tree(tmp_path):
    for number, name in enumerate(("x/2.png", "x/10.jpg", "x/1.png", "deep/y/a.png", ".hidden/1.png", "top.png")):
        path = tmp_path / "rgb" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((4, 6, 3), 40 * number, np.uint8)).save(path)
    for name in ("x/10.png", "deep/y/a.png", "x/none.png"):
        path = tmp_path / "ids" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.ones((4, 6), np.uint8)).save(path)
    return tmp_path


def test_each_folder_is_a_video_in_the_order_of_its_numbers(tree):
    assert len(PictureClips(tree / "rgb")) == 5
    clips = PictureClips(tree / "rgb", frames=2)
    assert [[frame.image.name for frame in clip] for clip in clips._clips] == [["1.png", "2.png"], ["2.png", "10.jpg"]]
    (apart,) = PictureClips(tree / "rgb", frames=2, interval=2)._clips
    assert [frame.image.name for frame in apart] == ["1.png", "10.jpg"]


def test_labels_are_found_by_name_whatever_the_suffix(tree):
    files = label_files_of(SPACE, None, "error")
    given = {"labels": tree / "ids", "label_space": SPACE, "label_files": files}
    assert [clip[-1].image.name for clip in PictureClips(tree / "rgb", **given)._clips] == ["a.png", "10.jpg"]
    (clip,) = [PictureClips(tree / "rgb", frames=2, **given)[0]]
    assert clip.labels[0].eq(255).all()
    assert clip.labels[1].eq(1).all()
    (tree / "ids").rename(tree / "rgb" / "ids")  # within: no pictures of their own
    assert len(PictureClips(tree / "rgb", labels=tree / "rgb" / "ids", label_space=SPACE, label_files=files)) == 2


def test_what_is_wrong_is_named(tree):
    (tree / "empty").mkdir()
    with pytest.raises(ValueError, match=r"PictureClips: `root` must hold pictures .* got .*empty without"):
        PictureClips(tree / "empty")
    with pytest.raises(ValueError, match=r"`labels` must be an existing folder; got .*none"):
        PictureClips(tree / "rgb", labels=tree / "none")
    with pytest.raises(ValueError, match=r"such as top, deep/y/a; got .*empty with no picture\. Name both by patterns"):
        PictureClips(tree / "rgb", labels=tree / "empty")


def test_data_sets_are_joined():
    parts = [StreetClips(domain, length=2, size=(16, 24)) for domain in ("source", "target")]
    joined = JoinedClips(parts)
    assert len(joined) == 4
    assert joined[3].frames.equal(parts[1][1].frames)
    assert joined.parts == tuple(parts)
    assert joined.label_space.names[0] == "sky"
