import copy
import re

import pytest
import torch
from at_hand import Colour, K, assert_same_state, clips, make, sgd, train
from torch import nn

from dastc.adapt import DACS, TPS, SourceOnly, load_checkpoint, load_model, read_about, save_checkpoint
from dastc.models import TinySegmenter


def recipe(classes=3, width=16):
    return SourceOnly(TinySegmenter(classes, width=width), classes)


def test_everything_comes_back(tmp_path):
    mine, theirs = recipe(), recipe()
    optimizers = [torch.optim.SGD(r.parameters(), lr=0.1, momentum=0.9) for r in (mine, theirs)]
    mine.model.head.weight.sum().backward()
    optimizers[0].step()
    torch.rand(3)
    save_checkpoint(tmp_path / "deep" / "a.pt", mine, optimizer=optimizers[0], step=5, about={"seed": 1})
    expected = torch.rand(3)
    torch.manual_seed(9)
    assert load_checkpoint(tmp_path / "deep" / "a.pt", theirs, optimizer=optimizers[1]) == {
        "step": 5,
        "about": {"seed": 1},
    }
    assert torch.equal(torch.rand(3), expected)  # torch's own generator goes on, too
    assert_same_state(mine, theirs)
    momenta = [optimizer.state_dict()["state"] for optimizer in optimizers]
    assert momenta[0].keys() == momenta[1].keys() != set()
    for key, state in momenta[0].items():
        assert torch.equal(state["momentum_buffer"], momenta[1][key]["momentum_buffer"])


def test_reading_for_evaluation_leaves_the_random_state_alone(tmp_path):
    mine = recipe()
    save_checkpoint(tmp_path / "a.pt", mine)
    torch.manual_seed(3)
    expected = torch.rand(1)
    torch.manual_seed(3)
    load_checkpoint(tmp_path / "a.pt", mine)
    assert torch.equal(torch.rand(1), expected)


def test_a_crash_while_writing_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "a.pt"
    save_checkpoint(path, recipe(), step=1)

    def crash(*_):
        raise OSError("disk full")

    monkeypatch.setattr(torch, "save", crash)
    with pytest.raises(OSError, match="disk full"):
        save_checkpoint(path, recipe(), step=2)
    assert load_checkpoint(path, recipe())["step"] == 1
    assert [file.name for file in tmp_path.iterdir()] == ["a.pt"]


def test_who_reads_the_old_file_while_a_new_one_is_written_reads_it_to_the_end(tmp_path):
    path = tmp_path / "a.pt"
    save_checkpoint(path, recipe(), step=1)
    whole = path.read_bytes()
    with path.open("rb") as reader:
        save_checkpoint(path, recipe(), step=2)
        assert reader.read() == whole
    assert load_checkpoint(path, recipe())["step"] == 2


@pytest.mark.parametrize("place", [0.1, 0.3, 0.5, 0.7, 0.9])
def test_a_flipped_bit_is_never_loaded_as_a_wrong_weight(tmp_path, place):
    model, fresh, path = nn.Linear(100, 100), nn.Linear(100, 100), tmp_path / "a.pt"
    save_checkpoint(path, model)
    content = bytearray(path.read_bytes())
    content[int(place * len(content))] ^= 4
    path.write_bytes(content)
    before = fresh.weight.clone()
    with pytest.raises(ValueError, match=r"a\.pt must be a whole checkpoint; reading it gave: "):
        load_checkpoint(path, fresh)
    assert torch.equal(fresh.weight, before)


def test_what_cannot_be_written_is_an_error_of_the_file_system(tmp_path, monkeypatch):
    path = tmp_path / "a.pt"
    save_checkpoint(path, nn.Linear(2, 2), step=1)

    def full(*_):
        raise RuntimeError("unexpected pos 64 vs 0")  # what torch makes of a full disk

    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(OSError, match=r"^save_checkpoint: .*a\.pt could not be written; unexpected pos 64 vs 0$"):
        save_checkpoint(path, nn.Linear(2, 2), step=2)
    assert [file.name for file in tmp_path.iterdir()] == ["a.pt"]
    assert load_checkpoint(path, nn.Linear(2, 2))["step"] == 1


