"""Each data set of the literature, on a small tree in the exact layout of the real one."""

import shutil

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader

from dastc import stack_clips
from dastc.clip import check_clip
from dastc.data import GTA5, Cityscapes, CityscapesSeq, SynthiaRand, SynthiaSeq, Viper, to_rgb
from dastc.data.spaces import CITYSCAPES19, STREET, SYNTHIA13, SYNTHIA_SEQ12, VIPER15
from dastc.data.viper import without_own_car


def mapped(ids, space, source):
    table = np.full(256, 255)
    for raw, label in space.raw_ids[source].items():
        table[raw] = label
    return torch.from_numpy(table[ids])


def names(data):
    return [[frame.image.name.partition(".")[0] for frame in clip] for clip in data._clips]


EACH = {
    "Cityscapes": (lambda m, root: m.cityscapes(root), lambda root: Cityscapes(root)),
    "CityscapesSeq": (lambda m, root: m.cityscapes(root), lambda root: CityscapesSeq(root, label_space=VIPER15)),
    "SynthiaSeq": (lambda m, root: m.synthia_seq(root), lambda root: SynthiaSeq(root, cut=12)),
    "SynthiaRand": (lambda m, root: m.synthia_rand(root), lambda root: SynthiaRand(root, label_space=SYNTHIA13)),
    "Viper": (lambda m, root: m.viper(root), lambda root: Viper(root)),
    "GTA5": (lambda m, root: m.gta5(root), lambda root: GTA5(root, size=(26, 48))),
}


@pytest.mark.parametrize("name", EACH)
def test_a_tree_passes_its_check_and_an_epoch(name, tmp_path, miniature):
    write, read = EACH[name]
    write(miniature, tmp_path)
    data = read(tmp_path)
    report = data.check(progress=False)
    assert report.ok, str(report)
    assert report.usable == tuple(range(len(data)))
    for batch in DataLoader(data, batch_size=2, collate_fn=stack_clips, num_workers=1):
        check_clip("test", "batch", batch, labelled=True)
        labels = batch.labels[batch.labels != 255]
        assert labels.max() < len(data.label_space.names)
        assert len(labels.unique()) > 3


@pytest.mark.parametrize("name", EACH)
def test_a_space_without_the_ids_of_the_set_is_refused(name, tmp_path, miniature):
    EACH[name][0](miniature, tmp_path)
    kind = {"Cityscapes": Cityscapes, "CityscapesSeq": CityscapesSeq, "SynthiaSeq": SynthiaSeq,
            "SynthiaRand": SynthiaRand, "Viper": Viper, "GTA5": GTA5}[name]  # fmt: skip
    with pytest.raises(
        ValueError, match=rf"^{name}: `label_space` must map the ids of .*; got one with those of no data"
    ):
        kind(tmp_path, label_space=STREET)


def test_cityscapes_reads_labelled_pictures(tmp_path, miniature):
    data = Cityscapes(miniature.cityscapes(tmp_path))
    assert names(data) == [["aachen_000019_000019_leftImg8bit"], ["hamburg_000000_000042_leftImg8bit"]]
    clip = data[1]
    assert clip.flow is None
    assert torch.equal(to_rgb(clip.frames[0]), torch.from_numpy(miniature.picture(142, (64, 128))))
    assert torch.equal(clip.labels[0], mapped(miniature.ids("cityscapes", 1, (64, 128)), CITYSCAPES19, "cityscapes"))
    assert names(Cityscapes(tmp_path, cities="hamburg")) == [["hamburg_000000_000042_leftImg8bit"]]
    shutil.rmtree(tmp_path / "gtFine")
    assert Cityscapes(tmp_path, labelled=False)[0].labels is None
    with pytest.raises(ValueError, match=r"`root` must hold the folder gtFine/train; got .* without it"):
        Cityscapes(tmp_path)
    with pytest.raises(ValueError, match=r"`split` must be one of 'train', 'val', 'test'; got 'training'"):
        Cityscapes(tmp_path, split="training")
    with pytest.raises(
        ValueError, match=r"`cities` must be of those in .*train: aachen, hamburg; got 'Achen'\. Did you"
    ):
        Cityscapes(tmp_path, cities=["Achen"])


