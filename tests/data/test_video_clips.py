"""Clips at any place of a video file, in any order and process."""

import pickle
import subprocess
import sys
from functools import partial

import pytest
import torch

from dastc.data import VideoFrames, VideoWriter, to_rgb
from dastc.data import video_clips as module
from dastc.data.video_clips import VideoClips

av = pytest.importorskip("av", reason="PyAV is in the extra `video`")
FRAMES = 40


@pytest.fixture(scope="module")
def video(tmp_path_factory):
    """A video of 40 different frames, with a key frame every 12 and frames that are stored out of order."""
    path = tmp_path_factory.mktemp("video") / "a.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=10, options={"crf": "8", "g": "12", "bf": "3"})
        stream.height, stream.width, stream.pix_fmt = 32, 48, "yuv420p"
        for t in range(FRAMES):
            rgb = torch.full((32, 48, 3), 5 * t, dtype=torch.uint8)
            rgb[8:24, t : t + 8] = 250
            container.mux(stream.encode(av.VideoFrame.from_ndarray(rgb.numpy(), format="rgb24")))
        container.mux(stream.encode())
    return path


@pytest.fixture(scope="module")
def frames(video):
    return torch.stack(list(VideoFrames(video)))


def test_any_order_gives_the_frames_of_the_file(video, frames):
    clips = VideoClips(video, frames=3, interval=2)
    assert len(clips) == FRAMES - 4
    for index in (0, 1, 2, 30, 13, 12, 11, 35, -1, 5, 6, 20, 0):
        at = index % len(clips)
        assert to_rgb(clips[index].frames).equal(frames[[at, at + 2, at + 4]]), index
    assert clips[0].labels is None
    with pytest.raises(IndexError, match=r"`index` must lie in \[-36, 36\); got 36"):
        clips[36]


def test_a_clip_that_follows_decodes_one_frame_more(video, monkeypatch):
    opened = []
    monkeypatch.setattr(module, "open_video", lambda *given: opened.append(given) or open_video(*given))
    clips = VideoClips(video, frames=2)
    opened.clear()
    for index in range(len(clips)):
        clips[index]
    assert len(opened) == 1


open_video = module.open_video


def test_without_times_frames_are_counted(video, frames, monkeypatch):
    monkeypatch.setattr(module, "_places", lambda _: module._Places(FRAMES, None, []))
    clips = VideoClips(video, frames=2)
    for index in (20, 3):
        assert to_rgb(clips[index].frames).equal(frames[[index, index + 1]])


def test_a_place_that_is_missed_is_found_from_the_start(video, frames):
    clips = VideoClips(video)
    clips._places = clips._places._replace(keys=[0, 30])
    for index in (30, 38, 4):
        assert to_rgb(clips[index].frames[0]).equal(frames[index])


# in a process of its own: a fork of this one would take along whatever decoders other tests have left
FORKED = """
import sys
from torch.utils.data import DataLoader
from dastc import stack_clips
from dastc.data import to_rgb
from dastc.data.video_clips import VideoClips

clips = VideoClips(sys.argv[1], frames=2)
expected = [clips[index].frames for index in (9, 3)]
clips[7]
loader = DataLoader(clips, 2, num_workers=1, sampler=[9, 3], collate_fn=stack_clips, multiprocessing_context="fork")
(batch,) = loader
assert all(found.equal(frames) for found, frames in zip(batch.frames, expected, strict=True))
"""


def test_workers_read_on_after_the_main_process_has(video):
    subprocess.run([sys.executable, "-c", FORKED, str(video)], check=True, timeout=120)


def test_a_copy_reads_the_same(video, frames):
    clips = VideoClips(video, frames=2)
    clips[7]
    assert to_rgb(pickle.loads(pickle.dumps(clips))[3].frames).equal(frames[3:5])


def test_frames_are_resized_as_pictures_are(video, frames, tmp_path):
    from PIL import Image

    from dastc.data import FolderClips

    Image.fromarray(frames[5].numpy()).save(tmp_path / "5.png")
    picture = FolderClips(tmp_path, images="{number}.png", size=(20, 30))[0]
    assert VideoClips(video, size=(20, 30))[5].frames.equal(picture.frames)


def test_what_is_wrong_is_named(video, tmp_path):
    with pytest.raises(ValueError, match=r"no\.mp4 does not exist"):
        VideoClips(tmp_path / "no.mp4")
    with pytest.raises(ValueError, match=r"must hold clips of 5 frames, 10 apart; got a video of 40 frames"):
        VideoClips(video, frames=5, interval=10)
    for wrong in ({"frames": 0}, {"interval": 0}):
        with pytest.raises(ValueError, match=r"VideoClips: `\w+` must be at least 1; got 0"):
            VideoClips(video, **wrong)
    cut = tmp_path / "cut.mp4"
    cut.write_bytes(video.read_bytes()[: video.stat().st_size * 2 // 3])
    with pytest.raises(ValueError, match=r"cut\.mp4 must hold a video; got none"):  # its index was at the end
        VideoClips(cut)
    assert VideoClips(video, frames=2).check(progress=False).usable == tuple(range(FRAMES - 1))


def test_a_video_that_was_cut_off_is_used_as_far_as_it_goes(tmp_path):
    with VideoWriter(tmp_path / "a.mp4", rate=10) as writer:  # with its index at the start
        for t in range(20):
            writer.write(torch.randint(0, 256, (32, 48, 3), generator=torch.Generator().manual_seed(t)).byte())
    data = (tmp_path / "a.mp4").read_bytes()
    (tmp_path / "cut.mp4").write_bytes(data[: len(data) * 2 // 3])
    opened = partial(pytest.warns, RuntimeWarning, match="It was cut off")
    with opened():
        clips = VideoClips(tmp_path / "cut.mp4")
    assert 3 < len(clips) < 18
    with opened():
        report = clips.check(progress=False)
    assert "It was cut off" in report.problems[0]
    clips[len(report.usable) - 1]
