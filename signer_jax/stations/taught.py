"""What the training texts of a language say of its words and glosses: counted once, when a run is opened."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

from signer_jax.stations.meanings import always_of, companions_of, meanings_of
from signer_jax.stations.repeats import TWICE, most_in_a_row


@dataclass(frozen=True)
class Taught:
    """Of no texts: nothing is known of a word, and a gloss may be said twice in a row."""

    meanings: Mapping[str, str] = field(default_factory=dict)  # the gloss that a word always brings
    several: Collection[str] = ()  # the words that bring more glosses than one
    companions: Mapping[str, Collection[str]] = field(default_factory=dict)  # the words that all texts with a word have
    in_a_row: int = TWICE  # how often one gloss may be said after itself

    @classmethod
    def of(cls, texts: Sequence[tuple[str, Sequence[str]]]) -> "Taught":
        """`texts`: each a text and its glosses."""
        always, companions = always_of(texts), companions_of(texts)
        several = {word for word, glosses in always.items() if len(glosses) > 1}
        return cls(meanings_of(always, companions), several, companions, most_in_a_row(glosses for _, glosses in texts))
