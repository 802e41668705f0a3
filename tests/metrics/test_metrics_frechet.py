"""Fréchet distances beside the formula with a matrix's root, and Inception's layers."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.numpy import save_file
from scipy.linalg import sqrtm

from signer_jax.errors import SignerError
from signer_jax.interop.inception import features as read_inception
from signer_jax.metrics import inception
from signer_jax.metrics.frechet import Moments, Sets, cell_features, frechet_distance


def moments(features, *cuts):
    found = Moments()
    for part in np.split(features, cuts):
        found.add(part)
    return found


def drawn(seed, n=40, d=6):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(n, d)) @ rng.normal(size=(d, d)) + rng.normal(size=d)


@pytest.mark.parametrize(("n", "d"), [(40, 6), (200, 30), (2, 1)])
def test_the_distance_is_the_formula_with_a_matrixs_root(n, d):
    a, b = drawn(0, n, d), drawn(1, n, d)
    A, B = (np.atleast_2d(np.cov(x, rowvar=False)) for x in (a, b))
    expected = np.square(a.mean(0) - b.mean(0)).sum() + np.trace(A + B - 2 * np.real(sqrtm(A @ B)))
    assert frechet_distance(moments(a), moments(b)) == pytest.approx(expected, rel=1e-6)
    assert frechet_distance(moments(b), moments(a)) == pytest.approx(expected, rel=1e-6)
    assert frechet_distance(moments(a), moments(a)) == pytest.approx(0, abs=1e-8)


def test_fewer_pictures_than_dimensions_have_a_distance():
    a, b = drawn(2, 4, 20), drawn(3, 5, 20)
    assert np.isfinite(frechet_distance(moments(a), moments(b)))


def test_one_picture_is_not_scored():
    assert np.isnan(frechet_distance(moments(drawn(0, 1)), moments(drawn(1))))
    assert np.isnan(frechet_distance(moments(drawn(0)), Moments()))


def test_moments_come_in_parts_and_far_from_zero():
    a = drawn(4, 50) + 1e4
    whole, parts = moments(a), moments(a, 1, 2, 2, 31)
    np.testing.assert_allclose(parts.covariance, np.cov(a, rowvar=False), rtol=1e-9)
    np.testing.assert_allclose(parts.mean, whole.mean, rtol=1e-12)
    often = moments(a[:7])
    often.add(a[7:9], times=3)
    np.testing.assert_allclose(often.covariance, np.cov([*a[:7], *a[7:9].repeat(3, 0)], rowvar=False), rtol=1e-9)


def pictures(seed, n=9, size=(24, 33)):
    return np.random.default_rng(seed).integers(0, 256, (n, *size, 3)).astype(np.uint8)


def fill(sets, ours, theirs):
    for side, shown in ((sets.ours, ours), (sets.theirs, theirs)):
        for picture in shown:
            side.add(picture)


def test_pictures_are_taken_some_at_a_time():
    ours, theirs = pictures(0), pictures(1)
    sets = Sets(cell_features, batch=4)
    fill(sets, ours, theirs)
    sets.close(theirs[0])
    fill(sets, theirs[3:8], ours[3:4])  # of a pair that is not read to its end
    sets.drop()
    expected = [
        frechet_distance(moments(cell_features(x)), moments(cell_features(theirs))) for x in (ours, theirs[[0] * 9])
    ]
    assert sets.distances() == pytest.approx(expected)


def test_each_side_is_of_whole_videos():
    """Nine pictures beside four: what the hypothesis lacks is in the references' set, and in the floor's."""
    ours, theirs = pictures(0)[:4], pictures(0)
    sets, changes = Sets(cell_features, batch=4), Sets(cell_features, of_changes=True)
    for one in (sets, changes):
        fill(one, ours, theirs)
        one.close(theirs[0])
    assert (sets.ours.moments.count, sets.theirs.moments.count, sets.floor.count) == (4, 9, 9)
    expected = frechet_distance(moments(cell_features(ours)), moments(cell_features(theirs)))
    assert sets.distances()[0] == pytest.approx(expected) and expected > 1e-3
    assert (changes.ours.moments.count, changes.theirs.moments.count, changes.floor.count) == (3, 8, 8)
    change = np.abs(np.diff(theirs.astype(int), axis=0)).astype(np.uint8)
    np.testing.assert_allclose(changes.theirs.moments.mean, cell_features(change).mean(axis=0), rtol=1e-6)
    assert np.all(changes.floor.mean == 0) and changes.distances()[1] > 0
    fill(changes, ours, theirs[:1])  # no change beyond a video's end
    changes.close(theirs[0])
    assert (changes.ours.moments.count, changes.theirs.moments.count, changes.floor.count) == (6, 8, 8)


@pytest.mark.parametrize("wrong", [np.nan, np.inf, -np.inf])
def test_features_that_are_not_finite_are_not_scored(wrong):
    broken = moments(drawn(0), 20)
    assert broken.finite and Moments().finite
    broken.add(np.full((1, 6), wrong))
    broken.add(drawn(2))
    assert not broken.finite and broken.count == 81
    other = moments(drawn(1))
    assert np.isnan(frechet_distance(broken, other)) and np.isnan(frechet_distance(other, broken))


def test_the_projects_own_features_by_hand():
    picture = np.zeros((1, 8, 8, 3), np.uint8)
    picture[:, :, 4:] = 255  # white on the right: an edge from left to right between columns 3 and 4
    found = cell_features(picture).reshape(4, 4, 7)
    np.testing.assert_allclose(found[..., :3], np.array([0, 0, 1, 1])[None, :, None] * np.ones((4, 1, 3)))
    expected = np.zeros((4, 4, 4))
    expected[:, 1, 0] = 0.5  # one of the cell's two columns
    np.testing.assert_allclose(found[..., 3:], expected, atol=1e-7)
    turned = cell_features(picture.transpose(0, 2, 1, 3)).reshape(4, 4, 7)
    np.testing.assert_allclose(turned[..., 5], expected[..., 0].T, atol=1e-7)  # half a turn of orientations on
    assert cell_features(pictures(0)).min() >= 0 and cell_features(pictures(0)).max() <= 1.5


def test_a_large_picture_is_made_smaller():
    small = pictures(5, n=2, size=(130, 140))
    large = np.repeat(np.repeat(small, 3, axis=1), 3, axis=2)
    np.testing.assert_allclose(cell_features(large), cell_features(small), atol=1e-6)
    # What is left over is left out.
    rest = np.pad(large, ((0, 0), (0, 2), (0, 2), (0, 0)), constant_values=255)
    np.testing.assert_allclose(cell_features(rest), cell_features(small), atol=1e-6)


def random_weights():
    """Of the sizes that such layers have, so that no value vanishes on the way."""
    rng = np.random.default_rng(0)
    weights = {}
    for name, shape in inception.shapes():
        if name.endswith("conv.weight"):
            weights[name] = rng.normal(0, (2 / np.prod(shape[1:])) ** 0.5, shape)
        elif name.endswith(("running_var", "bn.weight")):
            weights[name] = rng.uniform(0.5, 1.5, shape)
        else:
            weights[name] = rng.normal(0, 0.1, shape)
    return {name: value.astype(np.float32) for name, value in weights.items()}


def test_inception_has_the_published_weights():
    """torchvision's count of the network without its classifier, its means and variances left out."""
    trained = sum(np.prod(shape) for name, shape in inception.shapes() if "running" not in name)
    assert trained == 21_785_568 and len(dict(inception.shapes())) == 94 * 5
    shapes = jax.eval_shape(
        inception.pooled, {name: jax.ShapeDtypeStruct(shape, np.float32) for name, shape in inception.shapes()},
        jax.ShapeDtypeStruct((3, 48, 64, 3), np.uint8),
    )  # fmt: skip
    assert shapes.shape == (3, inception.WIDTH)


