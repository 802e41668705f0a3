"""TensorBoard's files, read back by TensorBoard; a writer that fails stops nothing."""

import resource
import signal
import time

import numpy as np
import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from signer_jax.training.monitoring import Monitor


def read(directory) -> EventAccumulator:
    events = EventAccumulator(str(directory), size_guidance={"scalars": 0, "images": 0, "tensors": 0})
    events.Reload()
    return events


def test_what_is_written_is_read_back(tmp_path):
    picture = np.arange(8 * 8 * 3, dtype=np.uint8).reshape(8, 8, 3)
    monitor = Monitor(tmp_path)
    monitor.scalars("slul", 3, {"loss": 0.5, "rate": 2.0})
    monitor.text("glosses", 4, [("a|b <i> ![x](http://y)", "*C_\x1b")], ("text", "gloss"))
    monitor.image("pose", 4, picture)
    monitor.video("clip", 4, np.stack([picture, picture[::-1]]), 8.0)
    events = read(tmp_path)
    assert [(e.step, e.value) for e in events.Scalars("slul/loss")] == [(3, 0.5)]
    text = events.Tensors("glosses/text_summary")[0].tensor_proto.string_val[0].decode()
    assert text.splitlines() == ["text | gloss", "--- | ---", r"a\|b &lt;i&gt; \!\[x\]\(http://y\) | \*C\_\\x1b"]
    assert events.Images("pose")[0].width == 8 and events.Images("clip")[0].encoded_image_string[:4] == b"GIF8"


def test_two_monitors_of_one_second_are_two_files(tmp_path):
    for step in (1, 2):
        monitor = Monitor(tmp_path)
        monitor.scalars("a", step, {"loss": float(step)})
    assert sorted((e.step, e.value) for e in read(tmp_path).Scalars("a/loss")) == [(1, 1.0), (2, 2.0)]


def test_a_clock_that_is_set_back_stops_nothing(tmp_path, monkeypatch):
    clock = iter([1e9 - 3600.0 * i for i in range(100)])
    monkeypatch.setattr(time, "time", lambda: next(clock))
    monitor = Monitor(tmp_path)
    for step in range(30):
        monitor.scalars("a", step, {"loss": 1.0})
    monkeypatch.undo()
    assert len(read(tmp_path).Scalars("a/loss")) == 30


def test_a_full_disk_is_said_once_and_it_comes_back(tmp_path, capsys):
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    monitor = Monitor(tmp_path)
    monitor.scalars("a", 0, {"loss": 1.0})
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (100, limit[1]))  # in the middle of the next record
        for step in range(1, 50):
            monitor.scalars("a", step, {"loss": 1.0})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limit)
    monitor.scalars("a", 50, {"loss": 2.0})
    assert capsys.readouterr().err.count("training goes on") == 1
    assert [(e.step, e.value) for e in read(tmp_path).Scalars("a/loss")] == [(0, 1.0), (50, 2.0)]


def test_a_programming_mistake_is_not_hidden(tmp_path):
    with pytest.raises(TypeError):
        Monitor(tmp_path).scalars("a", 0, {"loss": "x"})
