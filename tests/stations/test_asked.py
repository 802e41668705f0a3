"""What a prompt asks for."""

import pytest

from signer_jax.stations.asked import asked, asked_alone


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("how do you sign 'thank you'?", "thank you"), ("how do you sign thank you", "thank you"),
        ("please sign: thank you", "thank you"), ("what is the sign for 'dog'?", "dog"),
        ("wie gebärdet man 'danke'?", "danke"), ("'dog' and 'cat'", "dog cat"),
    ],
)  # fmt: skip
def test_what_is_asked_for(text, wanted):
    assert asked_alone(text) == wanted
    assert " ".join(text[start:end] for start, end in asked(text)) == wanted


def test_a_sentence_that_quotes_is_no_prompt():
    assert asked_alone("my mother said 'sorry'") == "my mother said 'sorry'"
    assert asked_alone("the dog is old") == "the dog is old" and asked_alone("sign: '...'") == "sign: '...'"
    # Whatever words the training texts say something of.
    assert asked_alone("my friend the teacher said 'sorry'") == "my friend the teacher said 'sorry'"
    assert asked_alone("two things were there: a dog") == "two things were there: a dog"
