"""Ids are what the file holds, or the file is refused by name."""

import cv2
import numpy as np
import pytest
from files_by_hand import png, tiff
from PIL import Image

from dastc.data.id_pictures import nearest, read_ids

IDS = np.array([[0, 1, 2, 3, 1], [3, 3, 0, 2, 1]])


def _read(path, content):
    path.write_bytes(content)
    return read_ids("Me", path).ids


@pytest.mark.parametrize("size", [(1, 1), (5, 3), (40, 64)])
@pytest.mark.parametrize("channels", [3, 4])
def test_ids_in_the_first_of_16_bit_channels_are_read(tmp_path, size, channels):
    pixels = np.random.default_rng(0).integers(0, 2**16, (*size, channels)).astype(np.uint16)
    pixels[..., 0] %= 256  # ids; the rest is numbers of instances
    # smooth rows, so that the writer chooses among PNG's filters
    pixels[..., 1] = np.arange(size[1])
    cv2.imwrite(str(tmp_path / "x.png"), pixels[..., [2, 1, 0, 3][:channels]])
    assert np.array_equal(read_ids("Me", tmp_path / "x.png", first_channel=True).ids, pixels[..., 0])
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
        assert np.array_equal(read_ids("Me", tmp_path / name, first_channel=first_channel).ids, ids)


@pytest.mark.parametrize("colour", [0, 3])
@pytest.mark.parametrize("bits", [1, 2, 4, 8])
def test_png_of_few_bits_is_not_spread(tmp_path, bits, colour):
    ids = IDS % 2**bits
    assert np.array_equal(_read(tmp_path / "x.png", png(ids, bits, colour)), ids)
    assert _read(tmp_path / "x.png", png(IDS * 0 + 2**bits - 1, bits, colour)).max() == 2**bits - 1


@pytest.mark.parametrize("bits", [2, 4, 8])
def test_tiff_of_few_bits_is_not_spread(tmp_path, bits):
    assert np.array_equal(_read(tmp_path / "x.tif", tiff(IDS.astype("u1"), bits=bits)), IDS)


@pytest.mark.parametrize("kind", ["<u2", ">u2", "<i2", ">i2", "<i4", ">i4", "<u4", "<f4", ">f4"])
def test_tiff_of_any_kind_and_order_of_bytes(tmp_path, kind):
    ids = IDS * 300
    got = _read(tmp_path / "x.tif", tiff(ids.astype(kind)))
    assert np.array_equal(got, ids)
    assert got.dtype.kind in "iu"
    assert got.dtype.isnative
    assert np.array_equal(nearest(got, (4, 10)), ids.repeat(2, 0).repeat(2, 1))


@pytest.mark.parametrize("kind", ["i1", "<i2", "<i4"])
def test_signs_are_kept(tmp_path, kind):
    ids = np.where(IDS == 3, -1, IDS)
    assert np.array_equal(_read(tmp_path / "x.tif", tiff(ids.astype(kind))), ids)


def test_tiff_of_12_bits(tmp_path):
    ids = IDS[:, :4] * 1000
    assert np.array_equal(_read(tmp_path / "x.tif", tiff(ids.astype("<u2"), bits=12)), ids)


@pytest.mark.parametrize("most", [3, 18, 100, 254, 255, 256, 1000, 65534, 65535])
def test_pgm_of_any_largest_value(tmp_path, most):
    ids = np.minimum(np.arange(256).reshape(16, 16) * 257, most)
    binary = b"P5 16 16 %d\n" % most + ids.astype("u1" if most < 256 else ">u2").tobytes()
    assert np.array_equal(_read(tmp_path / "x.pgm", binary), ids)
    plain = b"P2 16 16 %d\n" % most + b" ".join(b"%d" % one for one in ids.flat)
    assert np.array_equal(_read(tmp_path / "x.pgm", plain), ids)


@pytest.mark.parametrize("suffix", ["png", "bmp", "gif", "tga"])
def test_an_index_of_a_palette_is_the_id(tmp_path, suffix):
    picture = Image.fromarray(IDS.astype(np.uint8))
    picture.putpalette([9, 8, 7, 0, 0, 0, 255, 255, 255, 7, 7, 7])
    picture.save(tmp_path / f"x.{suffix}")
    got = read_ids("Me", tmp_path / f"x.{suffix}")
    if suffix == "gif":  # whose writer puts the palette into an order of its own
        assert [got.palette[one] for one in got.ids.flat] == [picture.convert("RGB").getpixel((x, y)) for y in (0, 1)
                                                             for x in range(5)]  # fmt: skip
    else:
        assert np.array_equal(got.ids, IDS)
        assert got.palette[:4] == ((9, 8, 7), (0, 0, 0), (255, 255, 255), (7, 7, 7))


