"""What check() says of the classes: shares, classes that are nowhere, and labels that cannot be what was drawn."""

import numpy as np
import pytest
from PIL import Image

from dastc.data import FolderClips, LabelSpace
from dastc.data.class_shares import ClassShare, table
from dastc.data.label_look import looks_smooth

NAMES = ("sky", "road", "car")


@pytest.fixture
def make(tmp_path):
    """Return a function that writes labels, and black pictures for them, and checks the folder."""

    def check(labels, *, names=NAMES, suffix="png", save=None, **rest):
        for n, one in enumerate(labels):
            picture = one if isinstance(one, Image.Image) else Image.fromarray(np.asarray(one))
            Image.new("RGB", picture.size).save(tmp_path / f"image_{n}.png")
            picture.save(tmp_path / f"label_{n}.{suffix}", **(save or {}))
        patterns = {"images": "image_{number}.png", "labels": f"label_{{number}}.{suffix}"}
        return FolderClips(tmp_path, **patterns, label_space=names, **rest).check(progress=False)

    return check


def _areas(*ids, size=40):
    """A disc of the second id before the first, of the third within it."""
    y, x = np.mgrid[:size, :size] - size / 2
    labels = np.full((size, size), ids[0], np.uint8)
    for rank, one in enumerate(ids[1:]):
        labels[x**2 + y**2 < (size / (2.5 + 2 * rank)) ** 2] = one
    return labels


def test_shares_are_of_the_labelled_pixels(make):
    first, second = np.zeros((4, 5), np.uint8), np.full((4, 5), 255, np.uint8)
    first[0], second[0, 0] = 2, 0
    report = make([first, second])
    assert report.ok
    assert report.shares == (ClassShare("sky", 16 / 21, 2), ClassShare("road", 0, 0), ClassShare("car", 5 / 21, 1))
    assert report.notes == ("1 of 3 classes are in no label file: road.",)
    assert str(report).splitlines()[2:] == [
        "Share of the labelled pixels:",
        "   76.190 % in     2 files: sky",
        "          nowhere        : road",
        "   23.810 % in     1 file : car",
    ]


def test_shares_are_of_what_is_learnt_from(make):
    labels = np.zeros((4, 6), np.uint8)
    labels[:, 3:] = 7
    report = make([labels, labels], label_map={0: 1, 7: 0}, size=(2, 3))
    assert [share.share for share in report.shares] == [2 / 3, 1 / 3, 0]


def test_nothing_is_said_of_classes_without_labels(tmp_path):
    Image.new("RGB", (4, 4)).save(tmp_path / "image_0.png")
    report = FolderClips(tmp_path, images="image_{number}.png", label_space=NAMES).check(progress=False)
    assert report.shares == ()
    assert str(report) == "1 files opened, 1 of 1 clips usable, no problems."


@pytest.mark.parametrize(("zero", "other", "mapped"), [(0, 255, "{0: 0, 255: 1}"), (255, 1, "{1: 1, 255: 0}")])
def test_a_mask_whose_other_value_is_the_ignored_one(make, zero, other, mapped):
    report = make([_areas(zero, other), _areas(zero, other)], names=("ground", "lane"))
    missing = "lane" if zero == 0 else "ground"
    assert len(report.problems) == 1
    assert report.problems[0].startswith(f"No label file shows the class {missing}, and ")
    assert "label_0.png. If 255 in the files means " in report.problems[0]
    assert report.problems[0].endswith(f"say so: label_map={mapped}.")
    assert report.usable == (0, 1)


def test_a_mask_that_was_mapped_is_in_order(make):
    report = make([_areas(0, 255)], names=("ground", "lane"), label_map={0: 0, 255: 1})
    assert report.ok
    assert not report.notes
    assert [share.files for share in report.shares] == [1, 1]


def test_a_class_that_is_ignored_on_purpose_is_not_missed(make):
    space = LabelSpace(NAMES, ((0, 0, 0),) * 3, ignore_index=0)
    notes = make([_areas(1, 2)], names=space).notes
    assert notes == ("Label 0, sky, is also the ignored label, so that nothing learns it.",)


def test_many_classes_have_an_ignored_label_of_their_own(make):
    ids = np.arange(300, dtype=np.uint16).repeat(4).reshape(30, 40)
    names = [f"c{n}" for n in range(300)]
    report = make([ids], names=names)
    assert report.ok
    assert not report.notes
    assert {share.files for share in report.shares} == {1}
    space = LabelSpace(tuple(names), ((0, 0, 0),) * 300)
    assert make([ids], names=space).notes == ("Label 255, c255, is also the ignored label, so that nothing learns it.",)


