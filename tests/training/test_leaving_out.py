"""Parts that are left out by name."""

import pytest
import torch

from dastc.adapt import DASTC, Alignment, ClassPrior, MatchHistograms
from dastc.models import TinySegmenter
from dastc.training.leaving_out import PARTS, dastc_without


def there(recipe):
    """Return the names of the parts that a recipe has."""
    found = {
        "align": any(isinstance(term, Alignment) for term in recipe.terms),
        "class_prior": isinstance(recipe.labels.adjust, ClassPrior),
        "histograms": isinstance(recipe.prepare, MatchHistograms),
    }
    return {name for name, has in found.items() if has}


def made(names, **options):
    torch.manual_seed(0)
    return dastc_without(names, TinySegmenter(3), 3, shallow="stem", **options)


@pytest.mark.parametrize("names", [(), *((name,) for name in PARTS), PARTS])
def test_what_is_named_is_left_out_and_nothing_else(names):
    assert there(made(names)) == set(PARTS) - set(names)
    assert isinstance(made(names), DASTC) is (not names)


def test_one_part_needs_no_list():
    assert there(made("align")) == {"class_prior", "histograms"}


@pytest.mark.parametrize("names", [(), ("align",)])
def test_options_are_those_of_the_recipe(names):
    recipe = made(names, warmup=7, seed=5, ignore_index=9, preset="paper")
    assert (recipe.warmup, recipe.seed, recipe.ignore_index, recipe.all_frames) == (7, 5, 9, True)
    assert made(names, preset="released").warmup == 0
    assert there(made(names, preset="paper")) == {"align"} - set(names)


def test_a_part_that_there_is_not_is_named():
    with pytest.raises(ValueError, match=r"`names` must be one of 'align', 'class_prior', 'histograms'; got 'memory'"):
        made(["memory"])
