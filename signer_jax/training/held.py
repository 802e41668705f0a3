"""The parameters that are in memory at a time: of the parts that a stage uses, or signing, each in the type it needs.

What they are after some stages stands in files: the published weights and the run's checkpoints; what neither has, the
seed gives. So a stage has nothing else in memory than what it uses, and what it changes nothing of may lie rounded:
whoever needs it otherwise reads it anew, tensor by tensor, each straight into its type.
"""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict

from signer_jax import mirror
from signer_jax import model as models
from signer_jax.dense import A, B, is_adapters
from signer_jax.errors import SignerError
from signer_jax.interop.names import FLOAT32, Described, held_as, inside
from signer_jax.model import READ, TRAINED, Model
from signer_jax.settings import Settings
from signer_jax.training import lora, partitioning
from signer_jax.training.checkpoints import Replaced, newest_step, read_params, read_sizes_beside
from signer_jax.training.trained import chosen, split

Params = dict[str, Any]
Kinds = dict[str, np.dtype]  # the paths of parameters, and the types that they lie in


@dataclass(frozen=True)
class Weights:
    """Where a run's parameters come from, and where they go."""

    settings: Settings
    workdir: Path
    model: Model
    published: Mapping[str, Described]
    known: Params  # the published parameters' shapes, a tree
    shapes: Params  # those of all
    mesh: jax.sharding.Mesh

    @classmethod
    def of(cls, settings: Settings, vocab_size: int, workdir: Path, mesh: jax.sharding.Mesh) -> "Weights":
        """Reads no weights. Raises `SignerError` as `models.describe`."""
        model, published = models.describe(settings, vocab_size)
        known = unflatten_dict({path: one.init()["params"] for path, one in published.items()}, sep="/")
        shapes = jax.eval_shape(lambda known: models.init(model, settings, known, settings.seed), known)
        return cls(settings, workdir, model, published, known, shapes, mesh)

    # ---- What is needed ----------------------------------------------------------------------------------------------
    def for_stage(self, name: str) -> tuple[Kinds, Kinds]:
        """What a stage trains, in float32, and what else it uses, as its `frozen_dtype` says. Adapters are in neither.

        Raises `SignerError` where a rule on what it trains names nothing.
        """
        c = self.settings.stage(name)
        moving = chosen(self.shapes, TRAINED[name], c.trains, f"config.train.{name}.trains")
        paths = self._paths((*TRAINED[name], *READ.get(name, ())))
        frozen = {path: held_as(path, np.dtype(c.frozen_dtype)) for path in paths if path not in moving}
        return dict.fromkeys(sorted(moving), FLOAT32), frozen

    def beside(self, name: str) -> dict[str, Path]:
        """The folders of the published weights that stand beside what a stage trains of its parts, by their paths."""
        _, frozen = self.for_stage(name)
        still = [path for path in frozen if path.partition("/")[0] in TRAINED[name]]
        return {
            at: Path(one.path) for at, one in self.published.items() if any(path.startswith(f"{at}/") for path in still)
        }

    def for_signing(self, parts: Collection[str] | None = None) -> Kinds:
        """What signing and evaluation use, or these parts of it."""
        dtype = signing_dtype(self.settings)
        return {path: held_as(path, dtype) if path.startswith("renderer/") else FLOAT32 for path in self._paths(parts)}

    def whole(self, parts: Collection[str] | None = None) -> Kinds:
        """All, or these parts, as they were trained."""
        return dict.fromkeys(self._paths(parts), FLOAT32)

    def _paths(self, parts: Iterable[str] | None) -> list[str]:
        some = {part: tree for part, tree in self.shapes.items() if parts is None or part in parts}
        return sorted(flatten_dict(some, sep="/"))

    def shapes_of(self, kinds: Kinds) -> Params:
        """The shapes of these parameters, in their types, in place of themselves."""

        def typed(path, leaf) -> jax.ShapeDtypeStruct:
            return jax.ShapeDtypeStruct(leaf.shape, kinds[partitioning.path_name(path)])

        return jax.tree_util.tree_map_with_path(typed, split(self.shapes, kinds)[0])

    # ---- From the files ----------------------------------------------------------------------------------------------
    def ready(self, have: Params, kinds: Kinds, after: Sequence[str], merged: Collection[str] = ()) -> Params:
        """The parameters of these paths as `read` gives them: the parts of `have` that lie so already, the others read.
        What else `have` holds is used up.
        """
        parts = {path.partition("/")[0] for path in kinds}
        kept = {}
        for part in sorted(have):
            lie = {name: leaf.dtype for name, leaf in flatten_dict({part: have[part]}, sep="/").items()}
            apart = {_kernel_of(name) for name in lie if is_adapters(name)}
            lie = {name: kind for name, kind in lie.items() if not is_adapters(name)}
            asked = {path: kind for path, kind in kinds.items() if path.startswith(f"{part}/")}
            if lie == asked and not apart & set(merged):
                kept[part] = have[part]
            else:
                partitioning.free(have[part])
        lacking = {path: kind for path, kind in kinds.items() if path.partition("/")[0] not in kept}
        read = self.read(lacking, after, merged)
        return {part: kept.get(part, read.get(part)) for part in self.shapes if part in parts}

    def read(self, kinds: Kinds, after: Sequence[str], merged: Collection[str] = ()) -> Params:
        """The parameters of these paths after these stages, on the mesh, each read once.

        Adapters come beside their kernels, as they were trained, where these lie or are computed with in bfloat16: a
        kernel that held them would be rounded, and most of them lost. In float32, and into the kernels of `merged`,
        they are merged, one kernel after the other. Where a run that is trained on replaced a checkpoint meanwhile, all
        is read anew, once. Raises `SignerError` where files are none.
        """
        with suppress(Replaced):
            return self.reader(kinds, after, merged)(kinds)
        return self.reader(kinds, after, merged)(kinds)

    def reader(self, kinds: Kinds, after: Sequence[str], merged: Collection[str] = ()) -> Callable[[Kinds], Params]:
        """`read` of some of these paths at a time, each asked for once; what stands where is looked up here, once: all
        is of the checkpoints that are the newest now.

        Raises `SignerError` as `read`, and `Replaced`, as what it gives does, where one of them has gone.
        """
        place, shapes = partitioning.placing(self.mesh), flatten_dict(self.shapes, sep="/")
        parts = {path.partition("/")[0] for path in kinds}
        steps = {
            stage: newest_step(self._checkpoints(stage), place) for stage in after if parts & set(TRAINED[stage])
        }  # fmt: skip
        owners, learned_beside = self._learned(kinds, steps)
        scale = self.settings.lora.alpha / self.settings.lora.rank
        apart = {path for path in learned_beside if path not in merged and self._is_rounded(kinds[path])}
        adapters = {path: some for path, some in learned_beside.items() if path not in apart}

        def read_as(path: str) -> np.dtype:
            return FLOAT32 if path in adapters else kinds[path]

        def finish(path: str, value: jax.Array) -> jax.Array:
            for a, b in adapters.get(path, ()):
                value = lora.added(value, a, b, scale)
            return partitioning.as_type(value, kinds[path])

        def load(at: str, described: Described, asked: Kinds) -> dict[str, jax.Array]:
            def kind(name: str, _: np.dtype) -> np.dtype | None:
                path = f"{at}/{name}"
                return read_as(path) if path in asked and path not in owners else None

            _, tree = described.load(inside(place, at), kind, lambda name, value: finish(f"{at}/{name}", value))
            return {f"{at}/{name}": value for name, value in flatten_dict(tree, sep="/").items()}

        def read(asked: Kinds) -> Params:
            found: dict[str, jax.Array] = {}
            for stage, step in steps.items():
                theirs = {path: read_as(path) for path in asked if owners.get(path) == stage}
                if theirs:
                    learned = flatten_dict(read_params(self._checkpoints(stage), place, theirs, step), sep="/")
                    found |= {path: finish(path, value) for path, value in learned.items()}
            for at, described in self.published.items():
                if any(path.startswith(f"{at}/") and path not in owners for path in asked):
                    found |= load(at, described, asked)
            lacking = {
                path: jax.ShapeDtypeStruct(shapes[path].shape, read_as(path)) for path in asked if path not in found
            }
            if lacking:
                parts = {path.partition("/")[0] for path in lacking}
                model, seed = self.model, self.settings.seed
                fresh = partitioning.made(
                    lambda: models.init(model, self.settings, self.known, seed, parts), lacking, self.mesh
                )
                found |= {path: finish(path, value) for path, value in fresh.items()}
            for path in sorted(apart & asked.keys()):
                layer, some = path.removesuffix("/kernel"), learned_beside.pop(path)
                beside = {A: [a for a, _ in some], B: [b * scale for _, b in some]}
                for name in (f"{layer}/{A}", f"{layer}/{B}"):
                    both = lora.together(name, beside[name.rpartition("/")[2]])
                    found[name] = jax.device_put(both, place(name, both.shape))
            return unflatten_dict(found, sep="/")

        return read

    def spent(self, params: Params, learned: Params) -> set[str]:
        """The parts whose adapters a stage trained and `read` leaves beside the kernels: these are read anew."""
        return {
            part for part, tree in params.items()
            if lora.has_adapters(learned.get(part, {}))
            and any(self._is_rounded(leaf.dtype) for leaf in jax.tree.leaves(tree))
        }  # fmt: skip

    def _is_rounded(self, kind: np.dtype) -> bool:
        """Whether a kernel of this type is used in less than float32."""
        return kind != FLOAT32 or self.settings.dtype != "float32"

    def _learned(
        self, kinds: Kinds, steps: Mapping[str, int]
    ) -> tuple[dict[str, str], dict[str, list[tuple[jax.Array, jax.Array]]]]:
        """Which stage's checkpoint, of these steps, has each parameter, of those that were trained themselves; and the
        adapters of each kernel since then.
        """
        place, owners = partitioning.placing(self.mesh), {}
        added: dict[str, list[tuple[str, str]]] = {}  # kernel -> (stage, adapter's place)
        for stage, step in steps.items():
            sizes = read_sizes_beside(self._checkpoints(stage), self.beside(stage), place, step)
            self._check(stage, sizes)
            for path in sizes:
                layer, _, leaf = path.rpartition("/")
                if leaf == A and f"{layer}/kernel" in kinds:
                    added.setdefault(f"{layer}/kernel", []).append((stage, layer))
                elif path in kinds:
                    owners[path] = stage
                    added.pop(path, None)
        adapters: dict[str, list[tuple[jax.Array, jax.Array]]] = {}
        for stage, step in steps.items():
            layers = [(kernel, layer) for kernel, some in added.items() for of, layer in some if of == stage]
            if layers:
                names = {f"{layer}/{leaf}": FLOAT32 for _, layer in layers for leaf in (A, B)}
                found = flatten_dict(read_params(self._checkpoints(stage), place, names, step), sep="/")
                for kernel, layer in layers:
                    pair = (found[f"{layer}/{A}"], found[f"{layer}/{B}"])
                    adapters.setdefault(kernel, []).append(pair)
        return owners, adapters

    def _check(self, stage: str, sizes: Mapping[str, int]) -> None:
        """Raises `SignerError` where a checkpoint has not what the stage trains: what lacks would be made afresh."""
        shapes = flatten_dict(self.shapes, sep="/")
        for path in self.for_stage(stage)[0]:
            if sizes.get(path) != shapes[path].size:
                has = "nothing" if path not in sizes else f"{sizes[path]} numbers"
                raise SignerError(
                    f"{self._checkpoints(stage)}: its checkpoint is of another model: it has {has} for {path}, this "
                    f"run's config makes {list(shapes[path].shape)}; restore the config.json that it was trained with"
                )

    def _checkpoints(self, stage: str) -> Path:
        return mirror.checkpoints(self.workdir) / stage


def _kernel_of(adapter: str) -> str:
    return f"{adapter.rpartition('/')[0]}/kernel"


def signing_dtype(settings: Settings) -> np.dtype:
    """The type in which the renderer lies while it signs and is evaluated.

    Where the config names none, published weights in the type that is computed in, which they are rounded to wherever
    they are used; what a run trained from nothing lies as it was trained.
    """
    c = settings.renderer
    return np.dtype(c.dtype or ("bfloat16" if c.init and settings.dtype == "bfloat16" else "float32"))
