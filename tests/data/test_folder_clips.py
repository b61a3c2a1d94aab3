import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader

from dastc import stack_clips
from dastc.data import FolderClips, LabelSpace, to_rgb, write_flow

SIZE = (6, 8)
PATTERNS = {"images": "{sequence}/frames/{number}.png", "labels": "{sequence}/truth/{number:03}.png"}
NAMES = ("sky", "road", "car")


def _pixels(seed, size=SIZE):
    rng = np.random.default_rng(seed)
    return rng.integers(0, 256, (*size, 3), dtype=np.uint8), rng.integers(0, 3, size, dtype=np.uint8)


def _save(path, pixels):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


@pytest.fixture
def root(tmp_path):
    # numbers of pictures have no zeros before them, those of labels do
    for name, numbers in {"a": (8, 9, 10), "b": (1, 2)}.items():
        for n in numbers:
            picture, labels = _pixels(n)
            _save(tmp_path / name / "frames" / f"{n}.png", picture)
            _save(tmp_path / name / "truth" / f"{n:03}.png", labels)
    return tmp_path


def _read(root, **rest):
    return FolderClips(root, **(PATTERNS | {"label_space": NAMES} | rest))


def _numbers(data):
    return [[frame.number for frame in clip] for clip in data._clips]


def test_pictures_and_labels_are_paired_by_sequence_and_number(root):
    data = _read(root, frames=2)
    assert _numbers(data) == [[8, 9], [9, 10], [1, 2]]
    assert data.sequence_names == ("a", "b")
    assert data.label_space.names == NAMES
    assert len(set(data.label_space.colours)) == 3
    clip = data[1]
    for frame, n in enumerate((9, 10)):
        picture, labels = _pixels(n)
        assert torch.equal(to_rgb(clip.frames[frame]), torch.from_numpy(picture))
        assert torch.equal(clip.labels[frame], torch.from_numpy(labels).long())
    assert clip.flow is None
    assert _numbers(_read(root, sequences="b")) == [[1], [2]]


def test_clips_without_labels_need_no_classes(root):
    clip = FolderClips(root, images=PATTERNS["images"], frames=2)[0]
    assert clip.labels is None
    with pytest.raises(ValueError, match=r"`label_space` must be given with `labels`; got None"):
        FolderClips(root, **PATTERNS)


def test_the_interval_is_exact_or_the_order(root):
    (root / "a/frames/9.png").unlink()
    assert _numbers(_read(root, labels=None, frames=2, interval=None)) == [[8, 10], [1, 2]]
    assert _numbers(_read(root, labels=None, frames=2, interval=2)) == [[8, 10]]
    with pytest.warns(UserWarning, match=r"1 clips are left out\. The picture of frame 9 of a is missing"):
        assert _numbers(_read(root, labels=None, frames=2)) == [[1, 2]]
    with pytest.raises(ValueError, match=r"`interval` must be a difference of numbers that occurs, such as 1; got 5"):
        _read(root, labels=None, frames=2, interval=5)
    with pytest.raises(ValueError, match=r"`frames` must be at most 2, the longest sequence; got 3"):
        _read(root, labels=None, frames=3, interval=None)


def test_frames_without_labels_are_reported_or_ignored(root):
    for n in (8, 10):
        (root / f"a/truth/{n:03}.png").unlink()
    with pytest.warns(UserWarning, match=r"2 clips are left out\. The labels of .*a.frames.8\.png is missing"):
        assert _numbers(_read(root, frames=2)) == [[1, 2]]
    data = _read(root, frames=2, all_labelled=False)
    assert _numbers(data) == [[8, 9], [1, 2]]
    assert (data[0].labels[0] == 255).all()
    assert (data[0].labels[1] != 255).all()


