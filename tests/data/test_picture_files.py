"""Pictures come as viewers show them, whatever mode Pillow opens them in."""

import numpy as np
import pytest
from files_by_hand import png, png_head, tiff
from PIL import Image

from dastc.data.picture_files import read_picture

UPRIGHT = np.arange(24, dtype=np.uint8).reshape(4, 6) * 10  # no turn or mirror leaves it as it is
# what lies in a file whose EXIF orientation is this number
STORED = {
    1: UPRIGHT, 2: UPRIGHT[:, ::-1], 3: UPRIGHT[::-1, ::-1], 4: UPRIGHT[::-1],
    5: UPRIGHT.T, 6: np.rot90(UPRIGHT), 7: UPRIGHT[::-1, ::-1].T, 8: np.rot90(UPRIGHT, -1),
}  # fmt: skip
LEVELS = np.array([[0, 255, 256, 4095], [30000, 32768, 65279, 65535]])
UPPER = (LEVELS >> 8).astype(np.uint8)


def _rgb(path):
    return read_picture("Me", path, None).rgb.numpy()


def _written(path, content):
    path.write_bytes(content)
    return path


def test_rows_are_cut_before_resizing(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (6, 4, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "x.png")
    picture = read_picture("Me", tmp_path / "x.png", (8, 8), cut=2)
    want = np.array(Image.fromarray(pixels[:4]).resize((8, 8), Image.Resampling.BILINEAR))
    assert np.array_equal(picture.rgb.numpy(), want)
    assert picture.own == (6, 4)
    with pytest.raises(
        ValueError, match=r"x\.png must have more rows than the 6 to cut off; got \(H, W\) = \(6, 4\)\.$"
    ):
        read_picture("Me", tmp_path / "x.png", None, cut=6)


@pytest.mark.parametrize("orientation", STORED)
@pytest.mark.parametrize("suffix", ["png", "tif", "jpg", "webp"])
def test_an_orientation_is_undone(tmp_path, orientation, suffix):
    exif = Image.Exif()
    exif[0x0112] = orientation
    # big blocks survive the loss of JPEG
    stored = np.ascontiguousarray(STORED[orientation]).repeat(16, 0).repeat(16, 1)
    Image.fromarray(stored).convert("RGB").save(tmp_path / f"x.{suffix}", exif=exif, quality=100)
    picture = read_picture("Me", tmp_path / f"x.{suffix}", None)
    assert picture.own == (64, 96)
    assert picture.turned == (orientation > 1)
    assert np.abs(picture.rgb.numpy()[8::16, 8::16, 0].astype(int) - UPRIGHT).max() <= 3


def test_rows_are_cut_from_what_is_shown(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(np.ascontiguousarray(STORED[6])).save(tmp_path / "x.png", exif=exif)
    assert np.array_equal(read_picture("Me", tmp_path / "x.png", None, cut=1).rgb.numpy()[..., 0], UPRIGHT[:3])


def test_garbled_exif_beside_sound_pixels_is_no_fault(tmp_path):
    Image.fromarray(UPRIGHT).save(tmp_path / "x.png", exif=b"Exif\0\0II*\0\xff\xff\xff\x00nonsense")
    picture = read_picture("Me", tmp_path / "x.png", None)
    assert np.array_equal(picture.rgb.numpy()[..., 0], UPRIGHT)
    assert not picture.turned


def _pgm(most):
    return b"P5 4 2 %d\n" % most + LEVELS.astype(">u2").tobytes()


@pytest.mark.parametrize(
    "content",
    [png(LEVELS, 16), tiff(LEVELS.astype("<u2")), tiff(LEVELS.astype(">u2")), _pgm(65535)],
    ids=["png", "tiff", "big-endian tiff", "pgm"],
)
def test_of_16_bits_of_grey_the_upper_8_are_kept(tmp_path, content):
    rgb = _rgb(_written(tmp_path / "x", content))
    assert np.array_equal(rgb, UPPER[..., None].repeat(3, axis=2))


def test_grey_of_other_depths_keeps_its_brightness(tmp_path):
    twelve = tiff((LEVELS >> 4).astype("<u2"), bits=12)
    assert np.array_equal(_rgb(_written(tmp_path / "12.tif", twelve))[..., 0], UPPER)
    dark = tiff(LEVELS.astype("<u2"), photometric=0)  # 0 is white
    assert np.array_equal(_rgb(_written(tmp_path / "0.tif", dark))[..., 0], 255 - UPPER)
    for bits in (1, 2, 4):
        values = np.arange(8).reshape(2, 4) % 2**bits
        rgb = _rgb(_written(tmp_path / f"{bits}.png", png(values, bits)))
        assert np.array_equal(rgb[..., 1], values * 255 // (2**bits - 1))
    maxval = _written(tmp_path / "x.pgm", b"P5 3 1 18\n" + bytes([0, 9, 18]))
    assert _rgb(maxval)[0, :, 0].tolist() == [0, 128, 255]


def test_transparency_is_dropped_and_colours_stay(tmp_path):
    colours = np.array([[[200, 10, 30, 0], [1, 2, 3, 255]]], np.uint8)
    Image.fromarray(colours).save(tmp_path / "rgba.png")
    assert np.array_equal(_rgb(tmp_path / "rgba.png"), colours[..., :3])
    palette = Image.fromarray(np.array([[0, 1]], np.uint8))
    palette.putpalette(colours[0, :, :3].flatten().tolist())
    palette.save(tmp_path / "p.png", transparency=bytes([0, 255]))  # of which Pillow warns
    assert np.array_equal(_rgb(tmp_path / "p.png"), colours[..., :3])
    Image.fromarray(np.array([[[70, 0], [90, 255]]], np.uint8)).save(tmp_path / "la.png")
    assert _rgb(tmp_path / "la.png")[0, :, 2].tolist() == [70, 90]


@pytest.mark.parametrize("kind", ["<f4", ">f4", "<i4", "<u4", "<i2"])
def test_values_without_a_known_range_are_refused(tmp_path, kind):
    path = _written(tmp_path / "x.tif", tiff(LEVELS.astype(kind)))
    mode = "F" if "f" in kind else "I"
    with pytest.raises(
        ValueError, match=rf"^Me: .*x\.tif must hold grey or colours of 8 or 16 bits.*; got .* mode {mode}\. Convert"
    ):
        read_picture("Me", path, None)


def test_a_colour_space_that_is_not_shown_is_refused(tmp_path):
    Image.new("LAB", (4, 4)).save(tmp_path / "x.tif")
    with pytest.raises(ValueError, match=r"x\.tif must hold grey or colours .*; got a picture of mode LAB\. Convert"):
        read_picture("Me", tmp_path / "x.tif", None)


def test_cmyk_becomes_rgb(tmp_path):
    Image.new("RGB", (16, 16), (255, 0, 0)).convert("CMYK").save(tmp_path / "x.jpg", quality=100)
    assert np.abs(_rgb(tmp_path / "x.jpg")[4, 4].astype(int) - [255, 0, 0]).max() <= 4


def test_a_picture_beyond_the_limit_says_how_to_raise_it(tmp_path):
    path = _written(tmp_path / "x.png", png_head(20_000, 20_000))
    with pytest.raises(
        RuntimeError,
        match=r"^Me: .*x\.png cannot be read \(DecompressionBombError: .*raise `PIL\.Image\.MAX_IMAGE_PIXELS",
    ):
        read_picture("Me", path, None)


def test_a_format_that_pillow_does_not_know_is_to_be_converted(tmp_path):
    path = _written(tmp_path / "x.jpg", b"\0\0\0\x18ftypheic" + bytes(64))
    with pytest.raises(RuntimeError, match=r"x\.jpg cannot be read \(UnidentifiedImageError.*convert it to PNG\.$"):
        read_picture("Me", path, None)
