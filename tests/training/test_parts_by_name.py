"""Parts that are left out, or added, by name."""

import pytest
import torch
from torch import nn

from dastc.adapt import DASTC, Alignment, ClassPrior, MatchHistograms, OnlyIfAlike
from dastc.models import TinySegmenter
from dastc.training.parts_by_name import ADDITIONS, PARTS, dastc_by_names


def there(recipe):
    """Return the names of the parts that a recipe has."""
    asking = [part.part for part in (recipe.labels.adjust, recipe.prepare) if isinstance(part, OnlyIfAlike)]
    found = {
        "align": any(isinstance(term, Alignment) for term in recipe.terms),
        "class_prior": isinstance(recipe.labels.adjust, ClassPrior),
        "histograms": isinstance(recipe.prepare, MatchHistograms),
    }
    found |= {f"{type(part).__name__} if alike": not isinstance(part, nn.Identity) for part in asking}
    return {name for name, has in found.items() if has}


def made(*, without=(), adding=(), **options):
    torch.manual_seed(0)
    return dastc_by_names(TinySegmenter(3), 3, without=without, adding=adding, shallow="stem", **options)


@pytest.mark.parametrize("names", [(), *((name,) for name in PARTS), PARTS])
def test_what_is_named_is_left_out_and_nothing_else(names):
    ours = {"align": "align", "class_prior": "ClassPrior if alike", "histograms": "MatchHistograms if alike"}
    assert there(made(without=names)) == {ours[name] for name in PARTS if name not in names}
    assert there(made(without=names, preset="released")) == {"align", "histograms"} - set(names)
    assert isinstance(made(without=names), DASTC) is (not names)


@pytest.mark.parametrize("names", [*((name,) for name in ADDITIONS), ADDITIONS])
def test_what_is_named_is_added_and_nothing_else(names):
    assert there(made(adding=names)) == {"align", *names}
    assert there(made(adding=names, without="align")) == set(names)


def test_one_part_needs_no_list():
    assert there(made(without="align", adding="histograms")) == {"histograms"}


@pytest.mark.parametrize("changes", [{}, {"without": "align"}, {"adding": "class_prior"}])
def test_options_are_those_of_the_recipe(changes):
    recipe = made(**changes, warmup=7, seed=5, ignore_index=9, preset="paper")
    assert (recipe.warmup, recipe.seed, recipe.ignore_index, recipe.all_frames) == (7, 5, 9, True)
    assert made(**changes, preset="released").warmup == 0
    if "adding" in changes:
        assert recipe.labels.adjust.ignore_index == 9


def test_a_part_that_there_is_not_or_that_is_left_out_and_added_is_named():
    with pytest.raises(ValueError, match=r"`without` must be one of 'align', 'class_prior', .*; got 'memory'"):
        made(without=["memory"])
    with pytest.raises(ValueError, match=r"`adding` must be one of 'class_prior', 'histograms'; got 'align'"):
        made(adding="align")
    with pytest.raises(ValueError, match=r"`adding` must not name what `without` leaves out; got \['histograms'\]"):
        made(adding=ADDITIONS, without="histograms")
