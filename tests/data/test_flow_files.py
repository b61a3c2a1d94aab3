import contextlib
import re
import struct
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from files_by_hand import png_head
from hypothesis import given
from hypothesis import strategies as st

from dastc.data import flow_files, read_flow, write_flow

FORMATS = [("a.npy", "int16"), ("a.npy", "float16"), ("a.npy", "float32"), ("a.flo", None), ("a.png", None)]
FLOW = torch.tensor([[[1.5, -2.25, 0.0], [100.0, -300.5, 7.0]], [[-0.5, 0.25, 3.0], [0.0, 511.0, -512.0]]])
UNKNOWN = FLOW.clone()
UNKNOWN[0, 1, 2] = torch.nan


@pytest.mark.parametrize(("name", "dtype"), FORMATS)
def test_what_is_written_is_read(tmp_path, name, dtype):
    write_flow(tmp_path / name, FLOW, dtype=dtype)
    got = read_flow(str(tmp_path / name))
    assert got.dtype == torch.float32
    assert got.is_contiguous()
    torch.testing.assert_close(got, FLOW, rtol=0, atol=0.0501 if dtype == "int16" else 0)


def test_threads_parse_one_header_at_a_time(tmp_path, monkeypatch):
    write_flow(tmp_path / "a.npy", FLOW)
    inside, most, real = [], [], np.lib.format.open_memmap

    def slow(*args, **kwargs):
        inside.append(1)
        most.append(len(inside))
        time.sleep(0.02)
        inside.pop()
        return real(*args, **kwargs)

    monkeypatch.setattr(np.lib.format, "open_memmap", slow)
    with ThreadPoolExecutor(4) as pool:
        assert len(list(pool.map(read_flow, [tmp_path / "a.npy"] * 8))) == 8
    assert most == [1] * 8  # Python 3.11 fails at two


@pytest.mark.parametrize(("name", "dtype"), FORMATS[1:])
def test_an_unknown_pixel_is_nan_in_both_channels(tmp_path, name, dtype):
    write_flow(tmp_path / name, UNKNOWN, dtype=dtype)
    got = read_flow(tmp_path / name)
    assert got[:, 1, 2].isnan().all()
    got[:, 1, 2] = FLOW[:, 1, 2]
    assert torch.equal(got, FLOW)


@given(st.lists(st.floats(-512, 511, width=32), min_size=2, max_size=2))
def test_each_format_rounds_to_its_nearest_step(tmp_path_factory, values):
    folder = tmp_path_factory.mktemp("flow")
    flow = torch.tensor(values).view(2, 1, 1)
    for name, step in (("a.npy", 0.1), ("a.png", 1 / 64), ("a.flo", 0)):
        write_flow(folder / name, flow)
        assert (read_flow(folder / name) - flow).abs().max() <= step / 2 + 1e-4 * (step > 0)


def test_the_released_npy_is_tenths_of_pixels_dx_first(tmp_path):
    stored = np.array([[[-15, 20], [7, 0], [0, 32767]]], dtype=np.int16)
    np.save(tmp_path / "a.npy", stored)
    got = read_flow(tmp_path / "a.npy")
    assert got.shape == (2, 1, 3)
    torch.testing.assert_close(got, torch.tensor([[[-1.5, 0.7, 0.0]], [[2.0, 0.0, 3276.7]]]))
    write_flow(tmp_path / "b.npy", got)
    assert np.array_equal(np.load(tmp_path / "b.npy"), stored)


@pytest.mark.parametrize("kind", [">i2", "<f2", "<f4", ">f8"])
def test_floats_are_pixels_and_byte_order_does_not_matter(tmp_path, kind):
    np.save(tmp_path / "a.npy", np.asfortranarray(np.arange(12).reshape(3, 2, 2)).astype(kind))
    got = read_flow(tmp_path / "a.npy") * (10 if "i" in kind else 1)
    torch.testing.assert_close(got, torch.arange(12.0).view(3, 2, 2).permute(2, 0, 1))


def test_numbers_that_are_not_finite_are_unknown(tmp_path):
    np.save(tmp_path / "a.npy", np.array([[[np.inf, 1], [2, 3]]], dtype=np.float16))
    assert read_flow(tmp_path / "a.npy").isnan().tolist() == [[[True, False]], [[True, False]]]


def test_flo_is_written_byte_for_byte(tmp_path):
    write_flow(tmp_path / "a.flo", FLOW)
    wanted = b"PIEH" + struct.pack("<ii", 3, 2) + FLOW.permute(1, 2, 0).numpy().astype("<f4").tobytes()
    assert (tmp_path / "a.flo").read_bytes() == wanted


