"""Letters among the glosses, by hand: whose they are, and where a carried name goes."""

from signer_jax.stations.spelled_names import placed, units, without_invented


def letters(word: str) -> list[str]:
    return [f"#{letter}" for letter in word]


def test_runs_of_letters_are_words_of_the_text_or_made_up():
    glosses = ["IX-1", "SEE", *letters("BOBOB"), "#OK", *letters("JÖRG")]
    assert units(glosses, ["I", "saw", "Bob", "Jörg"]) == (
        ["IX-1", "SEE", "#B #O #B", "#O #B", "#OK", "#J #Ö #R #G"], {2: 2, 5: 3}, [3],
    )  # fmt: skip
    assert units(letters("BOBANNA"), ["anna", "bob"])[1:] == ({0: 1, 1: 0}, [])
    assert units(letters("JOERG"), ["Jörg"])[1:] == ({0: 0}, [])
    # Words inside a made-up name are no words of it, and each word is spelled once.
    assert units(letters("NINA"), ["in", "a", "I"])[1:] == ({}, [0])
    assert units([*letters("BOB"), "AND", *letters("BOB")], ["Bob"])[1:] == ({0: 0}, [2])
    assert units(["#C"], ["vitamin", "c"])[1:] == ({0: 1}, [])
    assert units([], ["Bob"]) == ([], {}, [])
    assert units(letters("A" * 40 + "B"), ["a"] * 40)[2] == [0]  # and takes no age


def test_a_carried_name_stands_for_a_made_up_one():
    named = without_invented(
        ["IX-1", "POSS", "NAME", *letters("FRITZ")], [(3, "#ANNA")], ["my", "name", "is"], [0, 1, 2], 3
    )
    assert named == (("IX-1", "POSS", "NAME", "#ANNA"), [])  # nothing of FRITZ is left to tell
    glosses = ["IX-1", "SEE", "FINISH", *letters("BOBOB")]
    named = without_invented(glosses, [(3, "#ANNA"), (4, "#TOM")], ["I", "saw", "Bob", "and"], [0, 1, 2, 3], 4)
    assert named == (("IX-1", "SEE", "FINISH", "#B", "#O", "#B", "#ANNA", "#TOM"), [])
    named = without_invented([*letters("FRITZ"), "SEE", *letters("OTTO")], [(0, "#ANNA")], ["saw"], [0], 1)
    assert named == (("#ANNA", "SEE"), ["OTTO"])
    named = without_invented(["NAME", *letters("FRITZ"), "NEW"], [], ["name", "new"], [0, 1], 2)
    assert named == (("NAME", "NEW"), ["FRITZ"])
    # Carried names beside a spelled one keep the order of the text, and split none.
    glosses = ["IX-1", "SEE", *letters("BOB")]
    named = without_invented(glosses, [(2, "#ANNA"), (3, "#TOM")], ["I", "saw", "Bob", "and"], [0, 1, 2, 3], 4)
    assert named == (("IX-1", "SEE", "#ANNA", "#B", "#O", "#B", "#TOM"), [])


def test_places_by_hand():
    assert placed(("A", "B"), [(0, "#X")], 2) == ("#X", "A", "B")
    assert placed(("A", "B"), [(2, "#X")], 2) == ("A", "B", "#X")
    assert placed(("A", "B"), [(1, "#X"), (1, "#Y"), (2, "#Z")], 2) == ("A", "#X", "#Y", "B", "#Z")
    assert placed((), [(0, "#X"), (1, "#Y")], 2) == ("#X", "#Y")
    assert placed(("N", "B", "C"), [(1, "#X")], 4, {0: 3}) == ("#X", "N", "B", "C")  # nothing stands before N's word
    assert placed(("N", "B"), [(1, "#X")], 2, {0: 0}) == ("N", "#X", "B")
