import re
from collections import OrderedDict
from typing import NamedTuple

import pytest
import torch
from torch import nn

from dastc.models import FeatureTap, TinySegmenter


class Pair(NamedTuple):
    feature: torch.Tensor
    other: int


class Giving(nn.Module):
    """Doubles, and returns the result in the way asked for."""

    def __init__(self, pack):
        super().__init__()
        self.pack = pack

    def forward(self, x):
        return self.pack(2 * x)


class Outer(nn.Module):
    """Adds one, lets ``inner`` work, and returns what it returned."""

    def __init__(self, inner, times=1):
        super().__init__()
        self.inner, self.times = inner, times

    def forward(self, x):
        for _ in range(self.times):
            out = self.inner(x + 1)
        return out


def _chain():
    return nn.Sequential(OrderedDict(first=nn.Linear(3, 4), second=nn.Tanh(), third=nn.Linear(4, 2)))


def _tapped(model):
    return sum("forward" in vars(m) for m in model.modules())


def test_it_reads_the_feature():
    model, x = _chain(), torch.randn(5, 3)
    expected = model(x)
    with FeatureTap(model, "second").read() as seen:
        out = model(x)
    torch.testing.assert_close(seen.feature, model.first(x).tanh())
    assert torch.equal(out, expected)
    assert _tapped(model) == 0


def test_it_replaces_the_feature():
    model, x = _chain(), torch.randn(5, 3)
    with FeatureTap(model, "second").replace(lambda feature: 2 * feature):
        out = model(x)
    torch.testing.assert_close(out, model.third(2 * model.first(x).tanh()))
    assert _tapped(model) == 0
    assert not torch.equal(model(x), out)


def test_nothing_happens_outside_the_block():
    model, x = _chain(), torch.randn(5, 3)
    tap = FeatureTap(model, "second")
    reading = tap.read()
    model(x)
    assert _tapped(model) == 0
    with reading as seen:
        model(x)
    model(x)
    assert len(seen.features) == 1


def test_the_empty_name_is_the_model_itself():
    model, x = _chain(), torch.randn(5, 3)
    with FeatureTap(model, "").read() as seen:
        out = model(x)
    assert seen.feature is out


def test_dotted_names_reach_deep():
    model = TinySegmenter(3)
    with FeatureTap(model, "deep.1.body.0.1").read() as seen:
        model(torch.zeros(1, 3, 32, 32))
    assert seen.feature.shape == (1, 96, 2, 2)


def test_gradients_flow_through_the_reading():
    model, x = _chain(), torch.randn(5, 3)
    with FeatureTap(model, "first").read() as seen:
        model(x)
    upstream = torch.randn(5, 4)
    seen.feature.backward(upstream)
    torch.testing.assert_close(model.first.weight.grad, upstream.T @ x)


def test_gradients_flow_through_the_replacement():
    model, x = _chain(), torch.randn(5, 3)
    with FeatureTap(model, "second").replace(lambda feature: feature * 3):
        model(x).backward(upstream := torch.randn(5, 2))
    by_hand = (upstream @ model.third.weight) * 3 * (1 - model.first(x).tanh() ** 2)
    torch.testing.assert_close(model.first.weight.grad, by_hand.T @ x)


def test_a_feature_of_one_model_can_go_into_another():
    left, right, x = _chain(), _chain(), torch.randn(5, 3)
    with FeatureTap(left, "first").read() as seen:
        left(x)
    with FeatureTap(right, "first").replace(lambda feature: feature + seen.feature):
        right(x).backward(torch.randn(5, 2))
    assert left.first.weight.grad.ne(0).all()


# --- nesting


def test_blocks_nest():
    model, x = _chain(), torch.randn(5, 3)
    first, second = FeatureTap(model, "first"), FeatureTap(model, "second")
    with first.replace(torch.zeros_like), second.read() as inner, second.read() as again:
        model(x)
    assert inner.feature.eq(0).all()
    assert again.feature is inner.feature
    assert _tapped(model) == 0


def test_a_tap_may_be_used_inside_itself():
    model, x = _chain(), torch.randn(5, 3)
    tap = FeatureTap(model, "second")
    plain = model.first(x).tanh()
    with tap.read() as outer:
        with tap.replace(lambda feature: feature + 1), tap.read() as inner:
            model(x)
        assert _tapped(model) == 1
        model(x)
    assert [len(outer.features), len(inner.features)] == [2, 1]
    torch.testing.assert_close(inner.feature, plain + 1)  # hooks run in the order of the blocks
    torch.testing.assert_close(outer.features[0], plain)
    torch.testing.assert_close(outer.features[1], plain)


