"""Words in scripts with spaces and without, by hand."""

import pytest

from signer_jax.writing import as_written, known_words, runs_of, unspaced, words_of


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("他今年四岁。", ["他", "今", "年", "四", "岁"]),
        ("《书》、笔", ["书", "笔"]),
        ("我叫Tom,他3岁", ["我", "叫", "Tom", "他", "3", "岁"]),
        ("二〇二六 人々", ["二", "〇", "二", "六", "人", "々"]),
        ("スキーが", ["ス", "キ", "ー", "が"]),
        ("가나 다", ["가나", "다"]),
        ("ที่นี่ ๒๕", ["ที่", "นี่", "๒๕"]),
        ("ລາວ", ["ລ", "າ", "ວ"]),
        ("မြန်", ["မြ", "န်"]),
        ("don't über-all", ["don't", "über-all"]),
        ("", []),
        ("…—", []),
    ],
)
def test_each_letter_of_a_script_without_spaces_is_a_word(text, words):
    found = words_of(text)
    assert [word.written for word in found] == words
    assert all(word.end - word.start == len(word.written) for word in found)


def test_rows_are_told_as_they_are_written_and_compared_as_before():
    text = "我的 house，名字"
    assert as_written(words_of(text)) == [run.written for run in runs_of(text)] == ["我的", "house", "名字"]
    assert known_words(["我的", "don’t"]) == {"我", "的", "don't"}
    assert unspaced("四") and not any(map(unspaced, "4a。가๒"))
