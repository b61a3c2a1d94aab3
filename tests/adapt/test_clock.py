"""The clock of a recipe are the changes of the student's weights: not its calls, and not who asks when."""

import copy
import pickle
import re
import warnings

import pytest
import torch
from at_hand import (
    RECIPES,
    Colour,
    K,
    assert_same_losses,
    assert_same_state,
    clips,
    gradients,
    make,
    sgd,
    tiny,
    train,
)
from torch import nn

from dastc import Clip
from dastc.adapt import DACS, TPS, Clean, Exchange, Recipe, Segmentation, SourceOnly, Teacher, TeacherLabels
from dastc.clip import map_clip
from dastc.fusion import SequencePatchFusion


@pytest.mark.parametrize("name", ["dacs", "default", "paper"])
def test_batches_without_a_change_of_the_weights_move_nothing(name):
    recipe = make(name, **({} if name == "dacs" else {"warmup": 2}))
    optimizer, kinds = sgd(recipe), []
    for change in range(4):
        optimizer.zero_grad()
        for batch in range(4):
            losses = recipe(*clips(seed=4 * change + batch))
            (losses["total"] / 4).backward()
            kinds.append(len(losses) > 2)
            assert recipe.updates == change + 1
            assert recipe.teacher.updates == max(0, change + 1 - recipe.warmup)  # it starts where the warm-up ends
        optimizer.step()
    if name != "dacs":
        assert kinds[:8] == [False] * 8
    assert all(kinds[9:])


@pytest.mark.parametrize("name", ["dacs", "default", "own"])
def test_it_does_not_matter_who_asks_when(name):
    def run(asks):
        recipe = make(name)
        recipe.warmup = 1
        optimizer, told = sgd(recipe), []
        for step in range(3):
            losses = recipe(*clips(seed=step))
            optimizer.zero_grad()
            losses["total"].backward()
            optimizer.step()
            told += [recipe.update() for _ in range(asks)]
        return recipe, recipe(*clips(seed=9)), told

    (never, wanted, _), (once, *found), (twice, *again) = (run(asks) for asks in range(3))
    assert found[1] == [True, True, True]
    assert again[1] == [True, False] * 3
    for recipe, losses in ((once, found[0]), (twice, again[0])):
        assert_same_losses(losses, wanted, rtol=0, atol=0)
        assert_same_state(recipe, never)
    assert (never.updates, never.teacher.updates) == (4, 3)


@pytest.mark.parametrize("name", RECIPES)
def test_evaluation_mode_moves_nothing(name):
    recipe = make(name)
    train(recipe, 2)  # the last change is yet to be noticed
    before = copy.deepcopy(recipe)
    recipe.eval()
    for seed in range(5, 7):
        assert recipe(*clips(seed))["total"].isfinite()
    # what is drawn is drawn, all the same
    assert_same_state(recipe, before, but=("random",))
    recipe.train()
    recipe(*clips())
    assert recipe.updates == 3


class OldFashioned(torch.optim.Optimizer):
    """Write past the version counters, as some optimisers do."""

    def __init__(self, parameters):
        super().__init__(parameters, {})

    def step(self):
        for p in self.param_groups[0]["params"]:
            p.data.sub_(0.1 * p.grad)


@pytest.mark.parametrize(
    "make_optimizer",
    [
        OldFashioned,
        lambda p: torch.optim.SGD(p, lr=0.1, fused=True),
        lambda p: torch.optim.SGD(p, lr=0.1, foreach=False),
        lambda p: torch.optim.SGD(p, lr=0.1, foreach=True),
        lambda p: torch.optim.AdamW(p, lr=0.1, fused=True),
        lambda p: torch.optim.Adam(p, lr=0.1, foreach=True),
    ],
)
def test_every_optimizer_is_noticed(make_optimizer):
    model = Colour()
    recipe, second, stranger = DACS(model, K), DACS(model, K), DACS(Colour(), K)
    optimizer = make_optimizer(model.parameters())
    stranger(*clips())
    for step in range(3):
        recipe(*clips(step))["total"].backward()
        second(*clips(step))
        optimizer.step()
        twin = copy.deepcopy(recipe)
        assert not stranger.update()
    for one in (recipe, second, twin):
        assert one.update()
        assert not one.update()
        assert one.teacher.updates == 4


def test_an_optimizer_that_finds_no_gradient_changes_nothing():
    recipe = DACS(Colour(), K)
    recipe(*clips())
    torch.optim.SGD(recipe.model.parameters(), lr=0.1).step()
    assert not recipe.update()


def test_a_change_of_one_weight_is_enough():
    recipe = DACS(Colour(), K)
    recipe(*clips())
    assert not recipe.update()
    with torch.no_grad():
        recipe.model.head.bias[0] += 1
    assert recipe.update()


def test_a_change_behind_the_back_of_pytorch_is_told_of_in_the_end():
    recipe = DACS(Colour(), K)
    pair = [map_clip(x, lambda y: y[..., :4, :4]) for x in clips(batch=1, time=1, flow=False)]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for _ in range(100):
            recipe(*pair)
            recipe.model.head.bias.data.add_(0.1)
    assert recipe.updates == recipe.teacher.updates == 1
    message = (
        "DACS: the student's weights have not changed for 100 steps, so neither has the teacher. If something writes "
        "to their `.data`, call recipe.update(force=True) after it."
    )
    with pytest.warns(UserWarning, match=f"^{re.escape(message)}$"):
        recipe(*pair)
    recipe(*pair)  # once is enough
    assert recipe.update(force=True)
    assert recipe.updates == recipe.teacher.updates == 2
    keep = 1 - 1 / 3
    torch.testing.assert_close(recipe.teacher.copy.head.bias, recipe.model.head.bias - 10 * keep)
    assert not recipe.update()


