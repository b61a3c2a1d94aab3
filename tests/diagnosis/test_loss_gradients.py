import copy
import math

import pytest
import torch

from dastc import Clip
from dastc._core.distributed import world
from dastc.adapt import DACS, DASTC
from dastc.diagnosis import loss_gradients, pasted_shares
from dastc.models import TinySegmenter

K = 4


def test_one_of_several_ranks_may_look_alone(monkeypatch):
    torch.manual_seed(0)
    recipe = DASTC(TinySegmenter(K, width=16), K, warmup=0)
    source, target = (Clip(torch.randn(1, 1, 3, 16, 16), torch.randint(0, K, (1, 1, 16, 16))) for _ in range(2))
    fusion = recipe.views[1].fusion
    expected = loss_gradients(recipe, source, target), pasted_shares(fusion, source, target, K)
    monkeypatch.setattr(torch.distributed, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.distributed, "get_world_size", lambda: 2)
    monkeypatch.setattr(torch.distributed, "get_rank", lambda: 1)
    monkeypatch.setattr(torch.distributed, "all_reduce", lambda *_, **__: pytest.fail("waits for the other rank"))
    assert (loss_gradients(recipe, source, target), pasted_shares(fusion, source, target, K)) == expected
    assert world() == 2


def test_gradients_of_the_terms_and_nothing_is_changed():
    torch.manual_seed(0)
    recipe = DASTC(TinySegmenter(K, width=16), K, features="neck", warmup=0, seed=3)
    recipe.labels.threshold = 0.26
    source, target = (
        Clip(torch.randn(2, 2, 3, 16, 16), torch.randint(0, K, (2, 2, 16, 16)), torch.zeros(2, 1, 2, 16, 16))
        for _ in range(2)
    )
    before = copy.deepcopy(recipe.state_dict())
    pulls = loss_gradients(recipe, source, target)
    after = recipe.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(a, after[key]) for key, a in before.items() if isinstance(a, torch.Tensor))
    assert recipe.updates == 0
    assert all(p.grad is None for p in recipe.parameters())
    assert pulls.keys() == {"source", "in_source", "in_target", "align"}

    losses = recipe.step(source, target)
    parameters = list(recipe.model.parameters())
    flat = {
        name: torch.cat([
            torch.zeros_like(p).flatten() if g is None else g.flatten()
            for p, g in zip(
                parameters, torch.autograd.grad(loss, parameters, retain_graph=True, allow_unused=True), strict=True
            )
        ])
        for name, loss in losses.items()
    }  # fmt: skip
    for name, pull in pulls.items():
        assert pull.norm == pytest.approx(float(flat[name].norm()), rel=1e-4)
        rest = flat["total"] - flat[name]
        assert pull.cosine == pytest.approx(float(torch.cosine_similarity(flat[name], rest, dim=0)), abs=1e-3)


def test_a_term_without_gradient_has_no_direction():
    clip = Clip(torch.randn(1, 1, 3, 16, 16), torch.full((1, 1, 16, 16), 255))
    pulls = loss_gradients(DACS(TinySegmenter(K, width=16), K), clip, clip)
    assert pulls["source"].norm == 0
    assert math.isnan(pulls["source"].cosine)
