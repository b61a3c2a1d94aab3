import re
from collections import OrderedDict
from types import SimpleNamespace

import pytest
import torch

from dastc.models import logits_of

LOGITS, OTHER = torch.randn(1, 2, 3, 3), torch.randn(1, 2, 3, 3)


class ModelOutput(OrderedDict):
    """Both a mapping and an object, like transformers' outputs."""

    @property
    def logits(self):
        return self["logits"]


@pytest.mark.parametrize(
    "output",
    [
        LOGITS,
        {"out": LOGITS},
        OrderedDict(aux=OTHER, out=LOGITS),
        {"loss": OTHER, "logits": LOGITS},
        ModelOutput(loss=OTHER, logits=LOGITS),
        SimpleNamespace(loss=OTHER, logits=LOGITS),
    ],
)
def test_it_finds_the_logits(output):
    assert logits_of(output) is LOGITS


@pytest.mark.parametrize(
    ("output", "kind"),
    [
        (None, "NoneType"),
        ((LOGITS,), "tuple"),
        ({"masks": LOGITS}, "dict"),
        ({"out": None}, "NoneType"),
        (SimpleNamespace(scores=LOGITS), "SimpleNamespace"),
        (SimpleNamespace(logits=None), "SimpleNamespace"),
    ],
)
def test_there_must_be_logits(output, kind):
    message = (
        "logits_of: the model must return a tensor, a mapping with 'out' or 'logits', or an object with "
        "`.logits` or with the logits of queries; "
        f"got {kind}. Wrap it in a module that does."
    )
    with pytest.raises(TypeError, match=f"^{re.escape(message)}$"):
        logits_of(output)
