"""What a pose database is made of: a file a kind of source."""

LEXICON, WLASL, CONTINUOUS = "lexicon", "wlasl", "continuous"
BUILTIN, FINGERSPELLING = "builtin", "fingerspelling"  # which have no folder
KINDS = (LEXICON, WLASL, CONTINUOUS, BUILTIN, FINGERSPELLING)
