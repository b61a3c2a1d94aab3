"""torch.compile of the network in every recipe, and of recipes: as eager, without compiling a step again and again."""

import sys
from pathlib import Path

import pytest
import torch
from torch._dynamo.utils import counters

sys.path.insert(0, str(Path(__file__).parent))
from several_ranks import clips, make, mine, optimizer_of, state_of, trained

# by the compiler's look at what it is given, not by what it compiles
pytestmark = pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf")


@pytest.fixture(autouse=True)
def _forget_what_was_compiled():
    torch._dynamo.reset()
    counters.clear()
    yield
    torch._dynamo.reset()


def compiled_model(recipe):
    recipe.model = torch.compile(recipe.model, backend="eager")
    return recipe


def assert_as_eager(name, found):
    weights, updates = found
    expected, counted = trained(name)
    torch.testing.assert_close(weights, expected, rtol=0, atol=1e-12)
    assert updates == counted


# one without a teacher, one with every part of ours, one with shared patches: the others are made of the same parts
@pytest.mark.parametrize("name", ["source_only", "default", "released"])
def test_a_compiled_network_trains_as_an_eager_one(name):
    assert_as_eager(name, trained(name, wrap=compiled_model))
    assert counters["stats"]["unique_graphs"] > 0


def test_a_network_compiled_in_place_before_the_recipe_saw_it_does_too():
    recipe = make("default", False)
    recipe.model.compile(backend="eager")
    recipe.model(torch.randn(4, 3, 16, 24).double())
    optimizer = optimizer_of(recipe)
    for step in range(5):
        losses = recipe(*map(mine, clips(step, "alike")))
        optimizer.zero_grad()
        losses["total"].backward()
        optimizer.step()
    assert_as_eager("default", state_of(recipe))


def test_a_compiled_recipe_trains_as_an_eager_one_and_is_not_compiled_again():
    name = "default"
    with torch._dynamo.config.patch(error_on_recompile=True):  # through the end of the warm-up, too
        found = trained(name, wrap=lambda recipe: torch.compile(recipe, backend="eager"))
    assert counters["stats"]["unique_graphs"] > 0
    assert_as_eager(name, found)


def test_a_recipe_with_shared_patches_is_compiled_again_at_most_once():
    name = "paper"
    recipe = make(name, False)
    compiled, optimizer, graphs = torch.compile(recipe, backend="eager"), optimizer_of(recipe), []
    # the second time that any of its functions is compiled again is an error
    with torch._dynamo.config.patch(recompile_limit=2, fail_on_recompile_limit_hit=True):
        for step in range(5):
            losses = compiled(*map(mine, clips(step, "alike")))
            optimizer.zero_grad()
            losses["total"].backward()
            optimizer.step()
            graphs.append(counters["stats"]["unique_graphs"])
    assert graphs[-1] == graphs[-2]
    assert_as_eager(name, state_of(recipe))
