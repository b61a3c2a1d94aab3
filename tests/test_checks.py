import re

import numpy as np
import pytest
import torch

from dastc import debug_checks
from dastc._core.checks import (
    check_at_least,
    check_between,
    check_choice,
    check_classes,
    check_dtype,
    check_grid,
    check_same_device,
    check_shape,
    check_size,
    check_whole,
)
from dastc._core.debug import debug_finite, debug_labels


def _raises(kind, text):
    return pytest.raises(kind, match=f"^{re.escape(text)}$")


def test_shapes_name_their_axes_and_carry_them_on():
    sizes = check_shape("f", "x", torch.zeros(2, 3, 4), "N C W")
    assert sizes == {"N": 2, "C": 3, "W": 4}
    assert check_shape("f", "y", torch.zeros(2, 7), "N K", sizes) == sizes | {"K": 7}
    with _raises(ValueError, "f: `y` must have shape (N=2, K); got (3, 7). Do this."):
        check_shape("f", "y", torch.zeros(3, 7), "N K", sizes, hint="Do this.")
    with _raises(ValueError, "f: `y` must have shape (N=2, 2, K); got (2, 7)."):
        check_shape("f", "y", torch.zeros(2, 7), "N 2 K", sizes | {"2": 2})
    with _raises(TypeError, "f: `y` must be a tensor; got int."):
        check_shape("f", "y", 3, "N")


def test_an_axis_named_twice_must_agree_with_what_is_known():
    with _raises(ValueError, "f: `x` must have shape (K=3, K=3); got (3, 4)."):
        check_shape("f", "x", torch.zeros(3, 4), "K K", {"K": 3})


@pytest.mark.parametrize(
    ("kind", "good", "bad"),
    [
        ("float", (torch.float64, torch.float32, torch.bfloat16, torch.float16), (torch.int64, torch.bool)),
        ("int64", (torch.int64,), (torch.int32, torch.uint8, torch.float32)),
        ("bool", (torch.bool,), (torch.uint8, torch.float32)),
    ],
)
def test_dtypes(kind, good, bad):
    for dtype in good:
        check_dtype("f", "x", torch.zeros(1, dtype=dtype), kind)
    for dtype in bad:
        with _raises(TypeError, f"f: `x` must be of dtype {kind}; got {dtype}."):
            check_dtype("f", "x", torch.zeros(1, dtype=dtype), kind)


def test_devices():
    here, there = torch.zeros(1), torch.zeros(1, device="meta")
    check_same_device("f", {"x": here, "y": None, "z": here})
    check_same_device("f", {})
    with _raises(ValueError, "f: all tensors must lie on one device; got `x` on cpu, `z` on meta."):
        check_same_device("f", {"x": here, "y": None, "z": there})


def test_scalars():
    check_between("f", "a", 0, 0, 1)
    check_between("f", "a", 1, 0, 1)
    check_at_least("f", "a", 2, 2)
    check_choice("f", "a", "b", ("a", "b"))
    for value in (-0.1, 1.1, float("nan")):
        with _raises(ValueError, f"f: `a` must lie in [0, 1]; got {value}."):
            check_between("f", "a", value, 0, 1)
    for value in (1.9, float("nan")):
        with _raises(ValueError, f"f: `a` must be at least 2; got {value}."):
            check_at_least("f", "a", value, 2)
    check_grid("f", "a", (1, 3))
    for grid in (8, (1,), (0, 3), (2, 1.5), (2, float("nan"))):
        rule = "must be (rows, columns), two whole numbers of at least 1"
        with _raises(ValueError, f"f: `a` {rule}; got {grid}."):
            check_grid("f", "a", grid)
    with _raises(ValueError, "f: `a` must be one of 'a', 2; got 'c'."):
        check_choice("f", "a", "c", ("a", 2))


def _noticed():
    try:
        debug_finite("f", "x", torch.tensor([1.0, float("nan")]))
    except ValueError:
        return True
    return False


def test_contents_are_checked_inside_the_block_only():
    assert not _noticed()
    with debug_checks():
        assert _noticed()
        with debug_checks(False):
            assert not _noticed()
            with debug_checks():
                assert _noticed()
            assert not _noticed()
        assert _noticed()
    assert not _noticed()


