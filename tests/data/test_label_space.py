import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from dastc.data.spaces import CAMVID, CITYSCAPES19, SYNTHIA_SEQ12, VIPER15
from dastc.viz import colourise


@given(st.sampled_from([CAMVID, CITYSCAPES19, SYNTHIA_SEQ12, VIPER15]), st.integers(0, 2**31))
def test_it_undoes_colourise(space, seed):
    labels = torch.randint(0, len(space.names) + 1, (2, 5, 4), generator=torch.Generator().manual_seed(seed))
    labels = labels.where(labels < len(space.names), 255)
    assert torch.equal(space.ids_from_colours(colourise(labels, space)), labels)


def test_further_colours_can_be_ignored_and_classes_come_first():
    rgb = torch.tensor([[[1, 2, 3], [128, 64, 128], [0, 0, 0]]], dtype=torch.uint8)
    ignored = ((1, 2, 3), (0, 0, 0), (128, 64, 128))
    assert CITYSCAPES19.ids_from_colours(rgb, ignored=ignored).tolist() == [[255, 0, 255]]


def test_other_colours_are_counted_and_named():
    rgb = torch.tensor([[[128, 64, 128], [127, 64, 128], [255, 255, 255], [127, 64, 128]]], dtype=torch.uint8)
    message = (
        r"^LabelSpace\.ids_from_colours: `rgb` must hold .* only; "
        r"got, in 3 of 4 pixels, \(127, 64, 128\), \(255, 255, 255\)\.$"
    )
    with pytest.raises(ValueError, match=message):
        CITYSCAPES19.ids_from_colours(rgb)
    with pytest.raises(ValueError, match=r"in 1 of 4 pixels, \(0, 0, 0\)"):
        CITYSCAPES19.ids_from_colours(torch.tensor([[[0, 0, 0], *[[128, 64, 128]] * 3]], dtype=torch.uint8), ignored=())


def test_what_is_no_picture_is_refused():
    with pytest.raises(TypeError, match=r"`rgb` must be of dtype uint8; got torch.int64"):
        CAMVID.ids_from_colours(torch.zeros(2, 2, 3, dtype=torch.int64))
    with pytest.raises(ValueError, match=r"`rgb` must have shape \(\.\.\., H, W, 3\); got \(2, 2, 4\)"):
        CAMVID.ids_from_colours(torch.zeros(2, 2, 4, dtype=torch.uint8))
    twice = CAMVID._replace(colours=((1, 1, 1),) * 11)
    with pytest.raises(ValueError, match=r"`colours` must have one of its own for each class; got one twice"):
        twice.ids_from_colours(torch.zeros(2, 2, 3, dtype=torch.uint8))