def test_a_forward_pass_inside_the_change_is_seen_too():
    model, x = _chain(), torch.randn(5, 3)
    tap = FeatureTap(model, "second")

    def change(feature):
        if depth:
            return feature
        depth.append(1)
        model(x)
        return feature * 0

    depth: list[int] = []
    with tap.replace(change):
        out = model(x)
    torch.testing.assert_close(out, model.third.bias.expand(5, 2))


def test_each_use_has_its_own_reading():
    model, x = _chain(), torch.randn(5, 3)
    tap = FeatureTap(model, "second")
    with tap.read() as one:
        model(x)
    with tap.read() as two:
        model(2 * x)
    assert not torch.equal(one.feature, two.feature)


def test_an_exception_leaves_no_trace():
    model = _chain()
    inside = []

    def fail():
        inside.append(_tapped(model))
        raise KeyError("mine")

    for block in (FeatureTap(model, "second").read(), FeatureTap(model, "second").replace(torch.zeros_like)):
        with pytest.raises(KeyError, match="mine"), block:
            fail()
        assert _tapped(model) == 0
    assert inside == [1, 1]


def test_an_exception_in_the_change_leaves_no_trace():
    model = _chain()

    def change(_):
        raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"), FeatureTap(model, "second").replace(change):
        model(torch.randn(5, 3))
    assert _tapped(model) == 0
    assert model(torch.randn(5, 3)).shape == (5, 2)


# --- outputs with several parts


@pytest.mark.parametrize(
    ("pack", "index", "kind"),
    [
        (lambda x: (x, 5), 0, tuple),
        (lambda x: (5, x), -1, tuple),
        (lambda x: [5, x, 6], 1, list),
        (lambda x: Pair(x, 5), 0, Pair),
        (lambda x: {"aux": 5, "out": x}, "out", dict),
        (lambda x: OrderedDict(out=x, aux=5), "out", OrderedDict),
    ],
)
def test_index_picks_a_part(pack, index, kind):
    model, x = Outer(Giving(pack)), torch.randn(4)
    tap = FeatureTap(model, "inner", index=index)
    with tap.read() as seen:
        untouched = model(x)
    torch.testing.assert_close(seen.feature, 2 * (x + 1))
    with tap.replace(lambda feature: feature + 10):
        out = model(x)
    for found, offset in ((untouched, 0), (out, 10)):
        assert type(found) is kind
        torch.testing.assert_close(found[index], 2 * (x + 1) + offset)
        assert len(found) == len(pack(x))
        parts = found.values() if isinstance(found, dict) else found
        assert 5 in [part for part in parts if isinstance(part, int)]
    if kind in (dict, OrderedDict):
        assert list(out) == list(pack(x))


@pytest.mark.parametrize(
    ("pack", "index", "message"),
    [
        (lambda x: (x, x), None, "the output of 'inner' must be a tensor; got tuple."),
        (lambda x: {"out": x}, None, "the output of 'inner' must be a tensor; got dict."),
        (lambda x: (x, None), 1, "the output of 'inner' at index 1 must be a tensor; got NoneType."),
        (lambda x: {"out": [x]}, "out", "the output of 'inner' at index 'out' must be a tensor; got list."),
    ],
)
def test_a_part_that_is_no_tensor(pack, index, message):
    model = Outer(Giving(pack))
    whole = f"FeatureTap: {message} Pass `index` to pick one."
    with (
        pytest.raises(TypeError, match=f"^{re.escape(whole)}$"),
        FeatureTap(model, "inner", index=index).read(),
    ):
        model(torch.zeros(2))
    assert _tapped(model) == 0


# --- errors


@pytest.mark.parametrize("times", [0, 2, 3])
def test_the_submodule_must_run_once(times):
    model = Outer(nn.Tanh(), times)
    message = f"FeatureTap: 'inner' must run once inside the block; it ran {times} times. Each pass is in `features`."
    with FeatureTap(model, "inner").read() as seen:
        if times:
            model(torch.zeros(2))
    with pytest.raises(RuntimeError, match=f"^{re.escape(message)}$"):
        _ = seen.feature
    assert len(seen.features) == times


def test_an_unknown_name_lists_near_ones():
    message = "FeatureTap: `name` must be a submodule of Sequential; got 'secnd'. Near: 'second'"
    with pytest.raises(ValueError, match=f"^{re.escape(message)}"):
        FeatureTap(_chain(), "secnd")
    with pytest.raises(ValueError, match=r"Near: 'deep\.1\.body"):
        FeatureTap(TinySegmenter(2), "deep.1.bod.0")


def test_an_outlandish_name_lists_the_children():
    message = "FeatureTap: `name` must be a submodule of Sequential; got '?!'. Near: 'first', 'second', 'third'."
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        FeatureTap(_chain(), "?!")
