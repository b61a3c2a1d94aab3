import pickle
import sys

import numpy as np
import pytest
import torch
from PIL import Image

from dastc import Clip, stack_clips
from dastc.data import CamVid, to_rgb
from dastc.data.spaces import CAMVID

SIZE = (6, 8)


def _pixels(seed, size=SIZE, classes=12):
    rng = np.random.default_rng(seed)
    return rng.integers(0, 256, (*size, 3), dtype=np.uint8), rng.integers(0, classes, size, dtype=np.uint8)


def _write(images, labels, stem, seed=0, size=SIZE, suffix=".png"):
    picture, classes = _pixels(seed, size)
    for folder in (images, labels):
        folder.mkdir(parents=True, exist_ok=True)
    Image.fromarray(picture).save(images / f"{stem}{suffix}")
    Image.fromarray(classes).save(labels / f"{stem}.png")


def _flat(root, stems, **kwargs):
    for seed, stem in enumerate(stems):
        _write(root / "images", root / "labels", stem, seed, **kwargs)
    return root


@pytest.fixture
def root(tmp_path):
    # numbers of different width, so that an order by name would be another one
    return _flat(tmp_path, ["0001TP_90", "0001TP_120", "0001TP_150", "Seq05VD_f00000", "Seq05VD_f00030", "lone_7"])


@pytest.fixture
def split_root(tmp_path):
    for seed, (split, stem) in enumerate(
        [("train", "0001TP_006690"), ("val", "0001TP_006720"), ("train", "0016E5_00001"), ("test", "Seq05VD_f00000")]
    ):
        _write(tmp_path / split, tmp_path / f"{split}annot", stem, seed)
    return tmp_path


def _stems(data):
    return [[frame.image.stem for frame in clip] for clip in data._clips]


def test_a_clip_is_neighbours_in_the_order_of_their_numbers(root):
    data = CamVid(root)
    assert _stems(data) == [
        ["0001TP_90", "0001TP_120"],
        ["0001TP_120", "0001TP_150"],
        ["Seq05VD_f00000", "Seq05VD_f00030"],
    ]
    assert data.sequence_names == ("0001TP", "Seq05VD", "lone")
    assert data.label_space is CAMVID


def test_pixels_and_labels_are_those_of_the_files(root):
    clip = CamVid(root)[1]
    assert isinstance(clip, Clip)
    assert clip.flow is None
    assert clip.weights is None
    assert clip.frames.dtype == torch.float32
    for frame, seed in enumerate((1, 2)):
        picture, labels = _pixels(seed)
        assert torch.equal(to_rgb(clip.frames[frame]), torch.from_numpy(picture))
        want = torch.from_numpy(labels).long()
        assert torch.equal(clip.labels[frame], want.where(want != 11, 255))
    assert (clip.labels == 255).any()
    assert stack_clips([clip, clip]).frames.shape == (2, 2, 3, *SIZE)


def test_every_gap_counts(tmp_path):
    data = CamVid(_flat(tmp_path, [f"a_{n}" for n in (0, 2, 4, 34, 36, 38, 40)]), frames=3, max_gap=2)
    assert _stems(data) == [["a_0", "a_2", "a_4"], ["a_34", "a_36", "a_38"], ["a_36", "a_38", "a_40"]]
    assert len(CamVid(tmp_path, frames=3, max_gap=30)) == 5


def test_single_frames_are_clips_whatever_the_gap(root):
    data = CamVid(root, frames=1, max_gap=1)
    assert len(data) == 6
    assert data[0].frames.shape == (1, 3, *SIZE)


def test_sequences_are_picked_by_name(root):
    assert _stems(CamVid(root, sequences=["Seq05VD"])) == [["Seq05VD_f00000", "Seq05VD_f00030"]]
    assert CamVid(root, sequences="0001TP").sequence_names == ("0001TP",)


def test_split_folders_are_one_video_unless_split(split_root):
    assert _stems(CamVid(split_root)) == [["0001TP_006690", "0001TP_006720"]]
    assert CamVid(split_root, frames=1).sequence_names == ("0001TP", "0016E5", "Seq05VD")
    assert CamVid(split_root, frames=1, split="val").sequence_names == ("0001TP",)
    assert _stems(CamVid(split_root, frames=1, split=["train", "test"])) == [
        ["0001TP_006690"], ["0016E5_00001"], ["Seq05VD_f00000"]
    ]  # fmt: skip


