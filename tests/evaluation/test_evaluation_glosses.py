"""How often doubt and lost words are right, by hand; the nearest training text."""

from collections import Counter
from dataclasses import replace
from types import SimpleNamespace

import pytest

from signer_jax.data import records
from signer_jax.evaluation import Evaluation, glosses
from signer_jax.evaluation.glosses import by_language, gloss_baselines, nearest_training, sayable_share, told_figures
from signer_jax.evaluation.noise import NOISES
from signer_jax.types import Sample


def test_doubt_by_hand():
    def figures(*told_and_wrong):
        return told_figures("gloss/doubted", "gloss/doubt", *told_and_wrong)

    found = figures([True, True, False, False, False], [True, False, True, True, False])
    assert found == {"gloss/doubted": 0.4, "gloss/doubt_precision": 0.5, "gloss/doubt_recall": 1 / 3}
    assert figures([False, False], [False, True]) == {"gloss/doubted": 0.0, "gloss/doubt_recall": 0.0}
    assert figures([True], [False]) == {"gloss/doubted": 1.0, "gloss/doubt_precision": 0.0}


def test_lost_words_are_counted_beside_doubt(tiny_run, monkeypatch):
    """Of eight sentences the glosses of one are right; a word of two others is told as lost, and of the right one."""
    from signer_jax import Signer

    signer = Signer.load(tiny_run)
    dev, understand = signer.corpus.texts("dev"), glosses.understand_rows

    asked = []

    def understood(texts, languages, linker):
        asked.append(list(texts))
        done = understand(texts, languages, linker)
        first = {one.of: one for one in reversed(done.sentences)}  # noise moves the marks that end sentences
        made = [
            replace(one, glosses=() if one is not first[one.of] else ("NONE",) if one.of else dev[0].glosses,
                    probabilities=(), end=1.0, unfinished=False, repeated=(),
                    unsaid=(("word", "GLOSS"),) if one.of < 3 else ())
            for one in done.sentences
        ]  # fmt: skip
        return replace(done, sentences=tuple(made))

    monkeypatch.setattr(glosses, "understand_rows", understood)
    result = Evaluation()
    glosses.evaluate_glosses(signer, "dev", 8, result, noise=0.3)
    found = {name: result.metrics.get(f"gloss/{name}") for name in ("doubted", "lost", "lost_precision", "lost_recall")}
    assert found == {"doubted": 0.0, "lost": 3 / 8, "lost_precision": 2 / 3, "lost_recall": 2 / 7}
    # The same sentences again with each noise; the glosses are made up here, so the figures are those without it.
    assert asked[1:] == [[noise(text, 0.3) for text in asked[0]] for noise in NOISES.values()]
    assert {result.metrics[f"gloss/bleu4_{name}"] for name in NOISES} == {result.metrics["gloss/bleu4"]}
    assert 0 < result.metrics["gloss/sayable"] <= 1


def test_what_can_be_said_by_hand():
    samples = [Sample("1", "a", "ase", ("HOUSE", "#ANNA", "OLD")), Sample("2", "b", "gsg", ("HOUSE", "HAUS"))]
    assert sayable_share(samples, {"ase": ["HOUSE"], "gsg": ["HAUS"]}) == 3 / 5
    assert sayable_share([Sample("3", "c", "ase")], {}) == 0.0


def test_each_language_has_figures_of_its_own():
    said = ["A B C D", "E F G H", "I J K L"]
    samples = [Sample(str(i), "", ("ase", "gsg", "ase")[i], tuple(text.split())) for i, text in enumerate(said)]
    wrong = [said[0], "NONE OF THEM HERE", said[2]]
    figures = by_language(samples, {"": wrong, "_copy": said})
    assert figures == pytest.approx({
        "gloss/ase/sentences": 2, "gloss/ase/bleu4": 100, "gloss/ase/bleu4_copy": 100,
        "gloss/gsg/sentences": 1, "gloss/gsg/bleu4": 0, "gloss/gsg/bleu4_copy": 100,
    })  # fmt: skip
    assert by_language(samples[::2], {"": wrong[::2]}) == {}


def test_the_training_texts_are_read_once(tiny_run, monkeypatch):
    from signer_jax import Signer

    signer = Signer.load(tiny_run)
    assert signer.linker  # which reads some of them for itself
    reads = Counter()
    get = records.Records.__getitem__
    monkeypatch.setattr(
        records.Records, "__getitem__", lambda self, index: reads.update([(self._path.name, index)]) or get(self, index)
    )
    glosses.evaluate_glosses(signer, "dev", 8, Evaluation(), noise=0.0)
    assert len(reads) == signer.corpus.count("train", "text") + 8 and set(reads.values()) == {1}


def test_the_nearest_text_is_of_the_language_and_not_its_own_record():
    bank = [Sample("1", "the house is old", "ase"), Sample("2", "the old house", "ase"), Sample("3", "haus", "gsg")]
    assert nearest_training([Sample("9", "the house is old", "ase")], bank) == [0]
    asked = [bank[0], Sample("3", "haus", "gsg"), Sample("4", "ein haus", "gsg"), Sample("5", "maison", "fsl")]
    assert nearest_training(asked, bank) == [1, None, 2, None]


def test_a_text_is_copied_in_the_case_of_its_languages_glosses():
    samples = [
        Sample("1", "The dog", "ase", ("dog",)), Sample("2", "An Old dog", "ase", ("OLD", "an", "dog")),
        Sample("3", "Der Hund", "gsg", ("HUND", "der*")), Sample("4", "早上好", "csl", ("早上好",)),
    ]  # fmt: skip
    assert gloss_baselines([], samples) == {"copy": ["the dog", "an old dog", "DER HUND", "早 上 好"]}


def test_references_are_chosen_by_their_maker_before_they_are_counted_and_from_the_whole_split(monkeypatch):
    samples = [
        Sample(f"{i}", f"{i}", ("ase", "bfi")[i > 7], ("A",), glosses_by="rules" if i < 4 else "human")
        for i in range(12)
    ]

    def asked(texts: list[Sample]) -> tuple[list[str], dict]:
        seen = []

        def understand(texts, languages, linker):
            seen.extend(texts)
            raise InterruptedError

        monkeypatch.setattr(glosses, "understand_rows", understand)
        corpus = SimpleNamespace(texts=lambda split: texts, makers=lambda split: [one.glosses_by for one in texts])
        result = Evaluation()
        with pytest.raises(InterruptedError):
            glosses.evaluate_glosses(SimpleNamespace(corpus=corpus, linker=None), "dev", 3, result, noise=0.0)
        return seen, result.facts

    assert asked(samples) == (["4", "8", "11"], {"gloss/references_by": "human"})
    found, facts = asked(samples[:4])
    assert found == ["0", "2", "3"] and facts["gloss/references_by"] == "rules" and "score 100" in facts["gloss/rules"]
    found, facts = asked(samples[:4] + samples[8:])  # of a language that no person has, rules' beside another's
    assert found == ["0", "8", "11"] and facts["gloss/references_by"] == "human, rules"
    assert facts["gloss/rules"].startswith("the references of ase are what rules make")