def test_video_is_labelled_in_its_last_frame_alone(tmp_path, miniature):
    data = CityscapesSeq(miniature.cityscapes(tmp_path), frames=3, label_space=SYNTHIA_SEQ12)
    # numbered like its frame: the sequence's number stays what it is
    assert names(data)[0] == [f"aachen_000019_0000{n}_leftImg8bit" for n in (17, 18, 19)]
    clip = data[0]
    assert (clip.labels[:2] == 255).all()
    assert torch.equal(clip.labels[2], mapped(miniature.ids("cityscapes", 0, (64, 128)), SYNTHIA_SEQ12, "cityscapes"))
    assert names(CityscapesSeq(tmp_path, frames=2, interval=2))[1] == [
        f"hamburg_000000_0000{n}_leftImg8bit" for n in (40, 42)
    ]


def test_unlabelled_video_has_a_clip_for_every_frame(tmp_path, miniature):
    miniature.cityscapes(tmp_path)
    shutil.rmtree(tmp_path / "gtFine")
    data = CityscapesSeq(tmp_path, labelled=False)
    assert len(data) == 4
    assert data[0].labels is None


def test_a_labelled_frame_with_too_little_before_it_is_told(tmp_path, miniature):
    root = miniature.cityscapes(tmp_path)
    (root / "leftImg8bit_sequence/train/aachen/aachen_000019_000018_leftImg8bit.png").unlink()
    message = (
        r"CityscapesSeq: 1 clips are left out\. The picture of frame 18 of aachen_000019 is missing, which the clip"
    )
    with pytest.warns(UserWarning, match=message):
        data = CityscapesSeq(root)
    assert len(data) == 1
    assert "frame 18 of aachen_000019" in str(data.check(progress=False))
    with pytest.raises(ValueError, match=r"CityscapesSeq: all 1 clips want a file\. The picture of frame 39 of hamb"):
        CityscapesSeq(root, frames=4, cities="hamburg")


def test_viper_is_every_tenth_frame_with_the_one_before(tmp_path, miniature):
    root = miniature.viper(tmp_path)
    data = Viper(root)
    assert names(data) == [[f"{s}_{n - 1:05}", f"{s}_{n:05}"] for s in ("001", "077") for n in (10, 20)]
    assert data.sequence_names == ("001", "077")
    assert names(Viper(root, sequences="077", frames=1)) == [["077_00010"], ["077_00020"]]
    # frame 1 is the first: there is no clip of two that ends with it; frame 9 lacks frame 8
    with pytest.warns(UserWarning, match="2 clips are left out. The picture of frame 8 of 001 is missing"):
        assert names(Viper(root, every=1, sequences="001")) == names(data)[:2]


@pytest.mark.parametrize("folder", ["img", "cls"])
def test_viper_without_the_package_of_the_frames_before_says_which_file_is_wanted(tmp_path, miniature, folder):
    root = miniature.viper(tmp_path, numbers=(1, 9, 10))
    for path in (root / "train" / folder).glob("*/*_00009.*"):
        path.unlink()
    missing = "The picture of frame 9 of 001" if folder == "img" else r"The labels of .*001_00009\.jpg"
    with pytest.raises(ValueError, match=rf"^Viper: all 2 clips want a file\. {missing} is missing, which the clip"):
        Viper(root)


def test_the_own_car_is_ignored_and_no_other(tmp_path, miniature):
    ids = np.zeros((6, 9), np.uint8)
    ids[5, 2:7] = ids[4, 1] = ids[3, 0] = 24  # over corners up to the edge
    ids[0, :3] = ids[5, 8] = 24  # others
    own = np.zeros_like(ids, bool)
    own[5, 2:7] = own[4, 1] = own[3, 0] = True
    assert np.array_equal(without_own_car(ids), np.where(own, 0, ids))
    ids[5, 4] = 3
    assert np.array_equal(without_own_car(ids), ids)
    root = miniature.viper(tmp_path)
    for ignored in (True, False):
        labels = Viper(root, ignore_own_car=ignored)[0].labels
        assert bool((labels[:, -2:] == 255).all()) is ignored
        assert bool((labels[:, -2:] == VIPER15.names.index("car")).all()) is not ignored


