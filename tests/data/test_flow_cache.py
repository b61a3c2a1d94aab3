import pickle
import warnings

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, Dataset

from dastc import Clip, stack_clips
from dastc.data import DISFlow, FlowCache, StreetClips, read_flow
from dastc.data.spaces import STREET


class Brighter:
    """An estimator that can be told by hand: dx is how much brighter the later frame is, dy that it was called."""

    def __init__(self):
        self.calls = 0

    def __call__(self, previous, current):
        self.calls += 1
        return torch.stack((current[0] - previous[0], torch.ones_like(current[0])))

    def __repr__(self):
        return "Brighter()"


class Clips(Dataset):
    """Overlapping clips of one long take: frame t is t + 1/3 everywhere."""

    label_space = STREET

    def __init__(self, frames=3, length=4, size=(4, 6)):
        self.frames, self.length, self.size = frames, length, size

    def __len__(self):
        return self.length

    def __getitem__(self, index):
        if index >= self.length:
            raise IndexError(index)
        values = torch.arange(index, index + self.frames) ** 2 + 1 / 3
        frames = values.view(-1, 1, 1, 1).expand(-1, 3, *self.size)
        return Clip(frames, torch.full((self.frames, *self.size), index))


def _files(folder):
    return sorted(folder.rglob("*.npy"))


def test_each_pair_gets_its_flow_once(tmp_path):
    estimator = Brighter()
    clips = FlowCache(Clips(), estimator, tmp_path)
    for _ in range(2):
        for index in range(4):
            clip = clips[index]
            assert clip.flow.shape == (2, 2, 4, 6)
            assert clip.flow.dtype == torch.float32
            assert clip.flow[:, 0, 0, 0].tolist() == [2 * index + 1, 2 * index + 3]
            assert torch.equal(clip.labels, Clips()[index].labels)
            assert torch.equal(clip.frames, Clips()[index].frames)
    assert estimator.calls == 5  # clips of three frames share all pairs but the outermost
    assert len(_files(tmp_path)) == 5
    assert len(clips) == 4
    assert clips.label_space is STREET


def test_the_first_visit_gives_what_later_ones_read(tmp_path):
    def third(*_):
        flow = torch.full((2, 4, 6), 100 / 3)
        flow[0, 0, 0] = torch.nan
        return flow

    first, second = (FlowCache(Clips(), third, tmp_path, made_by="third")[0].flow for _ in range(2))
    assert torch.equal(first.nan_to_num(-1), second.nan_to_num(-1))
    assert first[:, :, 0, 0].isnan().all()  # in both channels
    assert first[0, 0, 1, 1] == np.float16(100 / 3)


def test_filling_counts_and_goes_on_where_it_was(tmp_path):
    short, estimator = Clips(length=2), Brighter()
    assert FlowCache(short, estimator, tmp_path).fill(progress=False) == (1, 3, 0)
    assert FlowCache(Clips(), estimator, tmp_path).fill(progress=False) == (6, 2, 0)
    assert FlowCache(Clips(), estimator, tmp_path).fill(progress=False) == (8, 0, 0)
    assert estimator.calls == 5


def test_filling_shows_a_bar(tmp_path, capsys):
    FlowCache(Clips(), Brighter(), tmp_path).fill()
    assert "flow: 100%" in capsys.readouterr().err


@pytest.mark.parametrize("damage", [b"", b"\x93NUMPY", None])
def test_a_broken_file_is_named_and_computed_again(tmp_path, damage):
    clips = FlowCache(Clips(length=1, frames=2), Brighter(), tmp_path)
    wanted = clips[0].flow
    (path,) = _files(tmp_path)
    if damage is None:
        np.save(path, np.zeros((3, 6, 2), np.float16))  # of another size
    else:
        path.write_bytes(damage)
    with pytest.warns(RuntimeWarning, match=f"FlowCache: {path} is broken and computed again") as caught:
        assert clips.fill(progress=False) == (0, 0, 1)
    assert len(caught) == 1
    assert torch.equal(clips[0].flow, wanted)
    assert torch.equal(read_flow(path), wanted[0])


def test_frames_are_told_apart_by_content_order_and_shape(tmp_path):
    a, b = torch.rand(2, 3, 4, 6)
    pairs = [(a, b), (b, a), (a, a), (a.view(3, 6, 4), b.view(3, 6, 4)), (a, torch.nextafter(b, a))]
    clips = [Clip(torch.stack(pair)) for pair in pairs]
    FlowCache(clips, Brighter(), tmp_path).fill(progress=False)
    assert len(_files(tmp_path)) == len(pairs)
    strided = Clip(torch.stack((a, b)).permute(0, 2, 3, 1).contiguous().permute(0, 3, 1, 2))
    assert FlowCache([strided], Brighter(), tmp_path).fill(progress=False) == (1, 0, 0)


def test_half_precision_frames_have_flow_of_their_own(tmp_path):
    for dtype in (torch.float16, torch.bfloat16, torch.float64):
        assert FlowCache([Clip(torch.ones(2, 3, 4, 4, dtype=dtype))], Brighter(), tmp_path)[0].flow.shape[0] == 1
    assert len(_files(tmp_path)) == 3


def test_images_have_no_flow(tmp_path):
    clips = FlowCache(Clips(frames=1), Brighter(), tmp_path)
    assert clips[0].flow is None
    assert clips.fill(progress=False) == (0, 0, 0)


