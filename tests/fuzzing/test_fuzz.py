import sys
import warnings
from pathlib import Path

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parent))
import fuzz
from calls import CALLS, Call


def test_a_few_random_calls_succeed_or_are_refused_by_an_error_of_the_house():
    torch.use_deterministic_algorithms(False)  # the random arguments are fuzz.py's, and so is what surrounds the calls
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        outcomes = [(case, *fuzz.outcome(10, case)) for case in range(200)]
    assert [one for one in outcomes if one[2] not in ("ok", "refused")] == []
    assert sum(kind == "ok" for _, _, kind, _ in outcomes) > 130
    assert sum(kind == "refused" for _, _, kind, _ in outcomes) > 20
    assert len({name for _, name, *_ in outcomes}) > 30


def _double(x):
    if x.dim() == 0:
        raise IndexError("too short")
    if x.dim() == 1:
        raise ValueError("double: `x` must have two axes")
    if x.shape[0] == 2:
        x.mul_(2)
    return x + x.detach() if x.shape[0] == 3 else x + x


@pytest.mark.parametrize(
    ("shape", "kind", "said"),
    [
        ((1, 1), "ok", None),
        ((), "foreign error", "too short"),
        ((4,), "refused", "double: `x` must have two axes"),
        ((2, 1), "wrong value", "an argument was changed in place"),
        ((3, 1), "wrong value", "the gradient to (3, 1) is "),
        ((5, 1), "wrong value", "the outcome is "),
    ],
)
def test_each_kind_of_finding_is_noticed(shape, kind, said, monkeypatch):
    def made(draw):
        draw.tame, draw.chance = True, lambda _: False
        given = torch.ones(shape, dtype=torch.float64)
        given = given if shape == (2, 1) else given.requires_grad_()
        return Call("double", _double, {"x": given}, lambda x: (2 + (len(x) == 5)) * x)

    monkeypatch.setitem(CALLS, fuzz.NAMES[0], (made, 1))
    monkeypatch.setattr(fuzz, "NAMES", fuzz.NAMES[:1])
    monkeypatch.setattr(fuzz, "WEIGHTS", [1])
    name, found, why = fuzz.outcome(0, 0)
    assert (name, found) == ("double", kind)
    assert said is None or str(why).startswith(said)


def test_a_call_can_be_made_again():
    first, second = (fuzz.Draw(3, 5) for _ in range(2))
    assert first.mood == second.mood
    assert torch.equal(first.values(2, 3).nan_to_num(9), second.values(2, 3).nan_to_num(9))
    assert not torch.equal(fuzz.Draw(3, 6).values(2, 3), fuzz.Draw(4, 6).values(2, 3))