def test_viper_labels_are_those_of_the_files(tmp_path, miniature):
    clip = Viper(miniature.viper(tmp_path))[0]
    for frame, number in enumerate((9, 10)):
        want = mapped(miniature.ids("viper", number, (36, 64)), VIPER15, "viper")
        assert torch.equal(clip.labels[frame, :-8], want[:-8])


@pytest.mark.parametrize("archive", [True, False])
def test_synthia_is_read_in_both_layouts_without_its_lowest_rows(tmp_path, miniature, archive):
    root = miniature.synthia_seq(tmp_path / "SYNTHIA-SEQS-04-DAWN", archive=archive)
    for given in (root, tmp_path):
        data = SynthiaSeq(given, cut=12)
        assert names(data) == [["000000", "000001"], ["000001", "000002"], ["000002", "000003"]]
        assert data.sequence_names == ("SYNTHIA-SEQS-04-DAWN",)
    clip = data[0]
    assert clip.frames.shape == (2, 3, 64, 128)
    assert torch.equal(to_rgb(clip.frames[1]), torch.from_numpy(miniature.picture(1, (76, 128))[:64]))
    want = mapped(miniature.ids("synthia_seq", 1, (76, 128))[:64], SYNTHIA_SEQ12, "synthia_seq")
    assert torch.equal(clip.labels[1], want)
    assert len(want.unique()) == 13  # all of the classes
    with pytest.raises(ValueError, match=r"must have more rows than the 120 to cut off"):
        SynthiaSeq(root)[0]


def test_several_sequences_of_synthia_keep_their_numbers_apart(tmp_path, miniature):
    for number, name in enumerate(("DAWN", "FALL")):
        miniature.synthia_seq(tmp_path / name, numbers=range(2 + number), archive=bool(number))
    data = SynthiaSeq(tmp_path, cut=12)
    assert [(clip[-1].sequence, clip[-1].number) for clip in data._clips] == [("DAWN", 1), ("FALL", 1), ("FALL", 2)]
    assert len(SynthiaSeq(tmp_path, sequences="FALL")) == 2
    miniature.flow(tmp_path / "flow/DAWN", ["000001"])
    miniature.flow(tmp_path / "flow/FALL", ["000001", "000002"], tenths=(50, 0))
    data = SynthiaSeq(tmp_path, cut=12, sequences=["DAWN", "FALL"], flow=tmp_path / "flow")
    assert data[0].flow[0, 0, 0, 0] == pytest.approx(2.5 * 8)
    assert data[1].flow[0, 0, 0, 0] == pytest.approx(5 * 8)
    with pytest.raises(ValueError, match=r"`root` must hold RGB/Stereo_Left/Omni_F and GT/LABELS/.*, or rgb and label"):
        SynthiaSeq(tmp_path / "flow")


def test_synthia_rand_and_gta5_read_what_their_archives_hold(tmp_path, miniature):
    rand = SynthiaRand(miniature.synthia_rand(tmp_path / "synthia"))
    assert torch.equal(
        rand[2].labels[0], mapped(miniature.ids("synthia_rand", 2, (76, 128)), rand.label_space, "synthia_rand")
    )
    gta5 = GTA5(miniature.gta5(tmp_path / "gta5"))
    assert names(gta5) == [["00001"], ["00002"], ["00003"]]  # not what was converted
    assert torch.equal(gta5[0].labels[0], mapped(miniature.ids("gta5", 1, (53, 96)), CITYSCAPES19, "gta5"))
    report = gta5.check(progress=False)
    assert not report
    assert report.usable == (0, 1, 2)
    assert "have 2 sizes" in str(report)
    assert "(52, 96) in 1, such as" in str(report)


