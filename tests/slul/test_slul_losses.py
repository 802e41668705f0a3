"""SLUL's losses, each re-derived with numpy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from signer_jax.slul import losses
from signer_jax.slul.linker import LinkerOutput

B, S, G, V, D = 3, 5, 4, 7, 6
TARGET = np.array([[4, 5, 6, 1], [3, 1, 0, 0], [2, 4, 1, 0]])
PLAIN = {"label_smoothing": 0.0, "z_loss": 0.0}


def draw(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def log_softmax(x: np.ndarray, axis: int = -1) -> np.ndarray:
    x = x.astype(np.float64)
    return x - np.log(np.exp(x).sum(axis, keepdims=True))


def nll(logits: np.ndarray) -> np.ndarray:
    log_probs = log_softmax(logits)
    return np.array([[-log_probs[b, t, TARGET[b, t]] for t in range(G)] for b in range(B)])


def test_cross_entropy():
    logits = draw(B, G, V)
    np.testing.assert_allclose(losses.cross_entropy(logits, TARGET), nll(logits), rtol=1e-5)


def test_sagm_counts_masked_tokens_only():
    logits = draw(B, G, V)
    masked = np.zeros((B, G), bool)
    masked[0, 1] = masked[2, 0] = True
    expected = np.where(masked, nll(logits), 0)
    np.testing.assert_allclose(losses.sagm(logits, TARGET, masked), expected, rtol=1e-5)


def test_kl_and_its_direction():
    masked_logits, logits = draw(B, G, V), draw(B, G, V, seed=1)
    p, q = log_softmax(masked_logits), log_softmax(logits)
    expected = (np.exp(p) * (p - q)).sum(-1)
    assert np.abs(expected - (np.exp(q) * (q - p)).sum(-1)).max() > 0.1
    for stop in (True, False):
        np.testing.assert_allclose(losses.consistency_kl(masked_logits, logits, stop), expected, rtol=1e-4)
    np.testing.assert_allclose(losses.consistency_kl(logits, logits, True), 0, atol=1e-6)


def test_kl_anchor_gradient_stops_only_when_asked():
    masked_logits, logits = draw(B, G, V), draw(B, G, V, seed=1)

    def gradients(stop: bool):
        total = lambda m, a: losses.consistency_kl(m, a, stop).sum()  # noqa: E731
        return jax.grad(total, argnums=(0, 1))(masked_logits, logits)

    stopped, flowing = gradients(True), gradients(False)
    np.testing.assert_array_equal(stopped[1], 0)
    # d KL(p||q) / d logits of q = q - p
    expected = np.exp(log_softmax(logits)) - np.exp(log_softmax(masked_logits))
    np.testing.assert_allclose(flowing[1], expected, atol=1e-5)
    np.testing.assert_array_equal(stopped[0], flowing[0])
    assert np.abs(stopped[0]).max() > 0.1


def test_r_drop_by_hand():
    first, second = draw(B, G, V), draw(B, G, V, seed=1)
    p, q = log_softmax(first), log_softmax(second)
    both = ((np.exp(p) * (p - q)).sum(-1) + (np.exp(q) * (q - p)).sum(-1)) / 2
    np.testing.assert_allclose(losses.r_drop(first, second), both, rtol=1e-4)
    np.testing.assert_allclose(losses.r_drop(second, first), both, rtol=1e-4)
    np.testing.assert_array_equal(losses.r_drop(first, first), 0)
    half, quarter = np.log([[[0.5, 0.25, 0.25]]]), np.log([[[0.25, 0.5, 0.25]]])
    np.testing.assert_allclose(losses.r_drop(half, quarter), 0.25 * np.log(2), rtol=1e-6)
    gradients = jax.grad(lambda a, b: losses.r_drop(a, b).sum(), argnums=(0, 1))(first, second)
    assert min(np.abs(gradient).max() for gradient in gradients) > 0.1  # neither is an anchor
    low = losses.r_drop(jnp.asarray(first, jnp.bfloat16), jnp.asarray(second, jnp.bfloat16))
    assert low.dtype == jnp.float32


def info_nce(h_x: np.ndarray, h_g: np.ndarray, temperature: float, negatives: list[list[int]]) -> list[float]:
    x = h_x / np.linalg.norm(h_x, axis=-1, keepdims=True)
    g = h_g / np.linalg.norm(h_g, axis=-1, keepdims=True)
    values = []
    for i, others in enumerate(negatives):
        among = [i, *others]
        text = -np.log(np.exp(x[i] @ g[i] / temperature) / sum(np.exp(x[i] @ g[j] / temperature) for j in among))
        gloss = -np.log(np.exp(x[i] @ g[i] / temperature) / sum(np.exp(x[j] @ g[i] / temperature) for j in among))
        values.append((text + gloss) / 2)
    return values


def test_contrastive_by_loops():
    h_x, h_g = draw(B, D), draw(B, D, seed=1)
    expected = info_nce(h_x, h_g, 0.1, [[1, 2], [0, 2], [0, 1]])
    np.testing.assert_allclose(losses.contrastive(h_x, h_g, TARGET, 0.1), expected, rtol=1e-4)
    # Scale does not matter: both sides are normalised.
    np.testing.assert_allclose(losses.contrastive(10 * h_x, h_g / 3, TARGET, 0.1), expected, rtol=1e-4)


def test_identical_glosses_are_not_negatives():
    h_x, h_g = draw(4, D), draw(4, D, seed=1)
    target = np.array([[5, 1, 0], [4, 1, 0], [5, 1, 0], [5, 6, 1]])  # rows 0 and 2 are one gloss; 3 only begins like it
    expected = info_nce(h_x, h_g, 0.2, [[1, 3], [0, 2, 3], [1, 3], [0, 1, 2]])
    np.testing.assert_allclose(losses.contrastive(h_x, h_g, target, 0.2), expected, rtol=1e-4)


def test_contrastive_gradient_survives_an_empty_gloss():
    h_x, h_g = draw(B, D), draw(B, D, seed=1)
    h_g[1] = 0  # what pool gives for a sentence without a gloss
    gradient = jax.grad(lambda g: losses.contrastive(h_x, g, TARGET, 0.1).sum())(jnp.asarray(h_g))
    assert np.isfinite(gradient).all() and np.abs(gradient).max() > 0


@pytest.fixture
def output() -> LinkerOutput:
    source_mask = np.arange(S)[None] < np.array([5, 2, 3])[:, None]
    masked = np.zeros((B, G), bool)
    masked[0, :2] = masked[2, 1] = True
    return LinkerOutput(draw(B, S, D), source_mask, draw(B, G, V), draw(B, G, V, seed=1), masked, draw(B, G, D, seed=2))


def test_smoothing_and_z_loss_by_hand():
    logits = np.log(np.array([[[4.0, 2.0, 1.0, 1.0]]], np.float32))  # Z = 8: probabilities 1/2, 1/4, 1/8, 1/8
    target = np.array([[1]])
    plain = np.log(4)
    np.testing.assert_array_equal(losses.likelihood(logits, target, 0.0, 0.0), losses.cross_entropy(logits, target))
    every = (np.log(2) + np.log(4) + 2 * np.log(8)) / 4
    np.testing.assert_allclose(losses.likelihood(logits, target, 0.2, 0.0)[0, 0], 0.8 * plain + 0.2 * every, rtol=1e-6)
    np.testing.assert_allclose(
        losses.likelihood(logits, target, 0.0, 0.5)[0, 0], plain + 0.5 * np.log(8) ** 2, rtol=1e-6
    )


def test_smoothing_is_of_both_cross_entropies(output):
    options = {"temperature": 0.1, "stop_anchor_gradient": True}
    plain = losses.linker_losses(output, TARGET, **options, **PLAIN)
    changed = losses.linker_losses(output, TARGET, **options, label_smoothing=0.1, z_loss=0.0)
    for name, value in plain.items():
        assert np.array_equal(value, changed[name]) == (name not in ("cross_entropy", "sagm")), name


def test_a_text_that_was_read_twice_has_the_mean_of_both_and_their_divergence(output):
    options = {"temperature": 0.1, "stop_anchor_gradient": True, **PLAIN}
    second = draw(B, G, V, seed=5)
    once, again = (losses.linker_losses(output._replace(logits=x), TARGET, **options) for x in (output.logits, second))
    both = losses.linker_losses(output._replace(second_logits=second), TARGET, **options)
    assert list(both) == [*once, "r_drop"]
    np.testing.assert_allclose(both["cross_entropy"], (once["cross_entropy"] + again["cross_entropy"]) / 2, rtol=1e-5)
    for name in ("sagm", "kl", "contrastive"):  # of the first reading
        np.testing.assert_array_equal(both[name], once[name])
    each = np.asarray(losses.r_drop(output.logits, second))
    np.testing.assert_allclose(both["r_drop"], [each[b, :n].mean() for b, n in enumerate([4, 2, 3])], rtol=1e-5)


def test_linker_losses_are_means_per_example(output):
    result = losses.linker_losses(
        output, TARGET, temperature=0.1, stop_anchor_gradient=True, label_smoothing=0.0, z_loss=0.0
    )
    assert list(result) == ["cross_entropy", "sagm", "kl", "contrastive"]
    assert {value.shape for value in result.values()} == {(B,)}
    lengths = [4, 2, 3]  # eos counts, padding does not
    plain, masked = nll(output.logits), nll(output.masked_logits)
    np.testing.assert_allclose(result["cross_entropy"], [plain[b, :n].mean() for b, n in enumerate(lengths)], rtol=1e-5)
    np.testing.assert_allclose(result["sagm"], [masked[0, :2].mean(), 0, masked[2, 1]], rtol=1e-5)
    p, q = log_softmax(output.masked_logits), log_softmax(output.logits)
    kl = (np.exp(p) * (p - q)).sum(-1)
    np.testing.assert_allclose(result["kl"], [kl[b, :n].mean() for b, n in enumerate(lengths)], rtol=1e-4)
    h_x = np.stack([output.H[0].mean(0), output.H[1, :2].mean(0), output.H[2, :3].mean(0)])
    # The decoder's inputs: start 4 5 6 | start 3 . . | start 2 4 .
    h_g = np.stack(
        [output.gloss_states[0, 1:4].mean(0), output.gloss_states[1, 1], output.gloss_states[2, 1:3].mean(0)]
    )
    np.testing.assert_allclose(result["contrastive"], info_nce(h_x, h_g, 0.1, [[1, 2], [0, 2], [0, 1]]), rtol=1e-4)


def test_losses_of_tokens_may_be_their_sums(output):
    output = output._replace(second_logits=draw(B, G, V, seed=5))
    options = {"temperature": 0.1, "stop_anchor_gradient": True, **PLAIN}
    means = losses.linker_losses(output, TARGET, **options)
    sums = losses.linker_losses(output, TARGET, **options, over_tokens="sum")
    counts = {"cross_entropy": [4, 2, 3], "kl": [4, 2, 3], "r_drop": [4, 2, 3], "sagm": [2, 0, 1], "contrastive": 1}
    for name, count in counts.items():
        np.testing.assert_allclose(sums[name], np.asarray(means[name]) * count, rtol=1e-6)
    assert means.keys() == counts.keys()
    plain = nll(output.logits) + nll(output.second_logits)
    np.testing.assert_allclose(sums["cross_entropy"], np.where(TARGET > 0, plain, 0).sum(1) / 2, rtol=1e-5)


def test_linker_losses_in_bfloat16_are_float32(output):
    low = output._replace(
        H=jnp.asarray(output.H, jnp.bfloat16), gloss_states=jnp.asarray(output.H[:, :G], jnp.bfloat16)
    )
    result = losses.linker_losses(
        low, TARGET, temperature=0.1, stop_anchor_gradient=False, label_smoothing=0.0, z_loss=0.0
    )
    assert {value.dtype for value in result.values()} == {jnp.dtype(jnp.float32)}
