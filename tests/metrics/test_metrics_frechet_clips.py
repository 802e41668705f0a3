"""Fréchet distances of clips beside the formula with a matrix's root, and I3D as a graph of the user's."""

import re
import sys

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper
from scipy.linalg import sqrtm

from signer_jax.errors import SignerError
from signer_jax.interop import i3d
from signer_jax.metrics.frechet import cell_features
from signer_jax.metrics.frechet_clips import ClipSets, clip_features, resized


def video(seed, frames, size=(12, 16)):
    return np.random.default_rng(seed).integers(0, 256, (frames, *size, 3)).astype(np.uint8)


def colours(clips):
    """Three numbers a clip."""
    return clips.mean(axis=(1, 2, 3))


def of_videos(features, length, pairs):
    sets = ClipSets(features, length)
    for ours, theirs in pairs:
        fill(sets, ours, theirs)
        sets.close(theirs[0])
    return sets


def fill(sets, ours, theirs):
    for side, shown in ((sets.ours, ours), (sets.theirs, theirs)):
        for picture in shown:
            side.add(picture)


def by_hand(a, b):
    A, B = (np.cov(x, rowvar=False) for x in (a, b))
    return np.square(a.mean(0) - b.mean(0)).sum() + np.trace(A + B - 2 * np.real(sqrtm(A @ B)))


