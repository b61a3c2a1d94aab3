"""The label spaces of all data sets, with the ids in the files they are read from: ``spaces.CITYSCAPES19``.

``RAW_NAMES`` says what an id means in the files of each data set, in the order of the ids.
"""

from dastc.data.label_space import LabelSpace

__all__ = ["CAMVID", "CITYSCAPES19", "RAW_NAMES", "STREET", "SYNTHIA13", "SYNTHIA16", "SYNTHIA_SEQ12", "VIPER15"]

_CITYSCAPES_NAMES = (
    "unlabeled", "ego vehicle", "rectification border", "out of roi", "static", "dynamic", "ground", "road", "sidewalk",
    "parking", "rail track", "building", "wall", "fence", "guard rail", "bridge", "tunnel", "pole", "polegroup",
    "traffic light", "traffic sign", "vegetation", "terrain", "sky", "person", "rider", "car", "truck", "bus",
    "caravan", "trailer", "train", "motorcycle", "bicycle",
)  # fmt: skip
_SYNTHIA_NAMES = (
    "void", "sky", "building", "road", "sidewalk", "fence", "vegetation", "pole", "car", "traffic sign", "pedestrian",
)  # fmt: skip

RAW_NAMES: dict[str, tuple[str, ...]] = {
    "cityscapes": _CITYSCAPES_NAMES,
    "gta5": (*_CITYSCAPES_NAMES, "license plate"),
    "synthia_seq": (*_SYNTHIA_NAMES, "cyclist", "lanemarking", "reserved", "reserved", "traffic light"),
    "synthia_rand": (
        *_SYNTHIA_NAMES, "bicycle", "motorcycle", "parking slot", "road work", "traffic light", "terrain", "rider",
        "truck", "bus", "train", "wall", "lanemarking",
    ),
    "viper": (
        "unlabeled", "ambiguous", "sky", "road", "sidewalk", "railtrack", "terrain", "tree", "vegetation", "building",
        "infrastructure", "fence", "billboard", "traffic light", "traffic sign", "mobilebarrier", "firehydrant",
        "chair", "trash", "trashcan", "person", "animal", "bicycle", "motorcycle", "car", "van", "bus", "truck",
        "trailer", "train", "plane", "boat",
    ),
}  # fmt: skip

_COLOURS = {
    "road": (128, 64, 128), "sidewalk": (244, 35, 232), "building": (70, 70, 70), "wall": (102, 102, 156),
    "fence": (190, 153, 153), "pole": (153, 153, 153), "light": (250, 170, 30), "sign": (220, 220, 0),
    "vegetation": (107, 142, 35), "terrain": (152, 251, 152), "sky": (70, 130, 180), "person": (220, 20, 60),
    "rider": (255, 0, 0), "car": (0, 0, 142), "truck": (0, 0, 70), "bus": (0, 60, 100), "train": (0, 80, 100),
    "motorcycle": (0, 0, 230), "bicycle": (119, 11, 32),
}  # fmt: skip


def _colours(*names: str) -> tuple[tuple[int, int, int], ...]:
    return tuple(_COLOURS[name] for name in names)


CITYSCAPES19 = LabelSpace(
    names=tuple(_COLOURS),
    colours=tuple(_COLOURS.values()),
    rare=(3, 4, 5, 6, 12, 15, 16, 17, 18),
    raw_ids={
        name: {
            7: 0, 8: 1, 11: 2, 12: 3, 13: 4, 17: 5, 19: 6, 20: 7, 21: 8, 22: 9, 23: 10, 24: 11, 25: 12, 26: 13, 27: 14,
            28: 15, 31: 16, 32: 17, 33: 18,
        }
        for name in ("cityscapes", "gta5")
    } | {
        "synthia_rand": {
            3: 0, 4: 1, 2: 2, 21: 3, 5: 4, 7: 5, 15: 6, 9: 7, 6: 8, 1: 10, 10: 11, 17: 12, 8: 13, 19: 15, 12: 17,
            11: 18,
        },
    },
)  # fmt: skip

# 19 outputs, of which 9 terrain, 14 truck and 16 train are not in SYNTHIA
SYNTHIA16 = CITYSCAPES19._replace(
    rare=(3, 4, 5, 6, 7, 12, 13, 18),
    scored=tuple(label for label in range(19) if label not in (9, 14, 16)),
)
# the same, without the mean's wall, fence and pole
SYNTHIA13 = SYNTHIA16._replace(scored=tuple(label for label in range(19) if label not in (3, 4, 5, 9, 14, 16)))

_SYNTHIA_SEQ = (
    "road", "sidewalk", "building", "fence", "pole", "light", "sign", "vegetation", "sky", "person", "rider", "car",
)  # fmt: skip

SYNTHIA_SEQ12 = LabelSpace(
    names=_SYNTHIA_SEQ,
    colours=_colours(*_SYNTHIA_SEQ),
    rare=(3, 4, 5, 6, 10),
    scored=tuple(label for label in range(12) if label != 3),  # fence is trained, and not scored
    raw_ids={
        "synthia_seq": {3: 0, 4: 1, 2: 2, 5: 3, 7: 4, 15: 5, 9: 6, 6: 7, 1: 8, 10: 9, 11: 10, 8: 11},
        "cityscapes": {7: 0, 8: 1, 11: 2, 13: 3, 17: 4, 19: 5, 20: 6, 21: 7, 23: 8, 24: 9, 25: 10, 26: 11},
    },
)

_VIPER = (
    "road", "sidewalk", "building", "fence", "light", "sign", "vegetation", "terrain", "sky", "person", "car", "truck",
    "bus", "motorcycle", "bicycle",
)  # fmt: skip

VIPER15 = LabelSpace(
    names=_VIPER,
    colours=_colours(*_VIPER),
    rare=(3, 4, 5, 7, 13, 14),
    raw_ids={
        # tree and vegetation are one class here, as are person and rider
        "viper": {
            3: 0, 4: 1, 9: 2, 11: 3, 13: 4, 14: 5, 7: 6, 8: 6, 6: 7, 2: 8, 20: 9, 24: 10, 27: 11, 26: 12, 23: 13,
            22: 14,
        },
        "cityscapes": {
            7: 0, 8: 1, 11: 2, 13: 3, 19: 4, 20: 5, 21: 6, 22: 7, 23: 8, 24: 9, 25: 9, 26: 10, 27: 11, 28: 12, 32: 13,
            33: 14,
        },
    },
)  # fmt: skip

STREET = LabelSpace(
    names=("sky", "building", "road", "pavement", "vegetation", "pole", "sign", "person", "car"),
    colours=(
        (70, 130, 180), (70, 70, 70), (128, 64, 128), (244, 35, 232), (107, 142, 35),
        (153, 153, 153), (220, 220, 0), (220, 20, 60), (0, 0, 142),
    ),
    rare=(5, 6, 7),
)  # fmt: skip

CAMVID = LabelSpace(
    names=(
        "sky", "building", "pole", "road", "pavement", "tree", "sign", "fence", "car", "pedestrian", "bicyclist",
    ),
    colours=(
        (128, 128, 128), (128, 0, 0), (192, 192, 128), (128, 64, 128), (0, 0, 192), (128, 128, 0),
        (192, 128, 128), (64, 64, 128), (64, 0, 128), (64, 64, 0), (0, 128, 192),
    ),
    rare=(2, 6, 9, 10),
    raw_ids={"camvid": {label: label for label in range(11)}},
)  # fmt: skip