def test_ids_that_no_class_has_are_named_with_their_number_of_files(make):
    report = make([_areas(0, 1, 9), _areas(0, 9), _areas(0, 4)], other_ids="ignore")
    assert report.notes[:2] == (
        "2 label files hold id 9, which is not defined; it is ignored.",
        "1 label files hold id 4, which is not defined; it is ignored.",
    )


@pytest.mark.parametrize("suffix", ["jpg", "tif"])
def test_labels_stored_with_loss(make, suffix):
    report = make([_areas(0, 0), _areas(0, 0)], suffix=suffix, save={"compression": "jpeg"} if suffix == "tif" else {})
    assert len(report.problems) == 1
    assert report.problems[0].startswith("2 label files are compressed with loss (JPEG")
    assert f"label_0.{suffix}: ids at edges become others. Make them again as PNG" in report.problems[0]
    assert report.usable == (0, 1)


def test_many_undefined_ids_are_told_to_come_from_loss(make, tmp_path):
    Image.fromarray(_areas(0, 100, 200)).save(tmp_path / "lossy.jpg", quality=60)
    spoilt = np.array(Image.open(tmp_path / "lossy.jpg"))  # stored as PNG, as if nothing had happened
    names = tuple(f"c{n}" for n in range(3))
    given = {"names": names, "label_map": {0: 0, 100: 1, 200: 2}}
    assert (
        "So many come from labels that were resized bilinearly or stored with loss"
        in make([spoilt], **given).problems[0]
    )
    notes = make([spoilt], **given, other_ids="ignore").notes
    assert any("ids are not defined. So many come from blending or from loss: labels are resized by nearest" in one
               for one in notes)  # fmt: skip
    assert len(notes) <= 13


def test_labels_that_were_resized_bilinearly_look_blended(make):
    clean = Image.fromarray(_areas(1, 9, 4, size=64))
    names = tuple(f"c{n}" for n in range(10))
    assert not [one for one in make([clean], names=names).notes if "blended" in one]
    report = make([clean.resize((200, 200), Image.Resampling.BILINEAR)], names=names)
    assert [one for one in report.notes if one.startswith("1 label file looks blended at edges, such as ")]
    assert not [one for one in make([clean.resize((200, 200), 0)], names=names).notes if "blended" in one]


@pytest.mark.parametrize("classes", [2, 3, 19, 200])
def test_noise_does_not_look_blended(classes):
    ids = np.random.default_rng(0).integers(0, classes, (200, 200), dtype=np.uint8)
    assert not looks_smooth(ids)
    assert not looks_smooth(ids[:3, :4])


def _with_palette(ids, *colours):
    picture = Image.fromarray(ids)
    picture.putpalette([channel for colour in colours for channel in colour])
    return picture


def test_palettes_that_disagree(make):
    red, green, blue = (255, 0, 0), (0, 255, 0), (0, 0, 255)
    same = make([_with_palette(_areas(0, 1, 2), red, green, blue), _with_palette(_areas(0, 1), red, green, red)])
    assert same.ok  # the colour of an id that is not there does not matter
    report = make([_with_palette(_areas(0, 1), red, green), _with_palette(_areas(0, 1), green, red)])
    assert len(report.problems) == 1
    assert report.problems[0].startswith("The palettes of the label files disagree on 2 ids, such as 0, which is")
    assert "(255, 0, 0) in" in report.problems[0]
    assert "LabelSpace.ids_from_colours" in report.problems[0]


def test_pictures_that_are_turned_are_noted_and_fit_what_is_shown(make, tmp_path):
    make([_areas(0, 1, 2)[:20]])
    exif = Image.Exif()
    exif[0x0112] = 8
    Image.new("RGB", (20, 40)).save(tmp_path / "image_0.png", exif=exif)
    given = {"images": "image_{number}.png", "labels": "label_{number}.png", "label_space": NAMES}
    report = FolderClips(tmp_path, **given).check(progress=False)
    assert report.ok
    assert report.notes[-1].startswith("1 picture is turned as the EXIF orientation asks, and as viewers show it, such")
    Image.fromarray(_areas(0, 1, 2)[:, :20]).save(tmp_path / "label_0.png")
    report = FolderClips(tmp_path, **given).check(progress=False)
    assert (
        "must have the size of its picture, (H=20, W=40); got (40, 20). The picture is turned as" in report.problems[0]
    )
    assert report.problems[0].endswith("remove the orientation from the picture.")


def test_a_long_table_is_cut():
    shares = tuple(ClassShare(f"c{n}", 0.0, 0) for n in range(60))
    lines = table(shares)
    assert len(lines) == 42
    assert lines[-1] == "and 20 more, in `shares`"
