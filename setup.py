"""The metadata is in pyproject.toml; here is what it cannot say.

The shipped configs lie in `configs/`, for people to read and copy, and are installed inside the package, where no other
`configs` on the path can hide them. The scripts and styles of pages lie beside the code that writes these.
"""

from setuptools import find_packages, setup

setup(
    packages=[*find_packages(include=["signer_jax*"]), "signer_jax.configs"],
    package_dir={"signer_jax.configs": "configs"},
    package_data={"signer_jax.viewing": ["*.js", "*.css", "*.html"]},
)
