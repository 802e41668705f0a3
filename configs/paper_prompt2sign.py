"""The paper's prompt to gloss to pose on Prompt2Sign: SLUL on texts and prompts, SLP-MoE on the signs beside them.

signer prepare prompt2sign --source PROMPT2SIGN --out sets/prompt2sign --glosses rules --prompts 2
signer prepare wlasl --source WLASL --out sets/wlasl --video none --poses dwpose --pose-weights DIR
signer import t5 T5_BASE --out weights/t5
signer train --config configs/paper_prompt2sign.py --workdir runs/prompt2sign \\
    --config.data.source=sets/prompt2sign,sets/wlasl --config.slul.init=weights/t5 \\
    --config.tokenizer.path=weights/t5/spiece.model --config.tokenizer.mask="<extra_id_0>"

The German part's poses have 25 frames a second, the American's 24, and the run brings all to `data.fps`; other parts
need `--pose-fps`, which is for a whole set: a part of another rate is a set of its own.
English texts without glosses, as all of the American part are, get some by `--glosses rules`, which are no annotation;
`--config.data.glosses_by=human,unknown` leaves them out again. `paper_how2sign` goes on to video.
"""

from signer_jax.configuration import shipped


def get_config():
    c = shipped("paper_how2sign")
    c.stages = ("slul", "pose")
    c.evaluate.sentences = 2000
    return c
