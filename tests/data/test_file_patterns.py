import re
from unicodedata import normalize

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


@pytest.mark.parametrize(
    ("pattern", "message"),
    [
        ("/data/{number}.png", "`it` must be relative to the root folder; got '/data/{number}.png'"),
        ("C:\\data\\{number}.png", "`it` must be relative to the root folder; got"),
        (
            "../other/{number}.png",
            "`it` must stay in the root folder; got '../other/{number}.png'. Give a root further",
        ),
        ("a/../{number}.png", "`it` must stay in the root folder; got"),
        ("**/{number}.png", "`it` must name every folder, by `*` where"),
        ("a\\{number}.png", "`it` must separate folders by /; got"),
    ],
)
def test_a_pattern_that_leads_elsewhere_is_refused(tmp_path, pattern, message):
    with pytest.raises(ValueError, match=f"^Me: {re.escape(message)}"):
        find_files("Me", "it", tmp_path, pattern)


@pytest.mark.parametrize("pattern", ["./a/{number}.png", "a//{number}.png", "./a/./{number}.png"])
def test_steps_that_lead_nowhere_are_left_out(tmp_path, pattern):
    _touch(tmp_path, "a/7.png")
    assert _found(tmp_path, pattern) == {("", 7, None): "a/7.png"}


@pytest.mark.parametrize("pattern", ["{number}.jpg", "{number}.JPG", "{number}.Jpg"])
def test_suffixes_in_capitals_are_found(tmp_path, pattern):
    _touch(tmp_path, "1.jpg", "2.JPG", "3.Jpg", "4.jpeg", "5jpg")
    assert {key[1] for key in _found(tmp_path, pattern)} == {1, 2, 3}


def test_only_the_suffix_may_be_in_capitals(tmp_path):
    _touch(tmp_path, "left/1.PNG", "Left/2.png", "left/x.v1.png", "left/X.V2.png")
    assert _found(tmp_path, "left/{number}.png") == {("", 1, None): "left/1.PNG"}
    assert _found(tmp_path, "left/x.v{number}.png") == {("", 1, None): "left/x.v1.png"}


def test_two_files_that_differ_in_capitals_are_an_error(tmp_path):
    _touch(tmp_path, "1.jpg", "1.JPG")
    with pytest.raises(ValueError, match=r"must find each frame once; got .*1\.JPG and .*1\.jpg by"):
        find_files("Me", "it", tmp_path, "{number}.jpg")


@pytest.mark.parametrize("on_disk", ["NFC", "NFD"])
@pytest.mark.parametrize("typed", ["NFC", "NFD"])
def test_accents_may_be_signs_of_their_own(tmp_path, on_disk, typed):
    _touch(tmp_path, normalize(on_disk, "Süd/Größe é 5/7.png"), "Sud/Größe é 5/8.png")
    pattern = normalize(typed, "Süd/{sequence}/{number}.png")
    ((key, path),) = find_files("Me", "it", tmp_path, pattern).items()
    assert key == Key(normalize("NFC", "Größe é 5"), 7)
    assert path.exists()
    assert len(find_files("Me", "it", tmp_path, normalize(typed, "*/Größe é {number}/7.png"))) == 1


def test_two_files_whose_names_look_alike_are_told_apart(tmp_path):
    _touch(tmp_path, normalize("NFC", "ü/7.png"), normalize("NFD", "ü/7.png"))
    with pytest.raises(ValueError, match=r"find each frame once; .* differ in Unicode's form alone"):
        find_files("Me", "it", tmp_path, "{sequence}/{number}.png")
