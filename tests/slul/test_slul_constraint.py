"""The automaton of glosses, by hand and against brute force; the search under it."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tiny_t5 import tiny, weights

from signer_jax.slul.constraint import BETWEEN, advance, automaton, may_follow, whole_glosses
from signer_jax.slul.decoding import beam_search
from signer_jax.slul.t5 import T5
from signer_jax.slul.tokenizer import EOS, Tokenizer

GLOSSES = {"ase": ("HOUSE", "HOUSE-BOAT", "IX-1", "#A"), "gsg": ("HAUS", "ÖFFNEN", "IX-1")}


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory) -> Tokenizer:
    # Few pieces: glosses are written with several, and share them.
    every = [gloss for known in GLOSSES.values() for gloss in known]
    path = tmp_path_factory.mktemp("tokenizer") / "tokenizer.model"
    return Tokenizer.train(["a house"], path, 40, ["ase", "gsg"], glosses=[every])


@functools.partial(jax.jit, static_argnames="v")
def _accepted(rules, language, ids, v: int):
    """`[b]`: whether every id of `[b, g]` (-1 past the end) was allowed where it stands."""

    def step(state, token):
        may = jnp.take_along_axis(may_follow(rules, language, state), token[:, None, None] % v, -1)[:, 0, 0]
        return advance(rules, language, state, token[:, None] % v), may | (token < 0)

    _, good = jax.lax.scan(step, jnp.full((len(ids), 1), BETWEEN), ids.T)
    return good.all(0)


def accepted(rules, tokenizer, language: int, sequences) -> np.ndarray:
    rows = [tokenizer.encode_gloss(glosses) for glosses in sequences]
    ids = np.full((64, 40), -1)
    for i, row in enumerate(rows):
        ids[i, : len(row)] = row
    return np.asarray(_accepted(rules, np.full(64, language), ids, tokenizer.vocab_size))[: len(rows)]


def test_sequences_of_the_languages_glosses_and_no_others(tokenizer):
    rules = automaton(GLOSSES, tokenizer, tokenizer.vocab_size)
    for language, known in enumerate(GLOSSES.values()):
        right = [glosses for n in (0, 1, 2) for glosses in itertools.product(known, repeat=n)]
        assert accepted(rules, tokenizer, language, right).all()
        other = set(list(GLOSSES.values())[1 - language]) - set(known)
        wrong = [glosses for gloss in other for glosses in ((gloss,), (known[0], gloss), (gloss, known[0]))]
        # The pieces of what is known also write what is not.
        wrong += [(gloss,) for gloss in ("HOUSE-", "HOUSE-1", "BOAT", "HOUSEHOUSE", "#HOUSE", "HAUSHAUS")]
        assert not accepted(rules, tokenizer, language, wrong).any()


def test_pieces_that_may_follow_by_hand(tokenizer):
    rules = automaton({"x": ["HOUSE", "HOUSE-BOAT"]}, tokenizer, tokenizer.vocab_size)
    house, longer = (tokenizer.encode_gloss([gloss])[:-1] for gloss in ("HOUSE", "HOUSE-BOAT"))
    assert len(longer) > len(house) + 1 and longer[: len(house)] == house
    # States are numbered along the first gloss, then along what the second adds to it.
    n = len(house)
    states = np.arange(n + 2)[None]
    allowed = np.asarray(may_follow(rules, jnp.zeros(1, int), states))[0]
    assert set(np.flatnonzero(allowed[0])) == {EOS, house[0]}
    for i in range(1, n):
        assert set(np.flatnonzero(allowed[i])) == {house[i]}
    assert set(np.flatnonzero(allowed[n])) == {EOS, house[0], longer[n]}
    assert set(np.flatnonzero(allowed[n + 1])) == {longer[n + 1]}
    token = np.array([[*longer[: n + 1], EOS]])
    np.testing.assert_array_equal(advance(rules, jnp.zeros(1, int), states, token)[0, : n + 1], np.arange(1, n + 2))


def test_a_gloss_without_room_is_dropped(tokenizer):
    rules = automaton(GLOSSES, tokenizer, tokenizer.vocab_size)
    ids = tokenizer.encode_gloss(["HOUSE", "ÖFFNEN"])
    german = tokenizer.encode_gloss(["HAUS", "ÖFFNEN"])
    assert whole_glosses(rules, 1, german) == german[:-1]
    assert whole_glosses(rules, 1, german[:-2]) == tokenizer.encode_gloss(["HAUS"])[:-1]
    assert (
        whole_glosses(rules, 0, [*ids[: len(tokenizer.encode_gloss(["HOUSE"])) - 1], EOS, 0, 0])
        == (tokenizer.encode_gloss(["HOUSE"])[:-1])
    )


def test_the_search_says_only_glosses_of_each_sentences_language(tokenizer):
    rules = automaton(GLOSSES, tokenizer, tokenizer.vocab_size)
    t5 = tiny(vocab_size=tokenizer.vocab_size)
    source = np.random.default_rng(0).integers(3, tokenizer.vocab_size, (8, 5))
    language = np.arange(8) % 2
    options = {"beams": 4, "max_length": 16, "length_penalty": 0.6}
    known = [set(glosses) for glosses in GLOSSES.values()]
    said = set()
    for seed in range(3):
        params = weights(t5, seed)
        H = t5.apply({"params": params}, source, method=T5.encode)
        ids, scores, _ = beam_search(t5, params, source, **options, rules=rules, language=language, H=H)
        for rows, k, row_scores in zip(np.asarray(ids), language, np.asarray(scores), strict=True):
            for row, score in zip(rows, row_scores, strict=True):
                if np.isfinite(score):
                    glosses = set(tokenizer.decode_gloss(whole_glosses(rules, k, row)))
                    assert glosses <= known[k]
                    said |= glosses
        best, *_ = beam_search(t5, params, source, **options, allowed=np.array(tokenizer.gloss_ids))
        free = [set(tokenizer.decode_gloss(row)) for row in np.asarray(best[:, 0])]
        assert not all(glosses <= known[k] for glosses, k in zip(free, language, strict=True))  # it would invent
    assert len(said) > 3


def test_rules_that_allow_single_pieces_are_a_mask_and_encoding_before_is_encoding_inside(tokenizer):
    single = [name for name in ("HOUSE", "IX-1", "#A", "HAUS") if len(tokenizer.encode_gloss([name])) == 2]
    rules = automaton({"x": single}, tokenizer, tokenizer.vocab_size)
    allowed = np.zeros(tokenizer.vocab_size, bool)
    allowed[[tokenizer.encode_gloss([gloss])[0] for gloss in single]] = True
    assert allowed.sum() >= 2
    t5 = tiny(vocab_size=tokenizer.vocab_size)
    params, source, options = (
        weights(t5),
        np.array([[5, 6, 7, 1]]),
        {"beams": 4, "max_length": 6, "length_penalty": 1.0},
    )
    H = t5.apply({"params": params}, source, method=T5.encode)
    plain = beam_search(t5, params, source, **options, allowed=allowed)
    ruled = beam_search(t5, params, source, **options, rules=rules, language=np.zeros(1, int), H=H)
    np.testing.assert_array_equal(plain[0], ruled[0])
    np.testing.assert_allclose(plain[1], ruled[1], atol=1e-5)


def test_thousands_of_glosses(tmp_path):
    rng = np.random.default_rng(0)
    letters = np.array(list("ABCDEFGHIJKLMNOPQRSTUVWXYZ-0123456789"))
    glosses = sorted({"".join(rng.choice(letters, rng.integers(2, 14))) for _ in range(6000)})
    big = Tokenizer.train(["a b"], tmp_path / "m", 2000, ["ase"], glosses=[[gloss] for gloss in glosses])
    rules = automaton({"ase": glosses}, big, big.vocab_size)
    assert len(rules.complete) > 10000 and rules.complete[1:].sum() == len(glosses)
    assert sum(array.nbytes for array in rules) < 64 << 20
    t5 = tiny(vocab_size=big.vocab_size)
    ids, *_ = beam_search(
        t5, weights(t5), rng.integers(3, 100, (4, 12)), beams=4, max_length=24, length_penalty=0.6, rules=rules,
        language=np.zeros(4, int),
    )  # fmt: skip
    said = {gloss for row in np.asarray(ids[:, 0]) for gloss in big.decode_gloss(whole_glosses(rules, 0, row))}
    assert said and said <= set(glosses)