def test_png_is_as_kitti_describes_it(tmp_path):
    cv2 = pytest.importorskip("cv2", reason="KITTI's format needs OpenCV")
    write_flow(tmp_path / "a.png", UNKNOWN)
    blue, green, red = np.moveaxis(cv2.imread(str(tmp_path / "a.png"), cv2.IMREAD_UNCHANGED), 2, 0).astype(int)
    assert red.tolist()[0] == [32768 + 96, 32768 - 144, 32768]  # dx
    assert green.tolist()[0] == [32768 - 32, 32768 + 16, 32768 + 192]  # dy
    assert blue.tolist() == [[1, 1, 1], [1, 1, 0]]
    assert red[1, 2] == green[1, 2] == 0


def _nothing(_):
    pass


def _npy(array):
    return lambda path: np.save(path, array, allow_pickle=True)


def _content(content):
    return lambda path: path.write_bytes(content)


def _png(array):
    def write(path):
        cv2 = pytest.importorskip("cv2", reason="KITTI's format needs OpenCV")
        cv2.imwrite(str(path), array)

    return write


@pytest.mark.parametrize(
    ("name", "make", "kind", "message"),
    [
        ("a.npy", _nothing, RuntimeError, r"is missing\.$"),
        ("a.flo", _nothing, RuntimeError, r"is missing\.$"),
        ("a.png", _nothing, RuntimeError, r"is missing\.$"),
        ("a.flo", lambda path: path.mkdir(), RuntimeError, r"cannot be read .*Name a file, not a folder\.$"),
        ("a.npy", _content(b""), RuntimeError, r"cannot be read \(.*Fetch the file again"),
        ("a.npy", _content(b"PK\x03\x04" + bytes(99)), RuntimeError, "cannot be read"),
        ("a.npy", _npy(np.array([{"a": 1}])), RuntimeError, "cannot be read .*Python objects"),
        ("a.npy", _npy(np.zeros((2, 3, 2), np.int32)), ValueError, "must hold int16 .* or float .*; got int32"),
        ("a.npy", _npy(np.zeros((2, 3, 2), np.uint16)), ValueError, "got uint16"),
        ("a.npy", _npy(np.zeros((2, 3, 4), np.int16)), ValueError, r"shape \(H, W, 2\); got \(2, 3, 4\)"),
        ("a.npy", _npy(np.zeros((3, 2), np.int16)), ValueError, r"shape \(H, W, 2\); got \(3, 2\)"),
        ("a.flo", _content(b""), RuntimeError, "must begin with b'PIEH'.*; got b''"),
        ("a.flo", _content(b"HEIP" + bytes(40)), RuntimeError, "must begin with b'PIEH'.*; got b'HEIP'"),
        ("a.flo", _content(b"PIEH" + bytes(4)), RuntimeError, "header of 12 bytes; got 8"),
        ("a.flo", _content(b"PIEH" + struct.pack("<ii", 3, 2) + bytes(47)), RuntimeError, "60 bytes.*; got 59"),
        ("a.flo", _content(b"PIEH" + struct.pack("<ii", 3, 2) + bytes(49)), RuntimeError, "60 bytes.*; got 61"),
        ("a.flo", _content(b"PIEH" + struct.pack("<ii", -1, -1) + bytes(8)), RuntimeError, r"\(H=-1, W=-1\)"),
        ("a.png", _content(b""), RuntimeError, "cannot be read as PNG"),
        ("a.png", _content(b"\x89PNG\r\n\x1a\n" + bytes(30)), RuntimeError, "cannot be read as PNG"),
        ("a.png", _content(png_head(300, 200, 16, 2)), RuntimeError, r"long enough .*\(H=200, W=300\); got 6\d bytes"),
        ("a.png", _content(png_head(5, 2**31, 16, 2)), RuntimeError, r"long enough .*\(H=2147483648, W=5\); got"),
        (
            "a.png",
            _content(png_head(8000, 5000, 16, 2) + bytes(300_000)),
            RuntimeError,
            r"at most 33554432 pixels.*\(H=5",
        ),
        ("a.png", _content(b"\xff\xd8\xff" + bytes(30)), RuntimeError, "cannot be read as PNG"),
        ("a.png", _png(np.zeros((4, 5, 3), np.uint8)), ValueError, r"16-bit RGB.*got uint8 of shape \(4, 5, 3\)"),
        ("a.png", _png(np.zeros((4, 5), np.uint16)), ValueError, r"16-bit RGB.*got uint16 of shape \(4, 5\)"),
    ],
    ids=lambda value: str(value)[:24],
)
def test_bad_files_are_named(tmp_path, name, make, kind, message):
    make(tmp_path / name)
    with pytest.raises(kind, match=re.escape(f"read_flow: {tmp_path / name} ") + f".*{message}"):
        read_flow(tmp_path / name)


@pytest.mark.parametrize(("name", "dtype"), FORMATS)
def test_a_file_cut_anywhere_is_an_error(tmp_path, name, dtype):
    write_flow(tmp_path / name, FLOW, dtype=dtype)
    content = (tmp_path / name).read_bytes()
    for length in {*range(0, len(content), 11), len(content) - 1}:
        (tmp_path / name).write_bytes(content[:length])
        with pytest.raises(RuntimeError, match=re.escape(f"read_flow: {tmp_path / name} ")):
            read_flow(tmp_path / name)