def test_the_distance_is_the_formula_over_whole_clips():
    """Videos of 11, 3 and 21 frames have two, no and five clips of four."""
    pairs = [(video(k, frames), video(9 + k, frames)) for k, frames in enumerate((11, 3, 21))]
    sets = of_videos(colours, 4, pairs)
    cut = [[np.stack(np.split(one[: len(one) // 4 * 4], len(one) // 4)) for one in (pair[side] for pair in pairs)
            if len(one) >= 4] for side in (0, 1)]  # fmt: skip
    ours, theirs = (colours(np.concatenate(side)) for side in cut)
    still = np.concatenate([colours(b[:1][None]).repeat(len(b) // 4, 0) for _, b in pairs if len(b) >= 4])
    assert sets.theirs.moments.count == sets.floor.count == 7
    assert sets.distances()[0] == pytest.approx(by_hand(ours, theirs), rel=1e-5)
    floor = by_hand(still + np.random.default_rng(0).normal(0, 1e-4, still.shape), theirs)  # two points: no root there
    assert sets.distances()[1] == pytest.approx(floor, rel=1e-2)


def test_what_is_dropped_or_too_short_has_no_part():
    pair = video(0, 9), video(1, 9)
    alone, sets = of_videos(colours, 4, [pair]), of_videos(colours, 4, [pair])
    fill(sets, pair[1][:7], pair[0][:3])
    sets.drop()
    assert sets.distances() == alone.distances()


def test_a_copy_of_the_beginning_is_not_the_reference():
    """128 frames, the second half quite different, beside the first 48 of them: three clips beside eight."""
    theirs = np.concatenate([video(0, 64) // 4, 255 - video(1, 64) // 4])
    copy, equal = (of_videos(clip_features, 16, [(ours, theirs)]) for ours in (theirs[:48], theirs))
    assert (copy.ours.moments.count, copy.theirs.moments.count, copy.floor.count) == (3, 8, 8)
    assert equal.distances()[0] == pytest.approx(0, abs=1e-6) and copy.distances()[0] > 1
    # A hypothesis may be the longer one, and the reference too short for a clip.
    longer = of_videos(clip_features, 16, [(theirs, theirs[:48]), (theirs[:32], theirs[:9])])
    assert (longer.ours.moments.count, longer.theirs.moments.count, longer.floor.count) == (10, 3, 3)


def test_one_clip_is_not_scored_and_fewer_clips_than_dimensions_are():
    assert np.isnan(of_videos(clip_features, 16, [(video(0, 31), video(1, 31))]).distances()).all()
    assert np.isnan(of_videos(clip_features, 16, []).distances()).all()
    few = of_videos(clip_features, 16, [(video(0, 48), video(1, 48))])
    assert 3 < 336 and np.isfinite(few.distances()).all() and few.distances()[0] > 0
    assert of_videos(clip_features, 16, [(video(0, 48), video(0, 48))]).distances()[0] == pytest.approx(0, abs=1e-6)


def test_own_features_by_hand():
    """A picture that is black, white, white: its mean, deviation and mean change a frame."""
    clip = np.zeros((1, 3, 8, 8, 3), np.uint8)
    clip[0, 1:] = 255
    found = clip_features(clip)[0].reshape(3, 4, 4, 7)[..., :3]
    for part, value in zip(found, (2 / 3, np.sqrt(2) / 3, 1 / 2), strict=True):
        np.testing.assert_allclose(part, value, rtol=1e-6)
    np.testing.assert_allclose(clip_features(clip[:, :1])[0], [*cell_features(clip[0, :1])[0], *[0.0] * 224])
    moving, still = video(3, 16)[None], np.broadcast_to(video(3, 1), (1, 16, 12, 16, 3))
    assert clip_features(moving)[0, 224:].mean() > 0 == clip_features(still)[0, 224:].max()


@pytest.mark.parametrize(
    ("size", "expected"),
    [
        (3, [0, 80, 160]),  # read at 0, 4/3 and 8/3; with half a pixel's shift it would be 10, 90, 170
        (2, [0, 120]),
        (8, [0, 30, 60, 90, 120, 150, 180, 180]),
        (4, [0, 60, 120, 180]),
    ],
)
def test_pictures_are_resized_from_the_corner_by_hand(size, expected):
    row = np.broadcast_to(np.array([0, 60, 120, 180], np.uint8)[None, None, :, None], (2, 5, 4, 3))
    for clip, found in ((row, resized(row, 5, size)), (row, resized(row.swapaxes(1, 2), size, 5).swapaxes(1, 2))):
        np.testing.assert_allclose(found, np.broadcast_to(np.array(expected)[:, None], (2, 5, size, 3)), atol=1e-4)
        assert len(clip) == len(found)


@pytest.mark.parametrize(("height", "width"), [(20, 21), (4, 5), (9, 14), (224, 224)])
def test_pictures_are_resized_as_onnx_runtime_does_without_half_pixels(height, width):
    """ONNX's `asymmetric` is TensorFlow 1's `align_corners=False`, `half_pixel_centers=False`."""
    node = helper.make_node("Resize", ["x", "", "", "sizes"], ["y"], mode="linear",
                            coordinate_transformation_mode="asymmetric")  # fmt: skip
    sides = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [None] * 4) for name in "xy"]
    sizes = numpy_helper.from_array(np.array([2, 3, height, width]), "sizes")
    model = helper.make_model(
        helper.make_graph([node], "g", sides[:1], sides[1:], [sizes]),
        opset_imports=[helper.make_opsetid("", 18)], ir_version=10,
    )  # fmt: skip
    clip = video(4, 2, (9, 14))
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    (expected,) = session.run(None, {"x": clip.transpose(0, 3, 1, 2).astype(np.float32)})
    np.testing.assert_allclose(resized(clip, height, width), expected.transpose(0, 2, 3, 1), atol=1e-2)


# ---- A graph ---------------------------------------------------------------------------------------------------------


def graph(path, *, width=400, shape=("n", 3, 4, 6, 8), scale=1.0, kind=TensorProto.FLOAT, last=None):
    """Mean colours of a clip, times a matrix, and one more layer where `last` names it."""
    matrix = np.random.default_rng(0).normal(size=(shape[1], width)).astype(np.float32) * np.float32(scale)
    nodes = [
        helper.make_node("ReduceMean", ["clips", "axes"], ["colours"], keepdims=0),
        helper.make_node("MatMul", ["colours", "matrix"], ["product" if last else "logits"]),
        *([helper.make_node(last, ["product"], ["logits"])] if last else []),
    ]
    model = helper.make_model(
        helper.make_graph(
            nodes, "g", [helper.make_tensor_value_info("clips", kind, shape)],
            [helper.make_tensor_value_info("logits", kind, ["n", width])],
            [numpy_helper.from_array(np.arange(2, len(shape)), "axes"),
             numpy_helper.from_array(matrix.astype(helper.tensor_dtype_to_np_dtype(kind)), "matrix")],
        ),
        opset_imports=[helper.make_opsetid("", 18)], ir_version=10,
    )  # fmt: skip
    onnx.save(model, str(path))
    return matrix


@pytest.mark.parametrize("rows", ["n", 3])
def test_a_graph_sees_clips_as_documented(tmp_path, rows):
    matrix = graph(tmp_path / "a.onnx", shape=(rows, 3, 4, 6, 8))
    found = i3d.opened(tmp_path / "a.onnx")
    assert found.sides == (4, 6, 8) and len(found.digest) == 64
    clips = np.stack([video(5, 4), video(6, 4)])
    expected = np.stack([resized(clip, 6, 8).mean(axis=(0, 1, 2)) / 127.5 - 1 for clip in clips]) @ matrix
    np.testing.assert_allclose(found.features(clips), expected, rtol=1e-4, atol=1e-5)
    assert found.features(clips[:0]).shape == (0, 400)


def test_sides_that_a_graph_leaves_open_are_those_of_the_definition(tmp_path):
    graph(tmp_path / "a.onnx", shape=("n", 3, "t", "h", "w"))
    found = i3d.opened(tmp_path / "a.onnx")
    assert found.sides == (16, 224, 224) and found.of_fvd
    for shape in (("n", 3, 15, "h", "w"), ("n", 3, "t", 112, 112)):
        graph(tmp_path / "a.onnx", shape=shape)
        assert not i3d.opened(tmp_path / "a.onnx").of_fvd


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({"width": 512}, "gives [1, 512] of a clip where I3D's logits are [1, 400], so that its figures"),
        ({"shape": ("n", 4, 16, 6, 8)}, "takes tensor(float) ['n', 4, 16, 6, 8]"),
        ({"shape": ("n", 3, 6, 8)}, "takes tensor(float) ['n', 3, 6, 8]"),
        ({"kind": TensorProto.DOUBLE}, "takes tensor(double)"),
        ({"scale": np.inf}, "gives numbers that are not finite of a black clip"),
    ],
)  # fmt: skip
def test_a_graph_that_does_not_fit_is_one_line(tmp_path, changed, says):
    graph(tmp_path / "a.onnx", **changed)
    with pytest.raises(SignerError, match=re.escape(says)) as error:
        i3d.opened(tmp_path / "a.onnx")
    assert str(error.value).count("\n") == 0 and "I3D of Kinetics-400 as .onnx" in str(error.value)


def test_what_is_no_graph_is_one_line(tmp_path, monkeypatch):
    (tmp_path / "a.onnx").write_bytes(b"\0" * 64)
    with pytest.raises(SignerError, match="is no model that ONNX Runtime reads"):
        i3d.opened(tmp_path / "a.onnx")
    with pytest.raises(SignerError, match="no such file"):
        i3d.opened(tmp_path / "none.onnx")
    graph(tmp_path / "b.onnx", last="Softmax")
    with pytest.raises(SignerError, match="b.onnx: gives probabilities .* without its softmax$"):
        i3d.opened(tmp_path / "b.onnx")
    graph(tmp_path / "b.onnx", last="Sigmoid")  # none below 0, of another sum
    assert i3d.opened(tmp_path / "b.onnx").features(video(0, 4)[None]).min() >= 0
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(SignerError, match="needs ONNX Runtime; pip install"):
        i3d.opened(tmp_path / "b.onnx")
