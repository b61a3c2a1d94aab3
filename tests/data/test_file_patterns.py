import pytest
from hypothesis import given
from hypothesis import strategies as st

from dastc.data.file_patterns import Key, _expression, fields_of, find_files


def _touch(root, *names):
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    return root


def _found(root, pattern):
    return {
        tuple(key): path.relative_to(root).as_posix() for key, path in find_files("Me", "it", root, pattern).items()
    }


def test_fields_are_read_from_names(tmp_path):
    _touch(tmp_path, "a/x_7.png", "a/x_010.png", "b_c/x_7.png", "a/x_seven.png", "a/x_7.jpg", "x_7.png", "a/._x_8.png")
    assert _found(tmp_path, "{sequence}/x_{number}.png") == {
        ("a", 7, None): "a/x_7.png", ("a", 10, None): "a/x_010.png", ("b_c", 7, None): "b_c/x_7.png"
    }  # fmt: skip


def test_a_hidden_file_is_left_out_even_where_anything_fits(tmp_path):
    _touch(tmp_path, "._7.png", "7.png", ".trash/7.png")
    assert _found(tmp_path, "*{number}.png") == {("", 7, None): "7.png"}
    assert _found(tmp_path, "{sequence}/{number}.png") == {}


def test_a_width_tells_two_numbers_without_a_separator_apart(tmp_path):
    _touch(tmp_path, "001_0001000009.npy", "001_000100009.npy")
    assert _found(tmp_path, "{sequence}_{number:05}{previous:05}.npy") == {("001", 10, 9): "001_0001000009.npy"}


def test_what_stands_twice_must_be_the_same(tmp_path):
    _touch(tmp_path, "001/001_00010.jpg", "001/002_00010.jpg")
    assert _found(tmp_path, "{sequence}/{sequence}_{number:05}.jpg") == {("001", 10, None): "001/001_00010.jpg"}


def test_a_sequence_may_look_like_a_number(tmp_path):
    _touch(tmp_path, "aachen_000019_000019_x.png")
    assert _found(tmp_path, "{sequence}_{number:06}_x.png") == {
        ("aachen_000019", 19, None): "aachen_000019_000019_x.png"
    }


def test_signs_with_a_meaning_elsewhere_are_signs(tmp_path):
    _touch(tmp_path, "a+b (1)[x].png", "aab 1x.png", "a+b (1)x.png")
    assert _found(tmp_path, "{sequence}+b (1)[x].png") == {("a", 0, None): "a+b (1)[x].png"}


def test_two_files_of_one_frame_are_an_error(tmp_path):
    _touch(tmp_path, "7.png", "007.png")
    with pytest.raises(ValueError, match=r"^Me: `it` must find each frame once; got .*007\.png and .*7\.png by '"):
        find_files("Me", "it", tmp_path, "{number}.png")


@pytest.mark.parametrize("field", ["{frame}", "{}", "{Sequence}"])
def test_an_unknown_field_is_named(tmp_path, field):
    with pytest.raises(ValueError, match=rf"fields {{sequence}}, {{number}}, {{previous}}, and \*; got {field} in"):
        find_files("Me", "it", tmp_path, f"a{field}.png")


@given(st.from_regex(r"[a-z0-9_]{1,8}", fullmatch=True), st.integers(0, 10**6 - 1), st.integers(0, 10**6 - 1))
def test_reading_undoes_writing(sequence, number, previous):
    pattern = "{sequence}_{number:06}_{previous:06}.npy"
    name = pattern.format(sequence=sequence, number=number, previous=previous)
    match = _expression("Me", "it", pattern).fullmatch(name)
    assert Key(match["sequence"], int(match["number"]), int(match["previous"])) == Key(sequence, number, previous)
    assert fields_of(pattern) == {"sequence", "number", "previous"}
