"""What docs/data.md says of the label spaces is what they are."""

import re
from pathlib import Path

import dastc.data
from dastc.data import LabelSpace

PAGE = (Path(__file__).parents[2] / "docs" / "data.md").read_text(encoding="utf-8")


def test_the_table_of_label_spaces_is_true_and_complete():
    rows = re.findall(r"^\| `([A-Z_0-9]+)` \| (\d+) \| (\d+) \|(.*)\|$", PAGE, re.M)
    said = {name: (int(classes), int(scored), sources.strip()) for name, classes, scored, sources in rows}
    spaces = {name: getattr(dastc.data.spaces, name) for name in dastc.data.spaces.__all__}
    assert said == {
        name: (len(space.names), len(space.scored or space.names), ", ".join(space.raw_ids))
        for name, space in spaces.items()
        if isinstance(space, LabelSpace)
    }


def test_every_data_set_is_on_the_page():
    named = set(re.findall(r"^\| `(\w+)` \| `", PAGE, re.M)) | {"FolderClips"}
    sets = {
        name for name in dastc.data.__all__ if hasattr(getattr(dastc.data, name), "check") and name != "StreetClips"
    }
    assert named == sets