def test_single_pictures_share_a_name_with_their_labels(tmp_path):
    for name in ("church", "old_mill"):
        picture, labels = _pixels(len(name))
        _save(tmp_path / f"{name}.jpg", picture)
        _save(tmp_path / f"{name}_label.png", labels)
    given = {"images": "{sequence}.jpg", "labels": "{sequence}_label.png", "label_space": NAMES}
    data = FolderClips(tmp_path, **given)
    assert data.sequence_names == ("church", "old_mill")
    assert data[1].labels.shape == (1, *SIZE)
    with pytest.raises(ValueError, match=r"`images` must have the field \{number\} for clips of 2; got '\{sequence\}"):
        FolderClips(tmp_path, **given, frames=2)


def test_a_label_map_tells_what_ids_become(root):
    _, labels = _pixels(2)
    labels[0, 0] = 255
    _save(root / "b/truth/002.png", labels)
    clip = _read(root, label_map={0: 2, 1: 255, 2: 0}, label_space=LabelSpace(NAMES, ((1, 2, 3),) * 3))[4]
    want = torch.tensor([2, 255, 0])[torch.from_numpy(labels % 255).long()]
    want[0, 0] = 255
    assert torch.equal(clip.labels[0], want)
    with pytest.raises(ValueError, match=r"^FolderClips: .*b.truth.002.png must hold the ids 0, 255; got 1, 2\.$"):
        _read(root, label_map={0: 2})[4]
    labels = _read(root, label_map={0: 2}, other_ids="ignore")[4].labels
    assert sorted(labels.unique().tolist()) == [2, 255]


@pytest.mark.parametrize("label_map", [{0: 3}, {-1: 0}, {2**16: 0}, {0: -1}])
def test_a_map_out_of_the_space_is_refused(root, label_map):
    with pytest.raises(ValueError, match=r"`label_map` must map ids in \[0, 65535\] to labels in \[0, 3\) or 255; got"):
        _read(root, label_map=label_map)


@pytest.mark.parametrize(
    "pattern",
    ["{sequence}_{number}.flo", "{sequence}/{number}_{previous}.npy", "{sequence}/{number:04}{previous:04}.npy"],
)
def test_flow_of_any_form_and_name_is_found(root, pattern):
    for name, numbers in {"a": (8, 9, 10), "b": (1, 2)}.items():
        for n in numbers[1:]:
            path = root / pattern.format(sequence=name, number=n, previous=n - 1)
            write_flow(path, torch.full((2, 3, 2), float(n)))
    data = _read(root, flow=pattern, frames=3)
    assert _numbers(data) == [[8, 9, 10]]
    flow = data[0].flow
    assert flow.shape == (2, 2, *SIZE)
    assert [flow[t, c].unique().tolist() for t in (0, 1) for c in (0, 1)] == [[36.0], [18.0], [40.0], [20.0]]
    assert FolderClips(root, images=PATTERNS["images"], flow=pattern)[0].flow is None


def test_flow_of_another_count_is_an_error(root):
    for n in (9, 2):
        write_flow(root / f"{n}.npy", torch.zeros(2, 2, 2))
    with pytest.raises(ValueError, match=r"`flow` must have the fields of `images`, .*; got '\{number\}\.npy'"):
        _read(root, flow="{number}.npy", frames=2)
    (root / "9.npy").rename(root / "a_9.npy")
    message = (
        r"`flow` must hold one file for each of the 3 pairs of neighbouring frames; got 1\. None leads from frame 10"
    )
    with pytest.raises(ValueError, match=message):
        _read(root, flow="{sequence}_{number}.npy", frames=2)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"images": "frames.png"}, r"`images` must have the fields \{sequence\}, \{number\} or both; got 'frames.png'"),
        ({"images": "{number}{previous}.png"}, r"`images` must have the fields \{sequence\}, \{number\} or both"),
        (
            {"labels": "truth/{number}.png"},
            r"`labels` must have the fields of `images`, .*; got 'truth/\{number\}\.png'",
        ),
        ({"labels": "{sequence}/x/{number}.png"}, r"`labels` must find files in .*; got none by '\{sequence\}/x/"),
        ({"images": "{sequence}/x/{number}.png"}, r"`images` must find files in .*; got none by"),
        ({"frames": 0}, r"`frames` must be at least 1; got 0"),
        ({"interval": 0}, r"`interval` must be at least 1; got 0"),
        ({"other_ids": "drop"}, r"`other_ids` must be one of 'error', 'ignore'; got 'drop'"),
        ({"sequences": "c"}, r"`sequences` must be of those in .*: a, b; got 'c'"),
        ({"size": (4,)}, r"`size` must be \(height, width\), both at least 1; got \(4,\)"),
    ],
)
def test_bad_arguments_are_named(root, arguments, message):
    with pytest.raises(ValueError, match=f"^FolderClips: {message}"):
        _read(root, **arguments)
    with pytest.raises(ValueError, match=r"^FolderClips: `root` must be an existing folder; got nowhere\.$"):
        _read("nowhere")


