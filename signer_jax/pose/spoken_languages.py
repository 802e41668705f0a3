"""Which spoken language is beside a sign language: how words are spelled and numbers are said follows it."""

# Sign languages beside a spoken one: none of them is meant by the spoken one's name alone.
BESIDE = {
    "english": ("ase", "bfi", "asf", "nzs", "isg"), "german": ("gsg", "asq", "sgg"),
    "french": ("fsl", "sfb", "ssr", "fcs"), "spanish": ("ssp", "mfs", "aed"), "portuguese": ("bzs", "psr"),
    "italian": ("ise", "slf"), "dutch": ("dse", "vgt"), "turkish": ("tsm",),
}  # fmt: skip
# Corpora name the spoken language beside a sign language in words, lexicons by its ISO 639-1 code.
SPOKEN = {
    "en": "english", "de": "german", "deutsch": "german", "fr": "french", "es": "spanish", "pt": "portuguese",
    "it": "italian", "nl": "dutch", "pl": "polish", "cs": "czech", "tr": "turkish", "el": "greek", "uk": "ukrainian",
    "da": "danish", "lb": "luxembourgish", "af": "afrikaans", "ar": "arabic",
}  # fmt: skip


def spoken_of(name: str) -> str:
    """A spoken language in English, lower case, whether it is named in words ("German", "Deutsch") or by its code."""
    name = name.casefold()
    return SPOKEN.get(name) or SPOKEN.get(name.replace("_", "-").partition("-")[0], name)


def beside(code: str, named: str = "") -> str:
    """The spoken language beside a sign language: as it is named, else by the sign language's code; "" where neither
    says it.
    """
    return spoken_of(named) or next((spoken for spoken, codes in BESIDE.items() if code in codes), "")
