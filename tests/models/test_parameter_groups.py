"""Learning rates, decay and frozen parts, by name."""

import pytest
import torch
from torch import nn

from dastc.models import TinySegmenter, freeze, parameter_groups


def placed(model, groups):
    """Say in which group each parameter is; each is in one."""
    names = {id(p): name for name, p in model.named_parameters()}
    found = {}
    for group in groups:
        for parameter in group["params"]:
            assert names[id(parameter)] not in found
            found[names[id(parameter)]] = group
    return found


def test_rates_follow_names_and_norms_and_biases_do_not_decay():
    model = TinySegmenter(3)
    found = placed(model, parameter_groups(model, 0.1, factors={"head": 10, "stem": 0.5}, weight_decay=0.03))
    assert found.keys() == dict(model.named_parameters()).keys()
    for name, group in found.items():
        factor = {"head": 10, "stem": 0.5}.get(name.split(".")[0], 1)
        assert group["lr"] == group["initial_lr"] == pytest.approx(0.1 * factor)
        assert group["weight_decay"] == (0.03 if dict(model.named_parameters())[name].dim() > 1 else 0)


def test_the_last_pattern_that_fits_holds_and_stars_span_dots():
    model = TinySegmenter(3)
    found = placed(model, parameter_groups(model, 1.0, factors={"deep": 2, "deep.*.bias": 3, "*.0.weight": 4}))
    assert found["deep.1.body.0.1.bias"]["lr"] == 3
    assert found["deep.1.body.0.1.weight"]["lr"] == 2
    assert found["deep.1.body.0.0.weight"]["lr"] == 4
    assert found["stem.0.0.weight"]["lr"] == 4
    assert found["head.weight"]["lr"] == 1


def test_a_name_is_whole_or_a_prefix_up_to_a_dot():
    model = nn.ModuleDict({"head": nn.Linear(2, 2), "header": nn.Linear(2, 2)})
    found = placed(model, parameter_groups(model, 1.0, factors={"head": 5}))
    assert found["head.weight"]["lr"] == 5
    assert found["header.weight"]["lr"] == 1


def test_an_optimiser_takes_the_groups_and_frozen_parts_are_left_out():
    model = TinySegmenter(3)
    freeze(model, ["stem"])
    groups = parameter_groups(model, 1e-2, factors={"head": 10})
    assert not any(name.startswith("stem") for name in placed(model, groups))
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    optimizer = torch.optim.AdamW(groups)
    model(torch.randn(1, 3, 16, 16)).square().mean().backward()
    optimizer.step()
    still = {name for name, p in model.named_parameters() if torch.equal(p, before[name])}
    assert still == {name for name in before if name.startswith("stem")}


def test_freezing_keeps_running_statistics():
    model = TinySegmenter(3, norm="batch").train()
    freeze(model, ["stem", "deep.0"])
    before = {name: buffer.clone() for name, buffer in model.named_buffers()}
    model(torch.randn(2, 3, 32, 32))
    still = {name for name, b in model.named_buffers() if torch.equal(b, before[name])}
    assert still == {name for name in before if name.startswith(("stem.", "deep.0."))}
    assert model.training


def test_single_parameters_can_be_frozen():
    model = TinySegmenter(3)
    freeze(model, ["*.bias"])
    assert {name for name, p in model.named_parameters() if not p.requires_grad} == {
        name for name, _ in model.named_parameters() if name.endswith(".bias")
    }
    assert all(module.training for module in model.modules())


def test_a_misspelt_name_is_refused_with_names_that_are_near():
    with pytest.raises(ValueError, match=r"parameter_groups: `factors` must fit .*TinySegmenter; got 'haed'.*'head'"):
        parameter_groups(TinySegmenter(3), 1.0, factors={"haed": 10})
    with pytest.raises(ValueError, match=r"freeze: `patterns` must fit names of TinySegmenter; got 'stm'.*'stem'"):
        freeze(TinySegmenter(3), ["stm"])
    with pytest.raises(ValueError, match=r"got 'xyzzy'. Near: 'stem', 'middle', 'deep', 'neck', 'head'"):
        freeze(TinySegmenter(3), ["xyzzy"])
    with pytest.raises(TypeError, match="freeze: `patterns` must be a sequence of names; got the single string 'stem'"):
        freeze(TinySegmenter(3), "stem")


def test_wrong_numbers_are_refused():
    model = TinySegmenter(3)
    with pytest.raises(ValueError, match="`lr` must be above 0; got 0"):
        parameter_groups(model, 0)
    with pytest.raises(ValueError, match="`weight_decay` must be at least 0; got -1"):
        parameter_groups(model, 1.0, weight_decay=-1)
    with pytest.raises(ValueError, match=r"`factors\['head'\]` must be at least 0; got -2"):
        parameter_groups(model, 1.0, factors={"head": -2})
    freeze(model, ["*"])
    with pytest.raises(ValueError, match="`model` must have a parameter that learns; TinySegmenter has none"):
        parameter_groups(model, 1.0)
