"""`python -m signer_jax` is the `signer` program."""

import sys

from signer_jax.cli.main import main

sys.exit(main())
