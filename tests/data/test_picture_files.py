import cv2
import numpy as np
import pytest
from PIL import Image

from dastc.data.picture_files import nearest, read_ids, read_picture


@pytest.mark.parametrize("size", [(1, 1), (5, 3), (40, 64)])
@pytest.mark.parametrize("channels", [3, 4])
def test_ids_in_the_first_of_16_bit_channels_are_read(tmp_path, size, channels):
    pixels = np.random.default_rng(0).integers(0, 2**16, (*size, channels)).astype(np.uint16)
    pixels[..., 0] %= 256  # ids; the rest is numbers of instances
    # smooth rows, so that the writer chooses among PNG's filters
    pixels[..., 1] = np.arange(size[1])
    cv2.imwrite(str(tmp_path / "x.png"), pixels[..., [2, 1, 0, 3][:channels]])
    assert np.array_equal(read_ids("Me", tmp_path / "x.png", first_channel=True), pixels[..., 0])
    # other data sets have no ids in channels, and 8 of the 16 bits would be lost
    with pytest.raises(
        ValueError, match=r"^Me: .*x.png must hold one class index per pixel; got a picture of mode RGB"
    ):
        read_ids("Me", tmp_path / "x.png")


def test_the_writer_of_the_miniature_trees_agrees_with_another_reader(tmp_path, miniature):
    ids = miniature.ids("synthia_seq", 0, (12, 14))
    miniature.save_16_bit(tmp_path / "x.png", ids)
    blue_first = cv2.imread(str(tmp_path / "x.png"), cv2.IMREAD_UNCHANGED)
    assert blue_first.dtype == np.uint16
    assert np.array_equal(blue_first[..., 2], ids)
    assert np.array_equal(blue_first[..., 1], ids.astype(int) + 300)


@pytest.mark.parametrize("kind", [np.uint8, np.uint16, np.int32])
def test_one_channel_is_read_as_it_is_with_and_without_channels_allowed(tmp_path, kind):
    ids = np.random.default_rng(0).integers(0, 250, (5, 6)).astype(kind)
    if kind != np.uint8:
        ids[0, 0] = 40000
    name = "x.tif" if kind == np.int32 else "x.png"  # PNG has no 32 bits
    Image.fromarray(ids).save(tmp_path / name)
    for first_channel in (False, True):
        assert np.array_equal(read_ids("Me", tmp_path / name, first_channel=first_channel), ids)


@pytest.mark.parametrize("kind", [np.uint8, np.uint16, np.int32])
def test_ids_are_resized_by_nearest_pixel(kind):
    ids = np.arange(6, dtype=kind).reshape(2, 3) * 50
    want = ids.repeat(2, axis=0).repeat(3, axis=1)
    assert np.array_equal(nearest(ids, (4, 9)), want)
    assert np.array_equal(nearest(want, (2, 3)), ids)
    assert nearest(ids, None) is ids


def test_8_bit_colours_are_refused_with_the_converter_named(tmp_path):
    Image.new("RGB", (4, 4)).save(tmp_path / "x.png")
    for first_channel in (False, True):
        with pytest.raises(ValueError, match=r"mode RGB\. Convert colours with LabelSpace\.ids_from_colours\.$"):
            read_ids("Me", tmp_path / "x.png", first_channel=first_channel)


def test_rows_are_cut_before_resizing(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (6, 4, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "x.png")
    picture, own = read_picture("Me", tmp_path / "x.png", (8, 8), cut=2)
    want = np.array(Image.fromarray(pixels[:4]).resize((8, 8), Image.Resampling.BILINEAR))
    assert np.array_equal(picture.numpy(), want)
    assert own == (6, 4)
    with pytest.raises(
        ValueError, match=r"x\.png must have more rows than the 6 to cut off; got \(H, W\) = \(6, 4\)\.$"
    ):
        read_picture("Me", tmp_path / "x.png", None, cut=6)


def test_a_missing_file_is_missing_not_broken(tmp_path):
    with pytest.raises(RuntimeError, match=r"^Me: .*x\.png is missing\.$"):
        read_ids("Me", tmp_path / "x.png")
