import re

import pytest
import torch
from torch import nn

from dastc.adapt import DACS, SourceOnly, load_checkpoint, load_model, read_about, save_checkpoint
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
    for a, b in zip(mine.state_dict().values(), theirs.state_dict().values(), strict=True):
        assert torch.equal(a, b)
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
    with pytest.raises(ValueError, match=r"must have format 1; got 99\."):
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
