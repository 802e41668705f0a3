"""What a stage makes of a few samples of a split while it trains, for TensorBoard: glosses, poses, clips.

Nothing is measured: figures take longer, and come when the run is over (`evaluation`).
"""

import sys
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import jax

from signer_jax.data.streams import spread, video_indices
from signer_jax.distributed import wait_for_all
from signer_jax.evaluation.figures import Evaluation
from signer_jax.evaluation.poses import performed_in_time, scorable
from signer_jax.evaluation.videos import borrowed, filmed
from signer_jax.model import TRAINED, Model
from signer_jax.opened import along
from signer_jax.outside import line_of
from signer_jax.pipeline import Signer
from signer_jax.pose.skeleton import on_joints
from signer_jax.settings import Settings
from signer_jax.showcase import log_samples
from signer_jax.stations.render import Studio, render, style_of
from signer_jax.stations.understand import semantics, understand
from signer_jax.training.monitoring import Monitor
from signer_jax.training.partitioning import here, on_mesh_of
from signer_jax.training.run import mesh_of

SENTENCES, CLIPS = 8, 2


class Samples:
    """Those of a run's stages. All processes call it; the first one makes them, on its own devices, the others wait.

    It draws from no generator of the training's. Where they cannot be made, it is told once, and training goes on.
    """

    def __init__(self, settings: Settings, workdir: Path, split: str = "dev"):
        self._settings, self._workdir, self._split = settings, workdir, split
        self._mesh = mesh_of(settings)
        self._studio: Studio | None = None  # without parameters: its programs, which are compiled once
        self._told = False

    def __call__(
        self, stage: str, model: Model, monitor: Monitor, step: int, params: dict[str, Any], asked: Callable[[], bool]
    ) -> None:
        """`params` are those that the stage uses, on the mesh. No more is made once the run is `asked` to stop."""
        params = here(params, self._mesh, along=along(self._settings))
        if jax.process_index() == 0:
            try:
                with on_mesh_of(params):
                    made, fps = self._made(stage, model, params, asked)
                log_samples(made, step, monitor, fps, within=f"{stage}/")
            except Exception as error:  # a corpus without that split; no memory for both
                if (line := line_of(error)) is None:
                    raise
                if not self._told:
                    print(f"signer: stage {stage!r}: no samples ({line}); training goes on", file=sys.stderr)
                self._told = True
        wait_for_all("samples")

    def _made(
        self, stage: str, model: Model, params: dict[str, Any], asked: Callable[[], bool]
    ) -> tuple[Evaluation, float]:
        lacks: dict[str, Any] = {part: None for part in ("slul", "slp_moe", "renderer") if part not in params}
        signer = Signer(self._settings, self._workdir, replace(model, **lacks), params)
        made, trained = Evaluation(joints=self._settings.pose.joints), TRAINED[stage]
        makers: dict[str, Callable[[Signer, Evaluation], None]] = {
            "slul": self._glosses, "slp_moe": self._poses, "renderer": partial(self._clips, asked)
        }  # fmt: skip
        for part, make in makers.items():
            if part in trained and not asked():
                make(signer, made)
        return made, signer.fps

    def _glosses(self, signer: Signer, made: Evaluation) -> None:
        records = signer.corpus.texts(self._split)
        some = [records[i] for i in spread(len(records), SENTENCES)]
        said = understand([one.text for one in some], [one.language for one in some], signer.linker).glosses
        made.glosses = [
            (f"[{one.language}] {one.text}", " ".join(glosses), " ".join(one.glosses))
            for one, glosses in zip(some, said, strict=True)
        ]

    def _poses(self, signer: Signer, made: Evaluation) -> None:
        records, c = signer.corpus.motions(self._split), self._settings
        some = [replace(records[i], video=None) for i in scorable(records, 1)]
        for sample, performed in zip(some, performed_in_time(signer, some, c.data.max_glosses), strict=True):
            if performed is not None and sample.pose is not None:
                both = {"ground truth": sample.pose, "top expert, stabilised": performed.pose}
                joints, dims = signer.model.joints, c.pose.dims
                made.poses += [(name, on_joints(pose, joints, dims)) for name, pose in both.items()]

    def _clips(self, asked: Callable[[], bool], signer: Signer, made: Evaluation) -> None:
        """The first window of each, of its true pose; none where each needs a published encoder's states."""
        if self._settings.renderer.text_encoder:
            return
        if self._studio is not None:
            own = {name: signer.params[name] for name in ("renderer", "vae")}
            vars(signer)["studio"] = replace(self._studio, params=own)
        studio, corpus = signer.studio, signer.corpus
        records, listed = corpus.motions(self._split), corpus.listed(self._split)
        places = video_indices(corpus, self._split)
        for i in [places[k] for k in spread(len(places), CLIPS)]:
            if asked():
                break
            pose, truth = filmed(records[i])
            frames = min(len(truth), studio.window)
            H = mask = None
            if signer.model.slul is not None:
                H, mask = semantics(records[i].text, records[i].language, signer.linker)
            bank = studio.latents.banks.get(listed[i][2])
            look = style_of(bank, listed[i][2]) if bank else borrowed(studio, corpus, self._split, i)
            rendered = render(pose.slice(0, frames), look, H, mask, studio, None).video
            made.clips.append({"ground truth": truth[:frames], "rendered": rendered})
        self._studio = replace(studio, params={})