def test_nothing_in_a_file_is_executed(tmp_path):
    marker = tmp_path / "executed"

    class Bomb:
        def __reduce__(self):
            return open, (str(marker), "w")

    torch.save({"format": 1, "state": Bomb()}, tmp_path / "bomb.pt")
    with pytest.raises(ValueError, match=r"must be a whole checkpoint"):
        load_checkpoint(tmp_path / "bomb.pt", recipe())
    assert not marker.exists()


def test_what_does_not_fit_is_named(tmp_path):
    path = tmp_path / "a.pt"
    save_checkpoint(path, recipe(), about={"seed": 1})
    with pytest.raises(FileNotFoundError, match=r"`path` must be a file; .*b\.pt does not exist"):
        load_checkpoint(tmp_path / "b.pt", recipe())
    with pytest.raises(ValueError, match=re.escape(f"{path} must hold a DACS; got a SourceOnly.")):
        load_checkpoint(path, DACS(TinySegmenter(3, width=16), 3))
    with pytest.raises(ValueError, match=re.escape(f"{path} must be of the same model; ") + r"(.|\n)*size mismatch"):
        load_checkpoint(path, recipe(classes=4))
    with pytest.raises(ValueError, match=re.escape(f"`seed` of {path} must be 2; got 1.")):
        load_checkpoint(path, recipe(), about={"seed": 2})
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match=r"must be a whole checkpoint; reading it gave: "):
        load_checkpoint(path, recipe())
    torch.save(nn.Linear(1, 1).state_dict(), path)
    with pytest.raises(ValueError, match=r"must be written by save_checkpoint; got something else\."):
        load_checkpoint(path, recipe())
    torch.save({"format": 99}, path)
    with pytest.raises(ValueError, match=r"must have format 2; got 99\."):
        load_checkpoint(path, recipe())


def test_the_model_of_a_recipe_is_loaded_alone(tmp_path):
    torch.manual_seed(0)
    recipe = SourceOnly(TinySegmenter(3), 3)
    save_checkpoint(tmp_path / "a.pt", recipe, about={"seed": 5})
    torch.manual_seed(1)
    model = TinySegmenter(3)
    load_model(tmp_path / "a.pt", model)
    assert all(torch.equal(value, recipe.model.state_dict()[key]) for key, value in model.state_dict().items())
    assert read_about(tmp_path / "a.pt") == {"seed": 5}


def test_a_bare_model_is_loaded_as_well(tmp_path):
    model, other = TinySegmenter(3), TinySegmenter(3)
    save_checkpoint(tmp_path / "a.pt", model)
    load_model(tmp_path / "a.pt", other)
    assert torch.equal(other.head.weight, model.head.weight)


def test_the_checkpoint_of_another_model_is_refused(tmp_path):
    save_checkpoint(tmp_path / "a.pt", SourceOnly(TinySegmenter(3), 3))
    with pytest.raises(ValueError, match=r"load_model: .*a\.pt must hold a TinySegmenter like this one; [\s\S]*head"):
        load_model(tmp_path / "a.pt", TinySegmenter(4))
    (tmp_path / "b.pt").write_text("text")
    for read in (lambda p: load_model(p, TinySegmenter(3)), read_about):
        with pytest.raises(ValueError, match=r"b\.pt must be a whole checkpoint"):
            read(tmp_path / "b.pt")
        with pytest.raises(FileNotFoundError, match=r"c\.pt does not exist"):
            read(tmp_path / "c.pt")


def test_the_teacher_may_be_loaded_in_place_of_the_student(tmp_path):
    recipe, path = make("dacs"), tmp_path / "a.pt"
    train(recipe, 2)
    save_checkpoint(path, recipe)
    for teacher, wanted in ((False, recipe.model), (True, recipe.teacher.copy)):
        model = TinySegmenter(4, width=16)
        load_model(path, model, teacher=teacher)
        assert_same_state(model, wanted)
    assert not torch.equal(recipe.model.head.weight, recipe.teacher.copy.head.weight)