def test_an_error_leaves_the_checks_as_they_were():
    with pytest.raises(KeyError), debug_checks():
        raise KeyError
    assert not _noticed()
    with debug_checks():
        with pytest.raises(KeyError), debug_checks(False):
            raise KeyError
        assert _noticed()


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_what_is_not_finite(value):
    with debug_checks(), _raises(ValueError, "f: `x` must be finite; got NaN or infinite values."):
        debug_finite("f", "x", torch.tensor([1.0, value]))


@pytest.mark.parametrize(("labels", "low", "high"), [([0, 3, 255], 0, 3), ([-1, 2], -1, 2), ([-5, 300, 255], -5, 300)])
def test_labels_out_of_range(labels, low, high):
    labels = torch.tensor(labels)
    debug_labels("f", "y", labels, 3, 255)
    with debug_checks():
        with _raises(ValueError, f"f: `y` must lie in [0, 3) or be 255; got values from {low} to {high}."):
            debug_labels("f", "y", labels, 3, 255)
        debug_labels("f", "y", labels[:0], 3, 255)
        debug_labels("f", "y", torch.full_like(labels, 255), 3, 255)
        debug_labels("f", "y", labels.clamp(0, 2), 3, 255)
        debug_labels("f", "y", torch.tensor([0, 2, -1]), 3, -1)


def test_checks_are_free_of_host_syncs_by_default():
    # a meta tensor has no contents to read
    debug_labels("f", "y", torch.zeros(3, dtype=torch.int64, device="meta"), 2, 255)
    debug_finite("f", "x", torch.zeros(3, device="meta"))


@pytest.mark.parametrize(
    ("shape", "axes", "empty"),
    [
        ((1, 2, 0, 4), "N K h w", "h"),
        ((1, 0, 3, 4, 0), "B T C H W", "T, W"),
        ((0, 3), "K D", "K"),
        ((1, 0), "N Q'", "Q'"),
    ],
)
def test_pictures_clips_and_class_sets_are_not_empty(shape, axes, empty):
    with _raises(ValueError, f"f: `x` must have a size of at least 1 along {empty}; got {shape}."):
        check_shape("f", "x", torch.zeros(shape), axes)


@pytest.mark.parametrize(
    ("shape", "axes"), [((0, 3, 4), "B H W"), ((2, 0, 2, 4, 4), "B T-1 2 H W"), ((2, 3, 0), "N D P")]
)
def test_batches_and_the_flow_of_images_may_be_empty(shape, axes):
    assert tuple(check_shape("f", "x", torch.zeros(shape), axes).values()) == shape


@pytest.mark.parametrize("value", ["3", None, [1], 1j, torch.zeros(2)])
def test_what_is_no_number_is_named(value):
    for check in (check_at_least, check_whole):
        with _raises(TypeError, f"f: `a` must be a number; got {value!r}."):
            check("f", "a", value, 1)
    with _raises(TypeError, f"f: `a` must be a number; got {value!r}."):
        check_between("f", "a", value, 0, 1)


def test_whole_numbers():
    for good in (1, np.int64(1), True):
        check_whole("f", "a", good, 1)
    for bad in (1.0, 2.5, float("nan"), np.float32(1)):
        with _raises(ValueError, f"f: `a` must be a whole number; got {bad!r}."):
            check_whole("f", "a", bad)
    with _raises(ValueError, "f: `a` must be at least 1; got 0."):
        check_whole("f", "a", 0, 1)


def test_sizes_and_classes():
    assert check_size("f", "s", torch.zeros(2, 3).shape) == (2, 3)
    for bad in ((), (0, 3), (1.5, 2), (1, 2, 3), 5, "ab", None, ("a", 1)):
        with _raises(ValueError, f"f: `s` must be (height, width), both at least 1; got {bad!r}."):
            check_size("f", "s", bad)
    check_classes("f", "c", [0, 2], 3, 255)
    with _raises(TypeError, "f: `c` must be a sequence of labels; got 5."):
        check_classes("f", "c", 5, 3, 255)
    with _raises(TypeError, "f: `c` must be a number; got 'a'."):
        check_classes("f", "c", ["a"], 3, 255)


def test_what_is_no_tensor_has_no_dtype():
    with _raises(TypeError, "f: `x` must be a tensor; got list."):
        check_dtype("f", "x", [1.0], "float")
