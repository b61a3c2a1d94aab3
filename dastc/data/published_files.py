"""What the published data sets share: where their files lie, and what their ids become."""

from collections.abc import Callable
from pathlib import Path

from dastc.data.clip_files import LabelFiles
from dastc.data.file_patterns import Key, find_files
from dastc.data.id_pictures import Ids
from dastc.data.label_space import LabelSpace
from dastc.data.spaces import RAW_NAMES

__all__: list[str] = []  # for the data sets of this package


def find_or_explain(caller: str, root: Path, folder: str, pattern: str) -> dict[Key, Path]:
    """Find the files of a folder that must be there and not be empty."""
    if not (root / folder).is_dir():
        raise ValueError(f"{caller}: `root` must hold the folder {folder}; got {root} without it.")
    found = find_files(caller, "root", root / folder, pattern)
    if not found:
        raise ValueError(f"{caller}: {root / folder} must hold files named {pattern}; got none.")
    return found


def find_flow(caller: str, folder: str | Path | None, names: str) -> dict[Key, Path] | None:
    """Find flow files in the form of the released data; nothing if there is no folder for them."""
    if folder is None:
        return None
    if not Path(folder).is_dir():
        raise ValueError(f"{caller}: `flow` must be an existing folder; got {folder}.")
    return find_files(caller, "flow", Path(folder), f"{names}_int16_x10.npy")


def published_labels(
    caller: str,
    space: LabelSpace,
    name: str,
    *,
    first_channel: bool = False,
    prepare: Callable[[Ids], Ids] | None = None,
) -> LabelFiles:
    """Tell how the labels of a published data set are read into a label space."""
    if name not in space.raw_ids:
        known = ", ".join(space.raw_ids) or "no data set"
        raise ValueError(f"{caller}: `label_space` must map the ids of {name}; got one with those of {known}.")
    return LabelFiles(
        caller,
        space.raw_ids[name],
        ignored=range(len(RAW_NAMES[name])),
        ignore_index=space.ignore_index,
        first_channel=first_channel,
        prepare=prepare,
    )
