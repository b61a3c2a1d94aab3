from unicodedata import normalize

import numpy as np
import pytest
from PIL import Image

from dastc.data import FolderClips, VideoFrames
from dastc.data.unicode_names import as_on_disk

NAME = "Köln, 3é étage"


@pytest.mark.parametrize(("pictures", "labels"), [("NFD", "NFC"), ("NFC", "NFD"), ("NFD", "NFD")])
def test_pictures_and_labels_from_different_disks_are_paired(tmp_path, pictures, labels):
    for kind, form, shape in (("images", pictures, (4, 6, 3)), ("labels", labels, (4, 6))):
        where = tmp_path / kind / normalize(form, NAME)
        where.mkdir(parents=True)
        Image.fromarray(np.zeros(shape, np.uint8)).save(where / "1.png")
    given = {"images": "images/{sequence}/{number}.png", "labels": "labels/{sequence}/{number}.png"}
    for typed in (None, normalize("NFC", NAME), normalize("NFD", NAME), [normalize("NFD", NAME)]):
        clips = FolderClips(tmp_path, **given, label_space=["a"], sequences=typed)
        assert clips[0].labels.unique().tolist() == [0]
        assert clips.sequence_names == (normalize("NFC", NAME),)


@pytest.mark.parametrize(("typed", "on_disk"), [("NFC", "NFD"), ("NFD", "NFC")])
def test_a_folder_that_is_typed_in_the_other_form_is_found(tmp_path, typed, on_disk):
    where = tmp_path / normalize(on_disk, NAME) / "a" / normalize(on_disk, "ß ü")
    where.mkdir(parents=True)
    Image.new("RGB", (6, 4)).save(where / "1.png")
    other = tmp_path / normalize(typed, NAME) / "a" / normalize(typed, "ß ü")
    assert not other.exists()
    assert as_on_disk(other) == where
    assert len(FolderClips(other, images="{number}.png")) == VideoFrames(other).total == 1


def test_what_is_not_there_is_named_as_it_was_typed(tmp_path):
    for path in (tmp_path / "ü" / "x", tmp_path / "no", tmp_path / "no" / "ü"):
        assert as_on_disk(path) == path
