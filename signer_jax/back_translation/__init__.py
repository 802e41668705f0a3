"""Back translation: poses read back into text, to judge what a run signs by what somebody who reads signs gets of it.

Poses go through a transformer encoder with a gloss CTC head into a text decoder, as in "Sign Language Transformers:
Joint End-to-end Sign Language Recognition and Translation" (Camgöz et al., CVPR 2020, arXiv 2003.13830); judging
production by such a model is of "Progressive Transformers for End-to-End Sign Language Production" (Saunders et al.,
ECCV 2020, arXiv 2004.14874). It is trained on people's performances alone, in a folder of its own, and is no part of
the runs that it judges: nothing here imports what makes a pose.
"""
