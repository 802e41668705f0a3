"""The demo: the whole chain on the built-in corpus, under ten minutes on two CPU cores.

signer demo                   or    signer train --config configs/demo.py --workdir runs/demo
"""

from signer_jax.configuration import shipped


def get_config():
    return shipped("default")
