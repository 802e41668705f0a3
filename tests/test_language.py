"""Which language a text is for, and what people write for it."""

import pytest

from signer_jax.errors import SignerError
from signer_jax.language import choose_language, code_of, resolve_language

TWO = {"languages": {"ase": "English", "gsg": "German"}, "words": {"ase": ["house", "in"], "gsg": ["haus", "in"]}}


def test_codes_and_other_names():
    known = TWO["languages"]
    for asked, code in {"ASE": "ase", "us": "ase", "en": "ase", "en_US": "ase", "English": "ase", "ASL": "ase",
                        "de": "gsg", "DGS": "gsg", "deutsch": "gsg", " gsg ": "gsg"}.items():  # fmt: skip
        assert code_of(asked, known)[0] == code, asked
    # Other sign languages stay others, whatever is spoken beside them.
    for asked in ("sgg", "bfi", "en-GB", "de-CH", "de-AT", "en-AU", "xyz", ""):
        assert code_of(asked, known) is None, asked
    both = {"gsg": "German", "sgg": "German"}
    assert code_of("de-CH", both) == ("sgg", "") and code_of("DGS", both) == ("gsg", "")
    for asked in ("de", "German", "DE"):
        with pytest.raises(
            SignerError, match=f"--language {asked}: a spoken language, .*are gsg, sgg; give one of these"
        ):
            code_of(asked, both)


def test_a_spoken_language_says_what_it_was_taken_as():
    known = TWO["languages"] | {"csf": "Czech"}
    code, said = code_of("de", known)
    assert code == "gsg" and said.startswith("--language de: taken as gsg,") and "asq, sgg" in said
    code, said = code_of("English", {"bfi": "en"})  # none is the natural one
    assert code == "bfi" and "taken as bfi" in said and "ase" in said and " bfi," not in said.split(";")[1]
    # Who names a sign language, or a spoken one that a single sign language goes with, need not be told.
    for asked in ("gsg", "DGS", "de-DE", "us", "ASL", "cs", "Czech"):
        assert code_of(asked, known)[1] == "", asked


def test_a_wrong_language_lists_what_there_is():
    with pytest.raises(SignerError, match=r"--language sgg: .*ase \(English\), gsg \(German\)") as error:
        resolve_language("house", "sgg", TWO)
    assert "did you mean" not in str(error.value)


def test_found_from_the_words():
    assert resolve_language("ein Haus?", None, TWO) == ("gsg", "")
    assert resolve_language("House!", None, TWO) == ("ase", "")
    assert resolve_language("house", "DGS", TWO) == ("gsg", "")
    assert (
        resolve_language("house", "de", TWO)[0] == "gsg" and "taken as gsg" in resolve_language("house", "de", TWO)[1]
    )
    code, said = resolve_language("in", None, TWO)
    assert code == "ase" and said == "taken from ase; gsg would do as well: say which with --language"
    contracted = {"languages": TWO["languages"], "words": {"ase": ["it", "is", "do", "not"], "gsg": ["es"]}}
    assert resolve_language("it's raining", None, contracted) == resolve_language("Don’t!", None, contracted)
    assert resolve_language("it's raining", None, contracted) == ("ase", "")
    with pytest.raises(SignerError, match="in no language that this run knows"):
        resolve_language("Anna", None, TWO)
    one = {"languages": {"gsg": "German"}, "words": {"gsg": []}}
    assert resolve_language("Anna", None, one) == ("gsg", "")
    with pytest.raises(SignerError, match="empty"):
        resolve_language(" ", None, one)


def test_the_language_of_a_lexicon():
    spoken = {"ase": "en", "fsl": "fr", "xyz": ""}
    for asked, code in {"us": "ase", "ASE": "ase", "LSF": "fsl", "XYZ": "xyz"}.items():
        assert choose_language(asked, spoken, len) == (code, ""), asked
    code, said = choose_language("fr", spoken, len)
    assert code == "fsl" and said.startswith("--language fr: taken as fsl")
    with pytest.raises(SignerError, match=r"--language sgg: .*this database, which has ase \(en\), fsl \(fr\), xyz$"):
        choose_language("sgg", spoken, len)
    assert choose_language(None, {"gsg": ""}, lambda code: 0) == ("gsg", "")
    assert choose_language(None, spoken, {"ase": 1, "fsl": 2, "xyz": 1}.__getitem__) == ("fsl", "")
    assert choose_language(None, spoken, lambda code: 0) == ("ase", "")  # nothing would do
    code, said = choose_language(None, spoken, {"ase": 2, "fsl": 2, "xyz": 1}.__getitem__)
    assert code == "ase" and said == "taken from ase; fsl would do as well: say which with --language"