@pytest.mark.parametrize(
    ("way", "explicit"),
    [("state_dict", False), ("state_dict of state_dict", True), ("deepcopy", False), ("deepcopy", True), ("pickle", 1)],
)
@pytest.mark.parametrize("name", ["default", "paper", "own"])
def test_a_copy_between_two_steps_goes_on_bit_for_bit(name, way, explicit):
    recipe = make(name)
    recipe.warmup, recipe.warming = 4, True  # which ends after the copy
    _, optimizer = train(recipe, 3)  # the last change is yet to be noticed,
    if explicit:
        assert recipe.update()  # or has been
    if way == "deepcopy":
        twin = copy.deepcopy(recipe)
    elif way == "pickle":
        twin = pickle.loads(pickle.dumps(recipe))
    else:
        state = recipe.state_dict()
        for _ in range(way.count("state_dict")):
            twin = make(name, seed=5)
            twin.warmup = 4
            twin.load_state_dict(copy.deepcopy(state))
            state = twin.state_dict()
    assert not (explicit and twin.update())  # which is harmless
    theirs = sgd(twin)
    theirs.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    wanted, _ = train(recipe, 2, first=3, optimizer=optimizer)
    found, _ = train(twin, 2, first=3, optimizer=theirs)
    assert_same_losses(found, wanted, rtol=0, atol=0)
    assert_same_state(recipe, twin)
    assert recipe.updates == 5
    assert all(module is not other for module, other in zip(recipe.modules(), twin.modules(), strict=True))


@pytest.mark.parametrize("warmup", [0, 1, 2, 3])
@pytest.mark.parametrize("steps", [0, 1, 2])
@pytest.mark.parametrize("explicit", [False, True])
def test_a_restored_recipe_is_as_far_in_the_warm_up(steps, warmup, explicit):
    one, other = (make("default", model=Colour(), warmup=warmup) for _ in range(2))
    if steps:
        train(one, steps)
    if explicit:
        one.update()
    other.load_state_dict(one.state_dict())
    assert other.warming == one.warming
    pair = clips(9)
    assert list(other.eval()(*pair)) == list(one.eval()(*pair))  # before anything else moves
    assert list(other.train()(*pair)) == list(one.train()(*pair))
    assert other.warming == one.warming


def test_a_copy_is_read_by_its_own_taps():
    recipe = make("paper")
    train(recipe, 2)
    twin = copy.deepcopy(recipe)
    for tap, name in ((twin._taps["neck"], "neck"), (twin._taps["stem"], "stem")):
        assert tap.module is getattr(twin.model, name)
    assert twin.teacher._student is twin.model


def test_weights_that_are_loaded_later_are_the_teachers_after_the_first_step():
    recipe, other = make("dacs"), tiny(seed=3)
    recipe.model.load_state_dict(other.state_dict())
    recipe(*clips())
    for mine, theirs in zip(recipe.teacher.copy.state_dict().values(), other.state_dict().values(), strict=True):
        assert torch.equal(mine, theirs)


@pytest.mark.parametrize("mode", ["frozen", "student"])
def test_recipes_without_an_average_have_the_same_clock(mode):
    recipe = TPS(tiny(), K, teacher=mode)
    train(recipe, 2)
    assert recipe.updates == 2
    assert recipe.teacher.updates == 0


class Fixed(SequencePatchFusion):
    """Paste classes 0 and 1 of every clip, whatever else is in the batch."""

    def _draw_source_classes(self, clip):
        table = torch.zeros(len(clip.frames), K, dtype=torch.bool)
        table[:, :2] = True
        return table


def accumulating(name):
    model = tiny().double()
    if name == "source_only":
        return SourceOnly(model, K, augment=nn.Identity())
    return Recipe(
        model,
        K,
        labels=TeacherLabels(Teacher(model), cross_frame="averaged", threshold=0.5),
        views=[Clean("source"), Exchange(Fixed(K), **({"contexts": ("in_target",)} if name == "dacs" else {}))],
        terms=[Segmentation()],
        augment=nn.Identity(),
        all_frames=name == "dacs",
    )


@pytest.mark.parametrize("name", ["source_only", "dacs", "exchange"])
def test_four_batches_are_one_of_four_times_the_size(name):
    at_once, in_parts = accumulating(name), accumulating(name)
    optimizers = [torch.optim.SGD(recipe.model.parameters(), lr=0.1, momentum=0.9) for recipe in (at_once, in_parts)]
    for step in range(3):
        pair = clips(seed=step, batch=4, dtype=torch.float64)
        for optimizer in optimizers:
            optimizer.zero_grad()
        at_once(*pair)["total"].backward()
        for i in range(4):
            part = (Clip(*(x[i : i + 1] for x in clip[:3])) for clip in pair)
            (in_parts(*part)["total"] / 4).backward()
        wanted = gradients(at_once)
        for key, value in gradients(in_parts).items():
            torch.testing.assert_close(value, wanted[key], rtol=1e-9, atol=1e-12)
        for optimizer in optimizers:
            optimizer.step()
    at_once(*pair), in_parts(*pair)
    assert at_once.get_extra_state() == in_parts.get_extra_state() == {"updates": 4, "pending": 0}
    if name != "source_only":
        teachers = (recipe.teacher.copy.state_dict() for recipe in (at_once, in_parts))
        for one, other in zip(*(x.values() for x in teachers), strict=True):
            torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-12)
        assert in_parts.teacher.updates == 4
