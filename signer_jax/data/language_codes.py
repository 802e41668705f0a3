"""The IANA codes of the languages that people write: of a table's cell, of an option."""

import re

from signer_jax.pose.spoken_languages import SPOKEN, spoken_of

# What people write for a sign language's IANA code: its usual short name, or the country that it is of.
ALSO = {
    "asl": "ase", "us": "ase", "en-us": "ase", "bsl": "bfi", "gb": "bfi", "en-gb": "bfi",
    "auslan": "asf", "en-au": "asf", "nzsl": "nzs", "en-nz": "nzs", "en-ie": "isg",
    "dgs": "gsg", "de-de": "gsg", "dsgs": "sgg", "de-ch": "sgg", "\u00f6gs": "asq", "oegs": "asq", "de-at": "asq",
    "lsf": "fsl", "fr-fr": "fsl", "lsfb": "sfb", "fr-be": "sfb", "fr-ch": "ssr", "lsq": "fcs", "fr-ca": "fcs",
    "lse": "ssp", "es-es": "ssp", "lsm": "mfs", "es-mx": "mfs", "lsa": "aed", "es-ar": "aed",
    "libras": "bzs", "pt-br": "bzs", "lgp": "psr", "pt-pt": "psr", "lis": "ise", "it-it": "ise", "it-ch": "slf",
    "ngt": "dse", "nl-nl": "dse", "vgt": "vgt", "nl-be": "vgt",
}  # fmt: skip

# Three letters that are no sign language's code: of spoken languages (ISO 639), and names that several go by (GSL is
# Greek's and German's).
_NONE = frozenset({
    "eng", "deu", "ger", "fra", "fre", "spa", "por", "ita", "nld", "dut", "pol", "ces", "cze", "tur", "ell", "gre",
    "ukr", "dan", "swe", "nor", "fin", "isl", "rus", "ltz", "afr", "ara", "zho", "chi", "cmn", "yue", "jpn", "kor",
    "hin", "heb", "und", "mis", "mul", "zxx", "gsl", "ksl", "tsl",
})  # fmt: skip
_CODES = {name: code for code, name in SPOKEN.items() if len(code) == 2}


def iana_of(language: str) -> str:
    """The IANA code of the sign language that somebody wrote: the code, its usual name (asl) or the country (de-ch). ""
    of what is known to be none: a spoken language of `_NONE`, or no code.
    """
    asked = language.strip().casefold().replace("_", "-")
    code = ALSO.get(asked, asked)
    return code if re.fullmatch("[a-z]{3}", code) and code not in SPOKEN and code not in _NONE else ""


def spoken_code(language: str) -> str:
    """The code of the spoken language that somebody wrote: en of "en", "EN" and "English", en-us of "en_US". "" of what
    is none.
    """
    asked = language.strip().casefold().replace("_", "-")
    code = _CODES.get(spoken_of(asked), asked) if asked in SPOKEN or asked in _CODES else asked
    return code if re.fullmatch("[a-z]{2,3}(-[a-z0-9]{1,8})*", code) else ""
