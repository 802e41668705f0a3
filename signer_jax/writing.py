"""One form of what typography writes in many: quotes, dashes, spaces, letters of other widths, what nobody sees."""

import unicodedata

# Before NFKC, which makes a space and a combining mark of an acute accent that somebody wrote for an apostrophe.
_ONE_FORM = str.maketrans(
    dict.fromkeys("\u201c\u201d\u201e\u201f\u00ab\u00bb\u2033\u2036\u301d\u301e\u301f", '"')
    | dict.fromkeys("\u2018\u2019\u201a\u201b\u2039\u203a\u2032\u2035\u00b4\u02b9\u02bb\u02bc\u055a`", "'")
    | dict.fromkeys("\u2010\u2011\u2012\u2013\u2014\u2015\u2212\u203e\ufe58\ufe63\uff0d", "-")
    | {"\u2017": "_"}
    # Of no width: a soft hyphen, joiners, marks of direction, a byte order mark within a text.
    | dict.fromkeys("\u00ad\u180e\u200b\u200c\u200d\u200e\u200f\u2060\u2061\u2062\u2063\u2064\ufeff", "")
)


def plain(text: str) -> str:
    """NFKC, with one form of the quotes (\" and ') and dashes (-), without characters of no width."""
    return unicodedata.normalize("NFKC", text.translate(_ONE_FORM))