def test_labels_are_turned_as_their_own_orientation_asks(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(np.rot90(IDS).astype(np.uint8)).save(tmp_path / "x.png", exif=exif)
    got = read_ids("Me", tmp_path / "x.png")
    assert np.array_equal(got.ids, IDS)
    assert got.turned


def test_no_data_as_float_is_an_id_that_nobody_has(tmp_path):
    values = IDS.astype("<f4")
    values[0, :4] = [np.nan, -9999, np.inf, 1e20]
    assert _read(tmp_path / "x.tif", tiff(values))[0].tolist() == [-1, -1, -1, 2**16, 1]


def test_fractions_are_refused(tmp_path):
    with pytest.raises(ValueError, match=r"^Me: .*x\.tif must hold whole numbers.*; got 0\.5\. Save indices, not"):
        _read(tmp_path / "x.tif", tiff((IDS / 2).astype("<f4")))


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("x.pbm", b"P4 8 1\n\xaa"),
        ("x.pbm", b"P1 4 1\n0 1 0 1"),
        ("x.tif", tiff(IDS.astype("u1"), photometric=0)),
        ("x.tif", tiff(IDS.astype("u1"), photometric=0, bits=2)),
        ("x.tif", tiff(IDS.astype("<u2"), photometric=0)),
    ],
    ids=["pbm", "plain pbm", "tiff", "tiff of 2 bits", "tiff of 16 bits"],
)
def test_files_that_count_down_from_white_are_refused(tmp_path, name, content):
    with pytest.raises(
        ValueError, match=r"must count ids from 0; got a .* file in which 0 is white.*Save it as PNG\.$"
    ):
        _read(tmp_path / name, content)


@pytest.mark.parametrize("kind", [np.uint8, np.uint16, np.int32])
def test_ids_are_resized_by_nearest_pixel(kind):
    ids = np.arange(6, dtype=kind).reshape(2, 3) * 50
    want = ids.repeat(2, axis=0).repeat(3, axis=1)
    assert np.array_equal(nearest(ids, (4, 9)), want)
    assert np.array_equal(nearest(want, (2, 3)), ids)
    assert nearest(ids, None) is ids


@pytest.mark.parametrize(
    ("picture", "name", "advice"),
    [
        (Image.new("RGB", (4, 4), (1, 2, 3)), "x.png", r"mode RGB\. Convert colours with LabelSpace\.ids_from_colours"),
        (Image.new("RGB", (4, 4), (3, 3, 3)), "x.png", r"mode RGB\. Its channels are equal: save one of them, as PNG"),
        (Image.new("L", (4, 4), 3), "x.webp", r"Its channels are equal: .* WebP and AVIF have no pictures of one"),
        (Image.new("RGBA", (4, 4), (3, 3, 3, 255)), "x.png", r"mode RGBA\. Its channels are equal"),
        (Image.new("LA", (4, 4), (3, 255)), "x.png", r"mode LA\. Save it without transparency"),
        (Image.new("CMYK", (4, 4), (3, 9, 1, 0)), "x.tif", r"mode CMYK\. Convert colours with"),
    ],
    ids=lambda value: value.mode if isinstance(value, Image.Image) else value[:12],
)
def test_more_than_an_index_is_refused_with_advice_that_fits(tmp_path, picture, name, advice):
    picture.save(tmp_path / name, **({"lossless": True} if name == "x.webp" else {}))
    for first_channel in (False, True):
        with pytest.raises(ValueError, match=rf"must hold one class index per pixel; got a picture of {advice}"
                           if advice.startswith("mode") else advice):  # fmt: skip
            read_ids("Me", tmp_path / name, first_channel=first_channel)


def test_loss_is_told(tmp_path):
    picture = Image.fromarray(IDS.astype(np.uint8).repeat(32, 0).repeat(32, 1))
    files = {
        "a.png": ({}, ""), "b.jpg": ({"quality": 100}, "JPEG"), "c.tif": ({"compression": "jpeg"}, "JPEG in TIFF"),
        "d.tif": ({"compression": "tiff_lzw"}, ""), "e.jp2": ({"irreversible": True}, "JPEG 2000"),
        "f.jp2": ({"irreversible": False}, ""), "g.bmp": ({}, ""),
    }  # fmt: skip
    for name, (options, lossy) in files.items():
        picture.save(tmp_path / name, **options)
        got = read_ids("Me", tmp_path / name)
        assert got.lossy == lossy, name
        assert lossy or np.array_equal(got.ids, np.array(picture)), name


def test_jpeg_2000_of_other_depths_is_refused(tmp_path):
    Image.new("L", (64, 64), 3).save(tmp_path / "x.jp2")
    content = bytearray((tmp_path / "x.jp2").read_bytes())
    content[content.index(b"\xff\x4f\xff\x51") + 42] = 3  # 4 bits
    with pytest.raises((ValueError, RuntimeError), match=r"x\.jp2 .*JPEG 2000; got 4|x\.jp2 cannot be read"):
        _read(tmp_path / "x.jp2", bytes(content))


def test_a_missing_file_is_missing_not_broken(tmp_path):
    with pytest.raises(RuntimeError, match=r"^Me: .*x\.png is missing\.$"):
        read_ids("Me", tmp_path / "x.png")
