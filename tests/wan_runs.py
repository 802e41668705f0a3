"""Runs of the shipped configs of published Wan models, on tiny folders of their classes.

Data, SLUL and SLP-MoE are the tiny run's, whose stages are done; the renderer is the config's.
"""

import json
import shutil
from dataclasses import asdict
from pathlib import Path

import tiny_pipeline

from signer_jax import configuration, storage
from signer_jax.cli.import_ import CONFIGS
from signer_jax.settings import Settings
from signer_jax.validation import read

I2V = "wan:wan2.1-i2v-14b"  # a config for a variant that has none of its own
VARIANTS = {config: variant for variant, config in CONFIGS.items()} | {I2V: "wan2.1-i2v-14b"}


def shipped(name: str):
    """A config by the name that `--config` takes."""
    return configuration.shipped(*name.split(":"))


def config_of(name: str, folder: Path, trains: tuple[str, ...], *, exact: bool = True):
    """The shipped config at the tiny run's sizes, on a folder of weights; `trains`: () is the config's own.

    `exact`: in float32, and by Euler's steps; else in the type and by the solver that the config names.
    """
    from conftest import TINY

    c, small = shipped(name), read(configuration.load(TINY))
    for section in ("data", "tokenizer", "slul", "pose", "loss", "evaluate", "mesh"):
        c[section].update(asdict(getattr(small, section)))
    c.train.slul.update(asdict(small.train.slul))
    c.train.pose.update(asdict(small.train.pose))
    c.seed, c.log_every, c.checkpoint_every = small.seed, small.log_every, 1
    if exact:
        c.dtype, c.renderer.solver = "float32", "euler"
    c.renderer.init, c.vae.init = str(folder), str(folder / "vae")
    for encoder in ("text_encoder", "image_encoder"):
        if (folder / encoder).is_dir():
            c.renderer[encoder] = str(folder)
    c.renderer.window, c.renderer.stride, c.renderer.steps, c.renderer.references = 5, 32, 2, 4
    c.renderer.overlap = min(c.renderer.overlap, 4)
    c.renderer.control_size, c.renderer.control_channels = 32, (8, 8, 8)
    c.renderer.control_fold = 1
    c.train.renderer.trains = trains or c.train.renderer.trains
    c.lora.rank, c.lora.alpha = 2, 3.0
    return c


class Weights:
    """Variants' weights as they are published, each written once a test process, in one folder."""

    def __init__(self, base: Path):
        self.base = base

    def of(self, variant: str, *, encoders: bool = False) -> Path:
        path = self.base / f"{variant}{'-encoders' if encoders else ''}"
        return path if path.exists() else tiny_pipeline.write(path, variant, encoders=encoders)

    @property
    def latents(self) -> Path:
        """Those of an earlier run, if there was one: all have one autoencoder."""
        return self.base / "latents"

    def keep(self, workdir: Path) -> None:
        if not self.latents.exists():
            shutil.copytree(workdir / "latents", self.latents)


def claimed(tiny_run: Path, workdir: Path, settings: Settings, weights: Weights) -> None:
    """A run whose first stages are the tiny run's, with the latents of an earlier test."""
    workdir.mkdir()
    for name in ("data", "prior", *(f"checkpoints/{stage}" for stage in settings.stages if stage != "renderer")):
        shutil.copytree(tiny_run / name, workdir / name)
    if weights.latents.exists():
        shutil.copytree(weights.latents, workdir / "latents")
    shutil.copy(tiny_run / "tokenizer.model", workdir)
    (workdir / "config.json").write_text(json.dumps({"made_by": storage.MADE_BY, **asdict(settings)}))
