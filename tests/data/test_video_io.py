"""Video files: what is written is read back, and browsers can play it."""

import av
import numpy as np
import pytest

from signer_jax.data import video
from signer_jax.errors import SignerError


def _clip(frames: int = 6, height: int = 32, width: int = 48) -> np.ndarray:
    y, x = np.mgrid[:height, :width]
    pictures = [np.stack([x * 4 + 8 * t, y * 5, np.full_like(x, 90)], -1) for t in range(frames)]
    return np.clip(np.stack(pictures), 0, 255).astype(np.uint8)


def test_round_trip(tmp_path):
    clip = _clip()
    video.write(tmp_path / "a.mp4", clip, 24.0)
    back, fps = video.read(tmp_path / "a.mp4")
    assert fps == 24.0 and back.shape == clip.shape and back.dtype == np.uint8
    assert np.abs(back.astype(int) - clip).mean() < 4
    assert [file.name for file in tmp_path.iterdir()] == ["a.mp4"]


@pytest.mark.parametrize("fps", [30000 / 1001, 12.5, 25])
def test_frame_rates(tmp_path, fps):
    video.write(tmp_path / "a.mp4", _clip(), fps)
    assert video.frame_rate(tmp_path / "a.mp4") == pytest.approx(fps, rel=1e-5)
    assert len(list(video.frames(tmp_path / "a.mp4"))) == 6


def test_browsers_play_it(tmp_path):
    video.write(tmp_path / "a.mp4", _clip(), 24.0)
    with av.open(str(tmp_path / "a.mp4")) as container:
        stream = container.streams.video[0]
        assert (stream.codec_context.name, stream.codec_context.pix_fmt) == ("h264", "yuv420p")
    data = (tmp_path / "a.mp4").read_bytes()
    assert data.index(b"moov") < data.index(b"mdat")  # plays before it is loaded whole


def test_odd_sizes_and_scale(tmp_path):
    clip = _clip(height=31, width=33)
    video.write(tmp_path / "a.mp4", clip, 24.0)
    assert video.read(tmp_path / "a.mp4")[0].shape == (6, 32, 34, 3)
    video.write(tmp_path / "b.mp4", clip, 24.0, scale=3)
    large, _ = video.read(tmp_path / "b.mp4")
    assert large.shape == (6, 94, 100, 3)
    assert np.abs(large[:, 1:93:3, 1:99:3].astype(int) - clip).mean() < 4


def _message(function, *arguments) -> str:
    with pytest.raises(SignerError) as error:
        function(*arguments)
    assert "\n" not in str(error.value)
    return str(error.value)


def test_errors_are_one_line(tmp_path):
    assert "none.mp4" in _message(video.read, tmp_path / "none.mp4")
    (tmp_path / "text.mp4").write_text("no video")
    assert "text.mp4" in _message(video.read, tmp_path / "text.mp4")
    assert "uint8" in _message(video.write, tmp_path / "a.mp4", _clip().astype(np.float32), 24.0)
    assert "frames" in _message(video.write, tmp_path / "a.mp4", _clip()[:0], 24.0)
    assert "fps" in _message(video.write, tmp_path / "a.mp4", _clip(), 0.0)
    assert "cannot be written" in _message(video.write, tmp_path / "no" / "a.mp4", _clip(), 24.0)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["text.mp4"]