def test_size_resizes_pictures_smoothly_and_labels_by_nearest_pixel(root):
    clip = CamVid(root, size=(4, 10))[0]
    picture, labels = (Image.fromarray(x) for x in _pixels(0))
    smooth = np.array(picture.resize((10, 4), Image.Resampling.BILINEAR))
    nearest = torch.from_numpy(np.array(labels.resize((10, 4), Image.Resampling.NEAREST))).long()
    assert torch.equal(to_rgb(clip.frames[0]), torch.from_numpy(smooth))
    assert torch.equal(clip.labels[0], nearest.where(nearest != 11, 255))


def test_indexing_is_that_of_a_list(root):
    data = CamVid(root)
    assert len(list(data)) == len(data) == 3
    assert torch.equal(data[-1].frames, data[2].frames)
    for index in (3, -4):
        with pytest.raises(IndexError, match=rf"^CamVid: `index` must lie in \[-3, 3\); got {index}\.$"):
            data[index]
    with pytest.raises(TypeError):
        data["0"]


def test_it_survives_pickling(root):
    data = CamVid(root, sequences=["0001TP"], size=(3, 4))
    again = pickle.loads(pickle.dumps(data))
    assert len(again) == 2
    assert torch.equal(again[1].frames, data[1].frames)


def test_jpeg_palette_files_hidden_files_and_labels_without_a_picture_are_fine(tmp_path):
    _flat(tmp_path, ["a_1", "a_2"], suffix=".jpg")
    palette = Image.frombytes("P", (8, 6), _pixels(0)[1].tobytes())
    palette.putpalette([7, 8, 9] * 256)
    palette.save(tmp_path / "labels" / "a_1.png")
    (tmp_path / "images" / "._a_1.jpg").write_bytes(b"")
    (tmp_path / "images" / "Thumbs.db").write_bytes(b"")
    Image.new("L", (8, 6)).save(tmp_path / "labels" / "b_1.png")
    clip = CamVid(tmp_path)[0]
    want = torch.from_numpy(_pixels(0)[1]).long()
    assert torch.equal(clip.labels[0], want.where(want != 11, 255))


def _remove(folder):
    for path in folder.iterdir():
        path.unlink()
    return folder


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"frames": 0}, r"^CamVid: `frames` must be at least 1; got 0\.$"),
        ({"max_gap": 0}, r"^CamVid: `max_gap` must be at least 1; got 0\.$"),
        ({"size": (0, 8)}, r"^CamVid: `size` must be \(height, width\), both at least 1; got \(0, 8\)\.$"),
        ({"split": "val"}, r"^CamVid: `split` must be None for a folder with images/ and labels/; got 'val'\.$"),
        ({"split": "vall"}, r"^CamVid: `split` must be one of 'train', 'val', 'test'; got 'vall'\.$"),
        ({"split": []}, r"^CamVid: `split` must name at least one split; got none\.$"),
        ({"sequences": []}, r"`sequences` must name at least one of 0001TP, Seq05VD, lone; got none\.$"),
        (
            {"sequences": ["0001TP", "seq05vd"]},
            r"`sequences` must be of those in .*: 0001TP, Seq05VD, lone; got 'seq05vd'\. Did you mean Seq05VD\?$",
        ),
        ({"sequences": ["zzz"]}, r"0001TP, Seq05VD, lone; got 'zzz'\.$"),
        (
            {"max_gap": 29},
            r"^CamVid: `max_gap` must be at least 30 for a clip of 2 frames; got 29\. "
            r"Smallest gaps: 30 in 0001TP, 30 in Seq05VD\.$",
        ),
        ({"frames": 4}, r"^CamVid: `frames` must be at most 3, the longest sequence; got 4\.$"),
        ({"frames": 2, "sequences": ["lone"]}, r"`frames` must be at most 1, the longest sequence; got 2\.$"),
    ],
)
def test_bad_arguments_are_named(root, arguments, message):
    with pytest.raises(ValueError, match=message):
        CamVid(root, **arguments)


