"""Words of a kind that stand for one another, exchanged in a text and in its glosses."""

from collections import Counter
from itertools import islice

import numpy as np
import pytest

from configs import phoenix14t
from signer_jax.data import lengths, records, streams
from signer_jax.data.exchange import exchanged, kinds
from signer_jax.data.windows import Limits
from signer_jax.errors import SignerError
from signer_jax.settings import Exchange
from signer_jax.slul.tokenizer import Tokenizer
from signer_jax.training.input_pipeline import text_change
from signer_jax.types import Sample

NUMBERS = "vier=VIER fünf=FUENF zwanzig=ZWANZIG vierundzwanzig=VIER+ZWANZIG"
DAYS = "montag=MONTAG freitag=FREITAG"


def sample(text: str, glosses: str) -> Sample:
    return Sample("s", text, "gsg", tuple(glosses.split()))


def changed(text: str, glosses: str, *written: str, share: float = 1.0, seed: int = 0) -> tuple[str, str]:
    new = exchanged(sample(text, glosses), kinds(written), share, np.random.default_rng(seed))
    return new.text, " ".join(new.glosses)


def test_a_word_and_its_gloss_change_together_and_nothing_else_does():
    assert changed("Am Montag, kalt.", "MONTAG KALT", DAYS) == ("Am Freitag, kalt.", "FREITAG KALT")
    # Wherever it stands, as often as it stands.
    assert changed("montag montag", "IX MONTAG MONTAG", DAYS) == ("freitag freitag", "IX FREITAG FREITAG")


@pytest.mark.parametrize(
    "text, glosses",
    [
        ("am montag", "HEUTE KALT"),  # nobody signed it
        ("montag und montag", "MONTAG"),  # who is to say which
        ("montags", "MONTAG"),  # another word
        ("montag freitag", "MONTAG FREITAG"),  # the kind has no third
        ("montag", "MONTAG FREITAG"),  # and of its glosses both are there
        ("", ""),
    ],
)
def test_what_cannot_be_told_stays(text, glosses):
    assert changed(text, glosses, DAYS) == (text, glosses)


def test_of_two_words_with_one_gloss_neither_is_exchanged():
    rivers = "elbe=FLUSS rhein=FLUSS alpen=BERG"
    assert changed("elbe und rhein", "FLUSS", rivers) == ("elbe und rhein", "FLUSS")
    assert changed("am rhein", "FLUSS", rivers) == ("am alpen", "BERG")


def test_several_glosses_of_a_word_are_one():
    """24 is signed 4 and 20, and is neither."""
    assert changed("vierundzwanzig", "VIER ZWANZIG GRAD", NUMBERS) == ("fünf", "FUENF GRAD")
    seen = {changed("fünf grad", "FUENF GRAD", NUMBERS, seed=seed) for seed in range(40)}
    assert seen == {
        ("vier grad", "VIER GRAD"), ("zwanzig grad", "ZWANZIG GRAD"), ("vierundzwanzig grad", "VIER ZWANZIG GRAD"),
    }  # fmt: skip
    two = {changed("vier bis vierundzwanzig", "VIER BIS VIER ZWANZIG", NUMBERS, seed=seed) for seed in range(40)}
    # One takes five or twenty; the other what is left.
    assert two == {("fünf bis zwanzig", "FUENF BIS ZWANZIG"), ("zwanzig bis fünf", "ZWANZIG BIS FUENF")}


def test_the_share_is_of_the_words_and_all_that_are_left_are_as_likely():
    days = "mo=MO di=DI mi=MI do=DO fr=FR"
    drawn = Counter(changed("mo", "MO", days, share=0.4, seed=seed)[0] for seed in range(4000))
    assert set(drawn) == {"mo", "di", "mi", "do", "fr"}
    assert abs(drawn.pop("mo") / 4000 - 0.6) < 0.03  # four deviations
    assert all(abs(count / 4000 - 0.1) < 0.02 for count in drawn.values())
    assert changed("mo", "MO", days, share=0.0) == ("mo", "MO")