# names of the released flow files, for a clip of two frames
FLOWS = {
    "CityscapesSeq": ["aachen_000019_000019_000018", "hamburg_000000_000042_000041"],
    "SynthiaSeq": ["000001", "000002", "000003"],
    "Viper": ["001_0001000009", "001_0002000019", "077_0001000009", "077_0002000019"],
}


def _read(name, root, flow, **rest):
    if name == "SynthiaSeq":
        return SynthiaSeq(root, cut=12, flow=flow, **rest)
    return {"CityscapesSeq": CityscapesSeq, "Viper": Viper}[name](root, flow=flow, **rest)


@pytest.mark.parametrize("name", FLOWS)
def test_flow_is_found_by_its_released_name_and_rescaled(name, tmp_path, miniature):
    EACH[name][0](miniature, tmp_path)
    folder = miniature.flow(tmp_path / "flow", FLOWS[name], size=(8, 16), tenths=(25, -10))
    (folder / "readme.txt").write_text("not flow")
    data = _read(name, tmp_path, folder)
    clip = data[len(data) - 1]
    full = {"CityscapesSeq": (64, 128), "SynthiaSeq": (76, 128), "Viper": (36, 64)}[name]
    height = 64 if name == "SynthiaSeq" else full[0]
    assert clip.flow.shape == (1, 2, height, full[1])
    # of the whole picture, whatever was cut off
    assert torch.allclose(clip.flow[0, 0], torch.tensor(2.5 * full[1] / 16))
    assert torch.allclose(clip.flow[0, 1], torch.tensor(-1.0 * full[0] / 8))
    half = _read(name, tmp_path, folder, size=(height // 2, full[1] // 2))[0]
    assert torch.allclose(half.flow, clip.flow[:, :, ::2, ::2] / 2)
    assert data.check(progress=False).ok


@pytest.mark.parametrize("name", FLOWS)
def test_flow_of_another_count_is_an_error(name, tmp_path, miniature):
    EACH[name][0](miniature, tmp_path)
    folder = miniature.flow(tmp_path / "flow", FLOWS[name][:-1])
    wanted = len(FLOWS[name])
    with pytest.raises(
        ValueError, match=rf"`flow` must hold one file for each of the {wanted} pairs .*; got {wanted - 1}"
    ):
        _read(name, tmp_path, folder)
    with pytest.raises(ValueError, match=rf"^{name}: `flow` must be an existing folder; got nowhere\.$"):
        _read(name, tmp_path, "nowhere")


def test_flow_that_varies_is_cut_where_the_picture_is(tmp_path, miniature):
    root = miniature.synthia_seq(tmp_path, numbers=range(2), size=(40, 8))
    rows = np.broadcast_to(np.arange(40, dtype=np.int16)[:, None, None] * 10, (40, 8, 2))
    (tmp_path / "flow").mkdir()
    np.save(tmp_path / "flow" / "000001_int16_x10.npy", rows)
    flow = SynthiaSeq(root, cut=16, flow=tmp_path / "flow")[0].flow
    assert flow[0, 0, :, 0].tolist() == list(range(24))


def test_empty_folders_are_named(tmp_path, miniature):
    root = miniature.viper(tmp_path)
    for path in (root / "train/cls").glob("*/*"):
        path.unlink()
    with pytest.raises(ValueError, match=r"^Viper: .*train.cls must hold files named .*; got none\.$"):
        Viper(root)


def test_an_id_that_is_not_defined_is_ignored_and_noted(tmp_path, miniature):
    root = miniature.viper(tmp_path)
    path = root / "train/cls/001/001_00010.png"
    Image.fromarray(np.full((36, 64), 77, np.uint8)).save(path)
    data = Viper(root)
    assert (data[0].labels[1] == 255).all()
    report = data.check(progress=False)
    assert report.ok
    assert report.notes == ("1 label files hold id 77, which is not defined; it is ignored.",)
