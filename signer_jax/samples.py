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
from signer_jax.distributed import first_failure, wait_for_all
from signer_jax.errors import one_line
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
from signer_jax.stations.render import render, style_of
from signer_jax.stations.studio import Studio
from signer_jax.stations.understand import semantics, understand
from signer_jax.training.monitoring import Monitor
from signer_jax.training.partitioning import check_room, here, on_mesh_of
from signer_jax.training.run import mesh_of

SENTENCES, CLIPS = 8, 2
_MOST = 10.0  # minutes in which all processes have handed their shards over
# What is shown of a part that a stage trains, and the parameters that this takes, of those that there are.
_READS = {
    "slul": ("slul",), "slp_moe": ("slul", "slp_moe", "stabiliser"), "renderer": ("slul", "renderer", "vae")
}  # fmt: skip


class Samples:
    """Those of a run's stages. All processes call it; the first one makes them, on its own devices, the others wait.

    It draws from no generator of the training's. What it does not show it says when it is made. Where samples cannot be
    made, in whatever process, it is told once a stage, and training goes on.
    """

    def __init__(self, settings: Settings, workdir: Path, split: str = "dev"):
        self._settings, self._workdir, self._split = settings, workdir, split
        self._mesh = mesh_of(settings)
        self._studio: Studio | None = None  # without parameters: its programs, which are compiled once
        self._told: set[str] = set()  # of which stages it was told why there are none
        for stage in settings.stages if jax.process_index() == 0 else ():
            shown = self._shown(stage)
            if "renderer" in TRAINED[stage] and "renderer" not in shown:
                line = "no clips: while it trains, config.renderer.text_encoder cannot read their texts"
                print(f"signer: config.samples_every: stage {stage!r} shows {line}", file=sys.stderr)
            elif not shown:
                print(f"signer: config.samples_every: stage {stage!r} shows nothing", file=sys.stderr)

    def _shown(self, stage: str) -> list[str]:
        """No clips where each would need a published encoder's states."""
        left = {"renderer"} if self._settings.renderer.text_encoder else set()
        return [part for part in _READS if part in TRAINED[stage] and part not in left]

    def __call__(
        self, stage: str, model: Model, monitor: Monitor, step: int, params: dict[str, Any], asked: Callable[[], bool]
    ) -> None:
        """`params` are those that the stage uses, on the mesh. No more is made once the run is `asked` to stop.

        Raises `Absent` where a process does not come.
        """
        if not (shown := self._shown(stage)):
            return
        reads = {part for each in shown for part in _READS[each]}
        params = {part: tree for part, tree in params.items() if part in reads}
        axis, own = along(self._settings), dict[str, Any]()

        def gather() -> None:
            own.update(jax.block_until_ready(here(params, self._mesh, along=axis)))

        def make() -> None:
            with on_mesh_of(own):
                made, fps = self._made(stage, model, own, asked)
            log_samples(made, step, monitor, fps, within=f"{stage}/")

        # A process that failed alone in what all do together would leave the others there.
        at = f"samples/{stage}/{step}"
        room = _failure(lambda: check_room(params, self._mesh, along=axis))
        failed = first_failure(f"{at}/room", room, _MOST) or first_failure(f"{at}/own", _failure(gather), _MOST)
        if not failed:
            if jax.process_index() == 0:
                failed = _failure(make)
            own.clear()
            wait_for_all("samples")
        if failed and stage not in self._told and jax.process_index() == 0:
            print(f"signer: stage {stage!r}: no samples ({failed}); training goes on", file=sys.stderr)
        self._told |= {stage} if failed else set()

    def _made(
        self, stage: str, model: Model, params: dict[str, Any], asked: Callable[[], bool]
    ) -> tuple[Evaluation, float]:
        lacks: dict[str, Any] = {part: None for part in _READS if part not in params}
        signer = Signer(self._settings, self._workdir, replace(model, **lacks), params)
        made = Evaluation(joints=self._settings.pose.joints)
        makers: dict[str, Callable[[Signer, Evaluation], None]] = {
            "slul": self._glosses, "slp_moe": self._poses, "renderer": partial(self._clips, asked)
        }  # fmt: skip
        for part in self._shown(stage):
            if not asked():
                makers[part](signer, made)
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
        """The first window of each, of its true pose."""
        own = {name: signer.params[name] for name in ("renderer", "vae")}
        studio, corpus = replace(self._studio or signer.studio, params=own), signer.corpus
        records, listed = corpus.motions(self._split), corpus.listed(self._split)
        places = video_indices(corpus, self._split)
        for i in [places[k] for k in spread(len(places), CLIPS)]:
            if asked():
                break
            sample, _ = records.filmed(i)  # a prepared set's video is decoded where it is asked for
            pose, truth = filmed(sample)
            frames = min(len(truth), studio.window)
            H = mask = None
            if signer.model.slul is not None:
                H, mask = semantics(sample.text, sample.language, signer.linker)
            bank = studio.latents.banks.get(listed[i][2])
            look = style_of(bank, listed[i][2]) if bank else borrowed(studio, corpus, self._split, i)
            rendered = render(pose.slice(0, frames), look, H, mask, studio, None).video
            made.clips.append({"ground truth": truth[:frames], "rendered": rendered})
        self._studio = replace(studio, params={})


def _failure(do: Callable[[], None]) -> str:
    """What hinders it, in one line; "" for nothing."""
    try:
        do()
    except Exception as error:  # a corpus without that split, no memory for both: training needs none of it
        return line_of(error) or one_line(f"{type(error).__name__}: {str(error)[:160]}")
    return ""