def test_colours_instead_of_ids_name_the_converter(root):
    _save(root / "b/truth/002.png", _pixels(0)[0])
    with pytest.raises(ValueError, match=r"002\.png must hold one class index .*LabelSpace\.ids_from_colours"):
        _read(root)[4]


@pytest.mark.parametrize("workers", [0, 1])
def test_a_broken_file_in_an_epoch_is_named(root, workers):
    path = root / "a/frames/9.png"
    path.write_bytes(path.read_bytes()[:-40])
    loader = DataLoader(_read(root), batch_size=1, collate_fn=stack_clips, num_workers=workers)
    with pytest.raises(RuntimeError, match=r"FolderClips: .*a/frames/9\.png cannot be read \("):
        list(loader)


def test_broken_flow_is_named_and_a_pickle_is_refused(root):
    for n in (9, 10):
        np.save(root / f"a_{n}.npy", np.zeros((2, 2, 2), np.int16))
    np.save(root / "a_10.npy", np.array([{"not": "flow"}], dtype=object), allow_pickle=True)
    data = _read(root, flow="{sequence}_{number}.npy", frames=2, sequences="a")
    with pytest.raises((RuntimeError, ValueError), match=r"a_10\.npy"):
        data[1]
    assert data.check(progress=False).usable == (0,)


def test_names_of_classes_are_a_list_of_different_ones(root):
    for names, message in (
        ("road", "must be a list of names; got the text 'road'"),
        (("sky", "road", "sky"), "must name each class once; got sky twice"),
        ([f"c{n}" for n in range(2**16)], "must have at most 65535 names; got 65536"),
    ):
        with pytest.raises(ValueError, match=rf"^FolderClips: `label_space` {message}\.$"):
            _read(root, label_space=names)


@pytest.mark.parametrize(("classes", "ignored"), [(3, 255), (255, 255), (256, 2**16 - 1), (300, 2**16 - 1)])
def test_the_ignored_label_is_no_class(root, classes, ignored):
    data = _read(root, label_space=[f"c{n}" for n in range(classes)])
    assert data.label_space.ignore_index == ignored
    (root / "a/truth/008.png").unlink()
    data = _read(root, label_space=[f"c{n}" for n in range(classes)], frames=3, all_labelled=False)
    assert data[0].labels[0].unique().tolist() == [ignored]


def test_numbers_outside_16_bits_are_ids_that_nobody_has(root):
    _, labels = _pixels(2)
    wide = labels.astype(np.int32)
    wide[0, :4] = [-1, 2**16, 2**16 + 1, -(2**31)]
    _save(root / "b/truth/002.tif", wide)
    (root / "b/truth/002.png").unlink()
    given = {"labels": "{sequence}/truth/{number:03}.*", "label_map": {0: 0, 1: 1, 2: 2, 65535: 1}}
    with pytest.raises(ValueError, match=r"002\.tif must hold the ids .*; got -2147483648, -1, 65536, 65537\.$"):
        _read(root, **given)[4]
    read = _read(root, **given, other_ids="ignore")[4].labels[0]
    assert read[0, :4].tolist() == [255] * 4
    assert torch.equal(read[1:], torch.from_numpy(labels[1:]).long())
