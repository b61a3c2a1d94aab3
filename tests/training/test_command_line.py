"""Lists of classes, from the command line or from a file of any editor."""

import argparse

import pytest

from dastc.training.command_line import names

LISTED = ("straße", "gehweg", "auto")


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_marks_of_the_encoding_are_no_part_of_a_name(tmp_path, encoding, end):
    path = tmp_path / "classes.txt"
    path.write_bytes(f" straße{end}{end}gehweg {end}auto".encode(encoding))
    assert names(str(path)) == LISTED


@pytest.mark.parametrize("name", ["classes.names", "classes.CSV", "a.b/classes"])
def test_any_file_of_text_is_a_list(tmp_path, name):
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_text("straße,gehweg, auto\n", encoding="utf-8")
    assert names(str(tmp_path / name)) == LISTED


@pytest.mark.parametrize("text", ["klassen.txt", "no/classes", "./classes"])
def test_a_file_that_is_not_there_is_no_class(tmp_path, monkeypatch, text):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(
        argparse.ArgumentTypeError, match=rf"a text file that is there; got '{text.removeprefix('./')}'"
    ):
        names(text)
    assert names(f"{text},") == (text,)
    assert names("road") == ("road",)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "at least one; got none in"),
        (b"\xef\xbb\xbf\n \n", "at least one; got none in"),
        (b"sky\nroad\nsky\n", "must name each class once, and at least one; got sky twice in"),
        (b"stra\xdfe\nauto\n", r"must be a file of text in UTF-8; got '.*classes\.txt' \('utf-8' codec"),
        (b"id,name\n0,sky\n1,road\n", "must be a file with one name a line; got"),
        ("sky\nroad".encode("utf-16-le"), "must be a file with one name a line; got"),
    ],
)
def test_what_is_no_list_of_names_is_refused(tmp_path, content, message):
    (tmp_path / "classes.txt").write_bytes(content)
    with pytest.raises(argparse.ArgumentTypeError, match=message):
        names(str(tmp_path / "classes.txt"))


@pytest.mark.parametrize("text", ["", " , ,", "road,car,road"])
def test_names_are_there_and_differ(text):
    with pytest.raises(argparse.ArgumentTypeError, match="must name each class once, and at least one; got"):
        names(text)
