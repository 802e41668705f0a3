"""Noisy texts: what each noise changes, and that it changes the same every time."""

from collections import Counter

import pytest

from signer_jax.evaluation.noise import NOISES, dropped, misspelt, swapped

TEXTS = [
    "und nun die wettervorhersage für morgen mittwoch den sechsten januar", "how do you sign I carried it?",
    "내일 날씨 아주 좋다 네", "am tag scheint die sonne",
]  # fmt: skip


@pytest.mark.parametrize("text", TEXTS)
def test_each_changes_its_share_of_words_and_nothing_else(text):
    words = text.split()
    number = round(0.3 * len(words))
    left = Counter(words) - Counter(dropped(text, 0.3).split())
    assert sum(left.values()) == number and not Counter(dropped(text, 0.3).split()) - Counter(words)
    assert Counter(swapped(text, 0.3).split()) == Counter(words) and swapped(text, 0.3) != text
    wrong = misspelt(text, 0.3).split()
    changed = [(a, b) for a, b in zip(words, wrong, strict=True) if a != b]
    long = sum(sum(map(str.isalpha, word)) >= 3 for word in words)  # none in the Korean text
    assert len(changed) == (max(1, round(0.3 * long)) if long else 0)
    for word, other in changed:
        assert word[0] == other[0] and abs(len(word) - len(other)) <= 1
        assert sum((Counter(word) - Counter(other)).values()) <= 1


def test_letters_without_spaces_are_words():
    text = "我叫 Tom,他今年四岁。"
    less, other = dropped(text, 0.2), swapped(text, 0.2)
    assert len(less) == len(text) - 2 and not Counter(less) - Counter(text)
    assert other != text and sorted(other) == sorted(text) and " Tom," in other and "Tom," in less.split()[-1]
    assert dropped(text, 0.0) == swapped(text, 0.0) == text


def test_it_is_the_same_every_time_and_another_for_another_text():
    long = " ".join(f"word{i}" for i in range(40))
    for noise in NOISES.values():
        assert noise(long, 0.2) == noise(long, 0.2) != noise(long, 0.4)
    assert dropped("a b c d e f g h", 0.3).split() != [chr(ord(w) - 8) for w in dropped("i j k l m n o p", 0.3).split()]


def test_what_there_is_nothing_to_change_in_stays():
    for noise in NOISES.values():
        assert noise("", 0.3) == "" and noise("ja", 0.3) == "ja" and noise("der tag", 0.0) == "der tag"
    assert len(dropped("a b c", 1.0).split()) == 1
    assert misspelt("12 34 ab", 0.5) == "12 34 ab"