@pytest.mark.parametrize("kind", ["without", "taught by the student"])
def test_where_there_is_no_teacher_none_is_loaded(tmp_path, kind):
    one = SourceOnly(Colour(), K) if kind == "without" else TPS(Colour(), K, teacher="student")
    path, name = tmp_path / "a.pt", type(one).__name__
    save_checkpoint(path, one)
    message = f"load_model: {path} must hold a teacher; got a {name} without one."
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        load_model(path, Colour(), teacher=True)


def schedules(optimizer):
    step = torch.optim.lr_scheduler.StepLR(optimizer, 2, gamma=0.1)
    return [step, torch.optim.lr_scheduler.SequentialLR(optimizer, [step, step], [3])]


@pytest.mark.parametrize("which", [0, 1])
def test_the_schedule_goes_on(tmp_path, which):
    path, recipes = tmp_path / "a.pt", [SourceOnly(Colour(), K) for _ in range(2)]
    optimizers = [sgd(recipe) for recipe in recipes]
    mine, theirs = (schedules(optimizer)[which] for optimizer in optimizers)
    for _ in range(3):
        optimizers[0].step(), mine.step()
    save_checkpoint(path, recipes[0], optimizer=optimizers[0], scheduler=mine)
    load_checkpoint(path, recipes[1], optimizer=optimizers[1], scheduler=theirs)
    for _ in range(3):
        assert optimizers[0].param_groups[0]["lr"] == optimizers[1].param_groups[0]["lr"]
        for optimizer, scheduler in zip(optimizers, (mine, theirs), strict=True):
            optimizer.step(), scheduler.step()
    assert optimizers[0].param_groups[0]["lr"] < 0.01


@pytest.mark.parametrize("asked", ["optimizer", "scheduler"])
def test_what_the_file_does_not_hold_is_named(tmp_path, asked):
    path, recipe, other = tmp_path / "a.pt", SourceOnly(Colour(), K), SourceOnly(Colour(), K)
    optimizer = sgd(recipe)
    save_checkpoint(path, other)
    before = copy.deepcopy(recipe)
    wanted = optimizer if asked == "optimizer" else schedules(optimizer)[1]
    message = f"load_checkpoint: {path} must hold the state of the `{asked}`; it was saved without."
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        load_checkpoint(path, recipe, **{asked: wanted})
    assert_same_state(recipe, before)  # nothing is half restored
    save_checkpoint(path, other, scheduler=schedules(optimizer)[0])
    with pytest.raises(ValueError, match=re.escape(f"load_checkpoint: {path} must be of the same model; ")):
        load_checkpoint(path, recipe, scheduler=schedules(optimizer)[1])


def compiled(model):
    return torch.compile(model, backend="eager")


@pytest.mark.parametrize("wrap", [compiled, nn.DataParallel, lambda model: nn.DataParallel(compiled(model))])
@pytest.mark.parametrize("of", ["model", "recipe"])
def test_a_wrapped_model_and_a_bare_one_read_each_others_files(tmp_path, wrap, of):
    def build(wrapped):
        model = Colour()
        recipe = make("dacs", model=wrap(model) if wrapped and of == "model" else model)
        return recipe, wrap(recipe) if wrapped and of == "recipe" else recipe

    for saved, read in ((True, False), (False, True), (True, True)):
        (one, outer), (other, other_outer) = build(saved), build(read)
        train(one, 2)
        save_checkpoint(tmp_path / "a.pt", outer)
        load_checkpoint(tmp_path / "a.pt", other_outer)
        for name in ("stem", "neck", "head"):
            mine, theirs = (inner(recipe.model).get_submodule(name).weight for recipe in (one, other))
            assert torch.equal(mine, theirs)
        assert_same_state(one.labels, other.labels)
        assert other.get_extra_state() == {"updates": 2, "pending": 1}
        for target in (Colour(), wrap(Colour())):
            load_model(tmp_path / "a.pt", target)
            assert torch.equal(inner(target).head.weight, inner(one.model).head.weight)
            load_model(tmp_path / "a.pt", target, teacher=True)
            assert torch.equal(inner(target).head.weight, one.teacher.copy.head.weight)
    assert other(*clips())["total"].isfinite()


def inner(model):
    return next(module for module in model.modules() if isinstance(module, Colour))