def test_bad_folders_are_named(tmp_path):
    with pytest.raises(ValueError, match=r"^CamVid: `root` must be an existing folder; got .*nowhere\.$"):
        CamVid(tmp_path / "nowhere")
    with pytest.raises(ValueError, match=r"^CamVid: `root` must hold images/ and labels/, or train/ and trainannot/"):
        CamVid(tmp_path)
    (tmp_path / "images").mkdir()
    with pytest.raises(ValueError, match=r"^CamVid: `root` must hold the folder labels/; got .* without it\.$"):
        CamVid(tmp_path)
    (tmp_path / "labels").mkdir()
    with pytest.raises(ValueError, match=r"^CamVid: .*images must hold pictures \(\.jpg, \.jpeg, \.png\); got none\.$"):
        CamVid(tmp_path)


def test_a_missing_split_folder_is_named(split_root):
    _remove(split_root / "valannot").rmdir()
    with pytest.raises(ValueError, match=r"`root` must hold the folder valannot/; got .* without it\.$"):
        CamVid(split_root)
    _remove(split_root / "val").rmdir()
    assert len(CamVid(split_root, frames=1)) == 3
    with pytest.raises(ValueError, match=r"`root` must hold the folder val/; got .* without it\.$"):
        CamVid(split_root, split="val")


def test_files_out_of_place_are_named(root):
    (root / "labels" / "0001TP_120.png").rename(root / "spare.png")
    with pytest.raises(ValueError, match=r"^CamVid: .*0001TP_120.png must have its labels in .*labels.0001TP_120.png;"):
        CamVid(root)
    (root / "spare.png").rename(root / "labels" / "0001TP_120.png")
    _write(root / "images", root / "labels", "0001TP_0120")
    with pytest.raises(ValueError, match=r"^CamVid: each frame must be there once; got .*_0120.png and .*_120.png\.$"):
        CamVid(root)
    (root / "images" / "0001TP_0120.png").rename(root / "images" / "readme.png")
    with pytest.raises(ValueError, match=r"^CamVid: .*readme.png must be named SEQUENCE_NUMBER; got readme.png\.$"):
        CamVid(root)


@pytest.mark.parametrize("keep", [0, 20, 60, 100])
@pytest.mark.parametrize("folder", ["images", "labels"])
def test_a_broken_file_is_named(root, folder, keep):
    path = root / folder / "0001TP_90.png"
    path.write_bytes(path.read_bytes()[: keep * len(path.read_bytes()) // 150])
    data = CamVid(root)
    with pytest.raises(RuntimeError, match=rf"^CamVid: .*{folder}.0001TP_90.png cannot be read \(.*Fetch the file"):
        data[0]


@pytest.mark.parametrize("bad", [12, 254])
def test_a_label_outside_the_space_is_named(root, bad):
    path = root / "labels" / "0001TP_90.png"
    Image.fromarray(np.full(SIZE, bad, np.uint8)).save(path)
    with pytest.raises(
        ValueError, match=rf"0001TP_90.png must hold labels in \[0, 11\), or 11 or 255 for none; got {bad}"
    ):
        CamVid(root)[0]


def test_labels_of_another_size_or_kind_are_named(root):
    path = root / "labels" / "0001TP_90.png"
    Image.new("L", (9, 6)).save(path)
    for size in (None, (3, 4)):
        with pytest.raises(ValueError, match=r"_90.png must have the size of its picture, \(H=6, W=8\); got \(6, 9\)"):
            CamVid(root, size=size)[0]
    Image.new("RGB", (8, 6)).save(path)
    with pytest.raises(
        ValueError, match=r"_90.png must hold one class index per pixel; got a picture of mode RGB\. Conv.*ids_from_col"
    ):
        CamVid(root)[0]


def test_pictures_of_different_sizes_need_one_size(root):
    _write(root / "images", root / "labels", "0001TP_90", size=(4, 4))
    with pytest.raises(
        ValueError, match=r"must have one size; got \(4, 4\), \(6, 8\) in the clip that ends with .*_120"
    ):
        CamVid(root)[0]
    assert CamVid(root, size=(5, 5))[0].frames.shape == (2, 3, 5, 5)


def test_without_pillow_the_extra_is_named(root, monkeypatch):
    data = CamVid(root)
    monkeypatch.setitem(sys.modules, "PIL", None)
    for use in (lambda: CamVid(root), lambda: data[0]):
        with pytest.raises(RuntimeError, match=r'Pillow, which is not installed\. Install it with `pip install "dastc'):
            use()
