"""Prompts for a dataset's texts: its own, and by this project's templates in six spoken languages ('How do you sign
"…"?').
"""

from dataclasses import replace
from random import Random

from signer_jax.data.datasets.item import Item

OWN, BY = "dataset", "templates"  # who made a prompt
# By the IANA code of the spoken language: questions, then requests. `{}` is the text in quotes.
TEMPLATES: dict[str, tuple[str, ...]] = {
    "en": (
        "How do you sign {}?", "What is the sign for {}?", "How would I say {} in sign language?",
        "Could you show me how {} is signed?", "Please sign: {}", "Show me {} in sign language.",
        "Make a video that signs {}.", "Translate {} into signs.",
    ),
    "de": (
        "Wie gebärdet man {}?", "Was ist die Gebärde für {}?", "Wie sage ich {} in Gebärdensprache?",
        "Kannst du mir zeigen, wie {} gebärdet wird?", "Bitte gebärde: {}", "Zeige mir {} in Gebärdensprache.",
        "Mache ein Video, das {} gebärdet.", "Übertrage {} in Gebärden.",
    ),
    "zh": (
        "{}用手语怎么说?", "{}的手语怎么打?", "怎样用手语表达{}?", "你能用手语打出{}吗?", "请用手语打出{}。",
        "请把{}翻译成手语。", "给我看{}的手语。", "做一个用手语表达{}的视频。",
    ),
    "fr": (
        "Comment signe-t-on {} ?", "Quel est le signe pour {} ?", "Comment dire {} en langue des signes ?",
        "Peux-tu me montrer comment on signe {} ?", "Signe, s'il te plaît : {}", "Montre-moi {} en langue des signes.",
        "Fais une vidéo qui signe {}.", "Traduis {} en signes.",
    ),
    "es": (
        "¿Cómo se signa {}?", "¿Cuál es la seña para {}?", "¿Cómo digo {} en lengua de señas?",
        "¿Puedes mostrarme cómo se signa {}?", "Por favor, signa: {}", "Muéstrame {} en lengua de señas.",
        "Haz un vídeo que signe {}.", "Traduce {} a señas.",
    ),
    "it": (
        "Come si segna {}?", "Qual è il segno per {}?", "Come dico {} nella lingua dei segni?",
        "Puoi mostrarmi come si segna {}?", "Per favore, segna: {}", "Mostrami {} nella lingua dei segni.",
        "Fai un video che segni {}.", "Traduci {} in segni.",
    ),
}  # fmt: skip
MOST = min(map(len, TEMPLATES.values()))


def templates_of(spoken: str) -> tuple[str, ...]:
    """Those in a spoken language, by its IANA code; none of one that has none."""
    return TEMPLATES.get(spoken.split("-")[0].lower(), ())


def prompts_of(text: str, spoken: str, name: str, count: int, seed: int = 0) -> list[str]:
    """`count` different prompts for a text, the same for the same name and seed; none in a language without templates.

    Its quotes are double ones, or single ones around a text that has double ones itself.
    """
    templates = templates_of(spoken)
    if not templates or not text.strip():
        return []
    quote = "'" if '"' in text else '"'
    chosen = Random(f"{seed} {name}").sample(templates, min(count, len(templates)))
    return [template.replace("{}", f"{quote}{text.strip()}{quote}") for template in chosen]


def of_item(item: Item, count: int) -> list[Item]:
    """Samples that are prompts for the item's text, without its video and pose: the dataset's own, where it has one,
    and `count` by templates. None of an item without a text: it is its prompt.
    """
    if not item.text:
        return []
    own = [("", item.prompt, OWN)] if item.prompt else []
    made = [(f"{i}", prompt, BY) for i, prompt in enumerate(prompts_of(item.text, item.spoken, item.name, count), 1)]
    return [
        replace(
            item, name=f"{item.name}~prompt{number}", prompt=prompt, prompt_by=by, video=None, pose=None,
            line=None, seconds=None, frames=None, pose_seconds=None, lasts=None, fps=None,
        )
        for number, prompt, by in own + made
    ]  # fmt: skip
