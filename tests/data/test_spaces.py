"""The published maps from ids to labels, told once more by the names of what they map."""

import pickle

import pytest

from dastc.data.spaces import CAMVID, CITYSCAPES19, RAW_NAMES, STREET, SYNTHIA13, SYNTHIA16, SYNTHIA_SEQ12, VIPER15
from dastc.metrics import MeanIoU

SPACES = {
    "CAMVID": CAMVID, "CITYSCAPES19": CITYSCAPES19, "STREET": STREET, "SYNTHIA13": SYNTHIA13, "SYNTHIA16": SYNTHIA16,
    "SYNTHIA_SEQ12": SYNTHIA_SEQ12, "VIPER15": VIPER15,
}  # fmt: skip
# other words for the same
SAME = {"traffic light": "light", "traffic sign": "sign", "pedestrian": "person"}
MAPS = [
    (label, source) for label, space in SPACES.items() for source in space.raw_ids if label not in ("CAMVID", "STREET")
]


def _by_name(space, source):
    names = RAW_NAMES[source]
    return {(names[raw], space.names[label]) for raw, label in space.raw_ids[source].items()}


@pytest.mark.parametrize(("name", "source"), MAPS)
def test_each_id_becomes_the_label_of_its_name(name, source):
    space, exceptions = SPACES[name], set()
    for raw, label in _by_name(space, source):
        if SAME.get(raw, raw) != label:
            exceptions.add((raw, label))
    # what the published maps join
    joined = {
        ("VIPER15", "viper"): {("tree", "vegetation")},
        ("VIPER15", "cityscapes"): {("rider", "person")},
        ("SYNTHIA_SEQ12", "synthia_seq"): {("cyclist", "rider")},
    }
    assert exceptions == joined.get((name, source), set())


@pytest.mark.parametrize(("name", "source"), MAPS)
def test_every_class_of_a_map_that_has_a_name_is_mapped(name, source):
    space = SPACES[name]
    there = {SAME.get(raw, raw) for raw in RAW_NAMES[source]} & set(space.names)
    # SYNTHIA defines them, and shows none
    unused = {"terrain", "truck", "train"} if source == "synthia_rand" else set()
    assert there - {label for _, label in _by_name(space, source)} == unused


def test_what_is_not_in_synthia_is_not_scored():
    mapped = set(SYNTHIA16.raw_ids["synthia_rand"].values())
    assert mapped == set(SYNTHIA16.scored)
    assert len(SYNTHIA16.scored) == 16
    assert [SYNTHIA16.names[label] for label in range(19) if label not in SYNTHIA16.scored] == [
        "terrain", "truck", "train"
    ]  # fmt: skip
    assert [SYNTHIA16.names[label] for label in SYNTHIA16.scored if label not in SYNTHIA13.scored] == [
        "wall", "fence", "pole"
    ]  # fmt: skip


def test_fence_is_trained_but_not_scored_in_synthia_seq():
    assert {SYNTHIA_SEQ12.names[label] for label in range(12)} - {
        SYNTHIA_SEQ12.names[label] for label in SYNTHIA_SEQ12.scored
    } == {"fence"}


@pytest.mark.parametrize("space", SPACES.values(), ids=SPACES)
def test_a_space_fits_itself_the_metric_and_a_worker(space):
    classes = range(len(space.names))
    assert len(space.colours) == len(set(space.colours)) == len(space.names) == len(set(space.names))
    assert set(space.rare) <= set(classes)
    assert all(set(ids.values()) <= set(classes) for ids in space.raw_ids.values())
    assert MeanIoU(len(space.names), classes=space.scored).classes == (space.scored or tuple(classes))
    assert pickle.loads(pickle.dumps(space)) == space


def test_colours_are_those_of_cityscapes():
    assert VIPER15.colours[VIPER15.names.index("truck")] == (0, 0, 70)
    assert SYNTHIA_SEQ12.colours[SYNTHIA_SEQ12.names.index("rider")] == (255, 0, 0)
    for space in (VIPER15, SYNTHIA_SEQ12):
        for name, colour in zip(space.names, space.colours, strict=True):
            assert CITYSCAPES19.colours[CITYSCAPES19.names.index(name)] == colour


def test_ids_count_from_zero_to_what_the_data_sets_define():
    assert {name: len(names) for name, names in RAW_NAMES.items()} == {
        "cityscapes": 34, "gta5": 35, "synthia_seq": 16, "synthia_rand": 23, "viper": 32
    }  # fmt: skip
