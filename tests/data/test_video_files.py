"""Videos in and out, one frame at a time."""

from fractions import Fraction

import numpy as np
import pytest
import torch
from PIL import Image

from dastc.data import VideoFrames, VideoWriter

av = pytest.importorskip("av", reason="PyAV is in the extra `video`")


def moving(frames=5, size=(32, 48)):
    """A bright square that moves right over a dark ground, and is red in the last frame."""
    video = torch.full((frames, *size, 3), 40, dtype=torch.uint8)
    for t in range(frames):
        video[t, 8:24, 4 * t : 4 * t + 16] = torch.tensor([220, 30, 30] if t == frames - 1 else [200, 200, 200]).byte()
    return video


def write(path, video, **more):
    with VideoWriter(path, rate=12.5, **more) as writer:
        for frame in video:
            writer.write(frame)


def test_what_is_written_is_read(tmp_path):
    path, video = tmp_path / "new" / "a.mp4", moving()
    write(path, video, quality=10)
    frames = VideoFrames(path)
    assert (frames.rate, frames.total, frames.names) == (Fraction(25, 2), 5, None)
    for _ in range(2):  # from the start each time
        back = torch.stack(list(frames))
        assert back.shape == video.shape
        assert back.dtype == torch.uint8
        # colours at edges are coarser, by the format
        assert (back.float() - video.float()).abs().mean() < 3
    assert [file.name for file in path.parent.iterdir()] == ["a.mp4"]


def test_it_is_the_form_that_players_show(tmp_path):
    write(tmp_path / "a.mp4", moving())
    with av.open(str(tmp_path / "a.mp4")) as container:
        stream = container.streams.video[0]
        assert (container.format.name.split(",")[0], stream.codec_context.name) == ("mov", "h264")
        assert stream.codec_context.pix_fmt == "yuv420p"
    head = (tmp_path / "a.mp4").read_bytes()
    assert head.index(b"moov") < head.index(b"mdat")  # shown before it is loaded whole


def test_quality_costs_size(tmp_path):
    noise = torch.randint(0, 256, (3, 64, 64, 3), dtype=torch.uint8)
    write(tmp_path / "good.mp4", noise, quality=5)
    write(tmp_path / "small.mp4", noise, quality=45)
    assert (tmp_path / "small.mp4").stat().st_size < (tmp_path / "good.mp4").stat().st_size / 2


def test_odd_sizes_lose_a_row_and_a_column(tmp_path):
    write(tmp_path / "a.mp4", moving(2, (33, 49)))
    assert next(iter(VideoFrames(tmp_path / "a.mp4"))).shape == (32, 48, 3)


def test_a_folder_is_read_in_the_order_of_names(tmp_path):
    for i, name in enumerate(["b.png", "a.png", "c.jpg", ".hidden.png", "note.txt"]):
        if name.endswith("txt"):
            (tmp_path / name).touch()
        else:
            Image.fromarray(np.full((4, 6, 3), i * 50, np.uint8)).save(tmp_path / name)
    frames = VideoFrames(tmp_path)
    assert (frames.rate, frames.total, frames.names) == (None, 3, ("a", "b", "c"))
    assert [int(frame[0, 0, 0]) for frame in frames] == [50, 0, 100]


def test_what_fails_leaves_no_file(tmp_path):
    path, video = tmp_path / "a.mp4", moving(2)
    write(path, video)
    before = path.read_bytes()
    with pytest.raises(ValueError, match="first frame's size"):
        write(path, [video[0], video[0][:8]])
    assert path.read_bytes() == before
    with pytest.raises(ValueError, match=r"VideoWriter: .*b\.mp4 must be given at least one frame; got none"):
        write(tmp_path / "b.mp4", [])
    assert [file.name for file in tmp_path.iterdir()] == ["a.mp4"]


def test_a_file_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match="file"):
        write(tmp_path / "file" / "a.mp4", moving(1))


@pytest.mark.parametrize(
    ("frame", "message"),
    [
        (
            torch.zeros(32, 50, 3, dtype=torch.uint8),
            r"the first frame's size \(32, 48\); got \(32, 50\)",
        ),
        (torch.zeros(32, 48, 3), r"`rgb` must be \(H, W, 3\) of dtype uint8; got \(32, 48, 3\) of torch\.float32"),
        (torch.zeros(3, 32, 48, dtype=torch.uint8), r"`rgb` must be \(H, W, 3\) of dtype uint8; got \(3, 32, 48\)"),
    ],
)
def test_frames_that_do_not_fit_are_refused(tmp_path, frame, message):
    with pytest.raises(ValueError, match=message):
        write(tmp_path / "a.mp4", [moving(1)[0], frame])


def test_numbers_out_of_range_are_refused(tmp_path):
    with pytest.raises(ValueError, match=r"`rate` must be above 0; got -1"):
        VideoWriter(tmp_path / "a.mp4", rate=-1)
    with pytest.raises(ValueError, match=r"`quality` must lie in \[0, 51\]; got 52"):
        VideoWriter(tmp_path / "a.mp4", rate=1, quality=52)
    with pytest.raises(ValueError, match=r"at least 2 pixels high and wide; got \(1, 4\)"):
        write(tmp_path / "a.mp4", [torch.zeros(1, 4, 3, dtype=torch.uint8)])


def test_what_is_no_video_is_refused(tmp_path):
    (tmp_path / "text.mp4").write_text("no video")
    with pytest.raises(RuntimeError, match=r"text\.mp4 cannot be read as a video"):
        VideoFrames(tmp_path / "text.mp4")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match=r"`path` must hold pictures .*empty without"):
        VideoFrames(tmp_path / "empty")
    with av.open(str(tmp_path / "sound.wav"), "w") as container:
        stream = container.add_stream("pcm_s16le", rate=8000, layout="mono")
        samples = av.AudioFrame.from_ndarray(np.zeros((1, 800), np.int16), format="s16", layout="mono")
        samples.rate = 8000
        container.mux(stream.encode(samples))
    with pytest.raises(ValueError, match=r"sound\.wav must hold a video; got none, perhaps sound alone"):
        VideoFrames(tmp_path / "sound.wav")


@pytest.mark.filterwarnings("ignore:.*It was cut off:RuntimeWarning")
def test_a_video_that_is_cut_off_gives_its_frames_and_then_an_error_or_an_end(tmp_path):
    with av.open(str(tmp_path / "a.avi"), "w") as container:
        stream = container.add_stream("mjpeg", rate=5, width=48, height=32, pix_fmt="yuvj420p")
        for frame in moving(1):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame.numpy(), format="rgb24")))
        container.mux(stream.encode())
    whole = (tmp_path / "a.avi").read_bytes()
    start = whole.index(b"\xff\xd8")
    (tmp_path / "none.avi").write_bytes(whole[:start])
    with pytest.raises((ValueError, RuntimeError), match=r"none\.avi"):
        list(VideoFrames(tmp_path / "none.avi"))