def test_flow_that_was_there_is_replaced(tmp_path):
    clips = FlowCache([Clips(frames=2)[0]._replace(flow=torch.zeros(1, 2, 4, 6))], Brighter(), tmp_path)
    assert clips[0].flow[0, 0, 0, 0] == 1


def test_a_folder_holds_the_flow_of_one_estimator(tmp_path):
    FlowCache(Clips(), Brighter(), tmp_path / "a" / "b")
    assert (tmp_path / "a" / "b" / "made_by.txt").read_text() == "Brighter()\n"
    FlowCache(Clips(), Brighter(), tmp_path / "a" / "b")
    with pytest.raises(ValueError, match=r"must hold the flow of other; got .*b with that of Brighter\(\)\. Use a"):
        FlowCache(Clips(), Brighter(), tmp_path / "a" / "b", made_by="other")


def test_a_garbled_record_is_anothers(tmp_path):
    (tmp_path / "made_by.txt").write_bytes(b"Bri\xff\xfe\x00")
    with pytest.raises(ValueError, match=r"must hold the flow of Brighter\(\); got .* Use a folder for each"):
        FlowCache(Clips(), Brighter(), tmp_path)
    (tmp_path / "b" / "made_by.txt").mkdir(parents=True)
    with pytest.raises(RuntimeError, match=r"^FlowCache: .*made_by\.txt cannot be read \(IsADirectoryError"):
        FlowCache(Clips(), Brighter(), tmp_path / "b")


def test_an_estimator_that_cannot_be_recognised_needs_a_name(tmp_path):
    def still(_, current):
        return torch.zeros(2, *current.shape[1:])

    with pytest.raises(ValueError, match="`made_by` must be given for an estimator whose repr changes; got <function"):
        FlowCache(Clips(), still, tmp_path)
    assert FlowCache(Clips(), still, tmp_path, made_by="still")[0].flow.abs().max() == 0


def test_what_cannot_be_written_is_an_error(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(RuntimeError, match=r"FlowCache: .*file/cache cannot be made \(NotADirectoryError"):
        FlowCache(Clips(), Brighter(), tmp_path / "file" / "cache")
    clips = FlowCache(Clips(), Brighter(), tmp_path / "cache")
    clips.fill(progress=False)
    folder = _files(tmp_path)[0].parent
    for path in _files(tmp_path):
        path.unlink()
    folder.rmdir()
    folder.write_text("")
    with pytest.raises(RuntimeError, match=f"FlowCache: {folder} cannot be made"):
        clips.fill(progress=False)


@pytest.mark.parametrize(
    ("clip", "flow", "kind", "message"),
    [
        (Clip(torch.zeros(1, 2, 3, 4, 4)), torch.zeros(2, 4, 4), ValueError, r"`dataset\[i\].frames` must have shape"),
        (Clip(torch.zeros(2, 3, 4, 4).int()), torch.zeros(2, 4, 4), TypeError, r"`dataset\[i\].frames` must be of"),
        (Clip(torch.zeros(2, 3, 4, 4)), torch.zeros(2, 2, 2), ValueError, r"`estimator\(.*H=4, W=4\); got \(2, 2, 2\)"),
        (Clip(torch.zeros(2, 3, 4, 4)), torch.zeros(2, 4, 4).int(), TypeError, r"`estimator\(.*got torch.int32"),
        (Clip(torch.zeros(2, 3, 4, 4)), None, TypeError, r"`estimator\(.*must be a tensor; got NoneType"),
    ],
    ids=lambda value: str(value)[:20],
)
def test_bad_clips_and_estimators_are_named(tmp_path, clip, flow, kind, message):
    with pytest.raises(kind, match=f"FlowCache: {message}"):
        FlowCache([clip], lambda *_: flow, tmp_path, made_by="test")[0]
    assert _files(tmp_path) == []


def test_workers_share_the_folder_and_the_flow_is_that_of_one_process(tmp_path):
    pytest.importorskip("cv2", reason="DIS is OpenCV's")
    streets = StreetClips("source", length=4, size=(48, 64), frames=3)
    alone = FlowCache(streets, DISFlow("ultrafast"), tmp_path / "alone")
    wanted = [alone[i].flow for i in range(4)]  # OpenCV has started its threads here before the workers fork
    shared = FlowCache(streets, DISFlow("ultrafast"), tmp_path / "shared")
    # every clip twice, so that workers meet at the same files
    loader = DataLoader(shared, 2, sampler=[0, 1, 1, 0, 2, 3, 3, 2], num_workers=2, collate_fn=stack_clips, timeout=60)
    got = torch.cat([clip.flow for clip in loader])
    assert torch.equal(got, torch.stack([wanted[i] for i in (0, 1, 1, 0, 2, 3, 3, 2)]))
    assert [path.name for path in _files(tmp_path / "shared")] == [path.name for path in _files(tmp_path / "alone")]
    assert not list(tmp_path.rglob("*.part"))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert shared.fill(progress=False) == (8, 0, 0)


def test_it_travels_to_spawned_workers(tmp_path):
    clips = pickle.loads(pickle.dumps(FlowCache(Clips(), Brighter(), tmp_path)))
    assert clips[1].flow.shape == (2, 2, 4, 6)
