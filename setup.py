"""Kept so that ``pip install -e .`` works with every pip; the metadata is in pyproject.toml."""

from setuptools import setup

setup()