@pytest.fixture(scope="module")
def weights():
    return random_weights()


def test_inception_gives_what_pytorch_fid_gives(weights):
    """The numbers are those of pytorch-fid 0.3.0 by torchvision 0.29 with these weights."""
    picture = np.random.default_rng(1).integers(0, 256, (1, 40, 56, 3)).astype(np.uint8)
    found = np.asarray(jax.jit(inception.pooled)(weights, picture))[0]
    expected = [2.7473843097686768, 36.42732238769531, 21.711196899414062, 22.502838134765625]
    np.testing.assert_allclose(found[:4], expected, rtol=1e-4)
    np.testing.assert_allclose(found[-2:], [0, 0.24280089139938354], rtol=1e-3)
    np.testing.assert_allclose([found.mean(), found.std()], [6.412077, 8.885865], rtol=1e-4)


def test_weights_are_read_by_their_published_names(tmp_path, weights, monkeypatch):
    monkeypatch.setattr(inception, "pooled", lambda params, pictures: jnp.zeros((len(pictures), 1)) + len(params))
    monkeypatch.setattr(inception, "BATCH", 4)
    file = tmp_path / "a.safetensors"
    weights = weights | {"fc.weight": np.zeros((1008, 2), np.float32)}
    save_file(weights, file)
    features, digest = read_inception(file)
    assert features(pictures(0)).tolist() == [[470]] * 9 and len(digest) == 64
    assert features(pictures(0)[:0]).shape == (0, inception.WIDTH)
    name = "Mixed_7c.branch_pool.conv.weight"
    for value, says in ((None, "lacks Mixed_7c"), (np.zeros((192, 2048), np.float32), "is [192, 2048]"),
                        (weights[name] * np.nan, "not finite")):  # fmt: skip
        other = {key: one for key, one in weights.items() if key != name}
        save_file(other if value is None else other | {name: value}, file)
        with pytest.raises(SignerError, match=re.escape(says)):
            read_inception(file)
    # torchvision's ImageNet weights: the same names and shapes of all that is used.
    aux = weights | {"AuxLogits.fc.weight": np.zeros((1000, 2), np.float32)}
    none = {key: one for key, one in weights.items() if key != "fc.weight"}
    for other, says in ((weights | {"fc.weight": np.zeros((1000, 2), np.float32)}, "fc.weight of 1000 rows"),
                        (aux, "has AuxLogits"), (none, "has no fc.weight")):  # fmt: skip
        save_file(other, file)
        with pytest.raises(SignerError, match=says):
            read_inception(file)
    (tmp_path / "a.pth").write_bytes(b"")
    with pytest.raises(SignerError, match="save_file"):
        read_inception(tmp_path / "a.pth")