@pytest.mark.parametrize("written", ["a=A b", "a=A a=B", "a=A", "a= b=B", "=A b=B", "a=A+ b=B", ""])
def test_kinds_that_are_none_are_refused(written):
    with pytest.raises(SignerError, match=r"config\.data\.exchange\.words") as error:
        kinds([DAYS, written])
    assert "\n" not in str(error.value)


def test_nothing_to_exchange_is_refused():
    with pytest.raises(SignerError, match="has none to exchange"):
        text_change(Exchange(0.5, ()))
    assert text_change(Exchange(0.0, ())) is None


def test_a_run_reads_other_words_in_every_epoch_and_the_same_again(tmp_path):
    """What does not fit its bucket any more is read as it was."""
    tokenizer = Tokenizer.train(
        ["montag freitag vier fünf zwanzig vierundzwanzig grad"] * 4, tmp_path / "t", 60, ["gsg"],
        glosses=[["MONTAG", "FREITAG", "VIER", "FUENF", "ZWANZIG", "GRAD"]],
    )  # fmt: skip
    texts = [sample("fünf grad", "FUENF GRAD"), sample("vier grad", "VIER GRAD")]
    corpus = records.write(tmp_path / "data", {"train": lambda: texts}, {"languages": {"gsg": "German"}})
    train, reading = corpus.texts("train"), streams.Reading(batch=2, seed=0, threads=1, prefetch=1)
    room = len(tokenizer.encode_source("vierundzwanzig grad", "gsg"))
    goals = {f"{number} GRAD": len(tokenizer.encode_gloss([*number.split(), "GRAD"]))
             for number in ("VIER", "FUENF", "ZWANZIG", "VIER ZWANZIG")}  # fmt: skip

    def epochs(most: int) -> list[str]:
        batches = streams.bucketed_texts(
            train, tokenizer, Limits(room, most, 4), (lengths.Bucket(room, most),), reading,
            change=text_change(Exchange(0.9, (NUMBERS,))),
        )  # fmt: skip
        rows = [row for batch in islice(batches, 30) for row in batch["target"]]
        return [" ".join(tokenizer.decode_gloss(row.tolist())) for row in rows]

    seen = epochs(max(goals.values()))
    assert seen == epochs(max(goals.values())) and set(seen) == set(goals)
    less = goals.pop("VIER ZWANZIG GRAD") - 1
    assert max(goals.values()) <= less and set(epochs(less)) == set(goals)


def test_a_kind_is_of_its_language_alone():
    assert changed("mai", "MAI", "gsg: mai=MAI juni=JUNI") == ("juni", "JUNI")
    assert changed("mai", "MAI", "fsl: mai=MAI juni=JUNI") == ("mai", "MAI")


def test_the_weathers_words_are_of_one_kind_each():
    """Else a word would be exchanged twice; and each kind's words have glosses of their own."""
    found = kinds(phoenix14t.get_config().data.exchange.words)
    words = [word for kind in found for word in kind.glosses]
    assert {kind.language for kind in found} == {"gsg"}
    assert len(words) == len(set(words)) and all(len(set(of.values())) == len(of) for _, of in found)
    assert found[0].glosses["einundzwanzig"] == ("EINS", "ZWANZIG") and found[1].glosses["zehnten"] == ("ZEHNTE",)


def test_the_weathers_words_and_glosses_are_all_in_training(samples):
    """A list by hand must not bring what only dev has."""
    rows = (samples / "text2gloss" / "phoenix14t.train.tsv").read_text("utf-8").splitlines()
    _, _, glosses, texts, _ = zip(*(row.split("\t") for row in rows[1:]), strict=True)
    known, signed = set(" ".join(texts).split()), {f" {line} " for line in glosses}
    for _, of in kinds(phoenix14t.get_config().data.exchange.words):
        assert not set(of) - known
        assert all(any(f" {' '.join(some)} " in line for line in signed) for some in of.values())