def test_a_wrong_length_is_told_before_the_file_is_read(tmp_path):
    with (tmp_path / "a.flo").open("wb") as file:
        file.write(b"PIEH" + struct.pack("<ii", 4, 4))
        file.truncate(2**40)  # a terabyte that the disk does not have to hold
    with pytest.raises(RuntimeError, match=rf"must hold 140 bytes for its size, \(H=4, W=4\); got {2**40}\.$"):
        read_flow(tmp_path / "a.flo")


@contextlib.contextmanager
def named_errors(path):
    try:
        yield
    except Exception as error:
        if not re.match(f"read_flow: {re.escape(str(path))} (must|cannot) ", str(error)):
            raise AssertionError(f"not a named error: {error!r}") from error
        raise


@given(place=st.integers(0, 127), value=st.integers(0, 255))
def test_a_damaged_header_is_never_anything_but_a_named_error(tmp_path_factory, place, value):
    path = tmp_path_factory.mktemp("flow") / "a.npy"
    write_flow(path, FLOW, dtype="float32")
    content = bytearray(path.read_bytes())
    content[place] = value
    path.write_bytes(content)
    with contextlib.suppress(RuntimeError, ValueError), named_errors(path):
        assert read_flow(path).shape[0] == 2


@pytest.mark.parametrize(
    ("name", "flow", "dtype", "kind", "message"),
    [
        ("a.txt", FLOW, None, ValueError, r"`path` must end in one of \.npy, \.flo, \.png; got .*a\.txt"),
        ("a.npy", FLOW[:1], None, ValueError, r"`flow` must have shape \(2, H, W\); got \(1, 2, 3\)"),
        ("a.npy", FLOW[:, :0], None, ValueError, "`flow` must have a size of at least 1 along H"),
        ("a.npy", FLOW.long(), None, TypeError, "`flow` must be of dtype float; got torch.int64"),
        ("a.npy", FLOW, "int8", ValueError, "`dtype` must be one of 'int16', 'float16', 'float32'; got 'int8'"),
        ("a.flo", FLOW, "float16", ValueError, r"`dtype` must be None for \.flo, which has its own; got 'float16'"),
        ("a.npy", UNKNOWN, None, ValueError, r"must be known everywhere for int16 \(.*a\.npy\); got NaN"),
        ("a.npy", FLOW * 10, None, ValueError, r"lie in \[-3276.7, 3276.7\] for .*a\.npy; got \[-5120, 5110\]"),
        ("a.npy", FLOW * 1e3, "float16", ValueError, r"lie in \[-65504, 65504\]"),
        ("a.npy", FLOW / 0, "float16", ValueError, r"lie in \[-65504, 65504\] for .*; got \[-inf, inf\]"),
        ("a.flo", FLOW * 1e7, None, ValueError, r"lie in \[-1e\+09, 1e\+09\]"),
        ("a.png", FLOW + 1, None, ValueError, r"lie in \[-512, 511.984\] for .*; got \[-511, 512\]"),
        ("no/a.npy", FLOW, None, RuntimeError, r"no/a\.npy cannot be written \(FileNotFoundError"),
        ("file/a.flo", FLOW, None, RuntimeError, r"file/a\.flo cannot be written \(NotADirectoryError"),
        ("folder.flo", FLOW, None, RuntimeError, r"folder\.flo cannot be written \(IsADirectoryError"),
    ],
    ids=lambda value: str(value)[:16],
)
def test_what_cannot_be_written_is_an_error_and_leaves_nothing(tmp_path, name, flow, dtype, kind, message):
    (tmp_path / "file").write_text("")
    (tmp_path / "folder.flo").mkdir()
    with pytest.raises(kind, match=f"write_flow: .*{message}"):
        write_flow(tmp_path / name, flow, dtype=dtype)
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["file", "folder.flo"]


def test_an_older_file_is_replaced_and_no_other_is_left(tmp_path):
    for flow in (FLOW, FLOW * 2):
        write_flow(tmp_path / "a.flo", flow)
    assert torch.equal(read_flow(tmp_path / "a.flo"), FLOW * 2)
    assert [path.name for path in tmp_path.iterdir()] == ["a.flo"]


def test_an_unknown_suffix_is_not_read(tmp_path):
    with pytest.raises(ValueError, match=r"read_flow: `path` must end in one of \.npy, \.flo, \.png; got .*a\.exr"):
        read_flow(tmp_path / "a.exr")


def test_without_opencv_only_png_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(flow_files, "find_spec", lambda _: None)
    for call in (lambda path: write_flow(path, FLOW), read_flow):
        with pytest.raises(RuntimeError, match=r'needs OpenCV, .* Install it with `pip install "dastc\[flow\]"`'):
            call(tmp_path / "a.png")
        call(tmp_path / "a.flo")
