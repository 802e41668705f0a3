"""Numbers written in digits, as the words that training texts have for them: "3" is "three", and in German "drei"."""

_ENGLISH = (
    "zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve",
    "thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen",
)  # fmt: skip
_ENGLISH_TENS = ("twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety")
_GERMAN = (
    "null", "eins", "zwei", "drei", "vier", "fünf", "sechs", "sieben", "acht", "neun", "zehn", "elf", "zwölf",
    "dreizehn", "vierzehn", "fünfzehn", "sechzehn", "siebzehn", "achtzehn", "neunzehn",
)  # fmt: skip
_GERMAN_TENS = ("zwanzig", "dreißig", "vierzig", "fünfzig", "sechzig", "siebzig", "achtzig", "neunzig")


def number_words(number: int, spoken: str) -> tuple[str, ...]:
    """How a number of 0 to 99 is written in words in "english" or "german", the usual way first; () of others."""
    if not 0 <= number < 100 or spoken not in ("english", "german"):
        return ()
    ones, tens = (_ENGLISH, _ENGLISH_TENS) if spoken == "english" else (_GERMAN, _GERMAN_TENS)
    if number < 20:
        return (ones[number],)
    ten, one = tens[number // 10 - 2], number % 10
    if spoken == "english":
        return (ten,) if not one else (f"{ten}-{ones[one]}", f"{ten} {ones[one]}")
    word = ten if not one else f"{'ein' if one == 1 else ones[one]}und{ten}"
    return (word, word.replace("ß", "ss")) if "ß" in word else (word,)
