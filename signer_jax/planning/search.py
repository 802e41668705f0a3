"""Other meshes, batches and remat policies for a stage: tried one by one, most promising first, and ranked."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, replace
from typing import Any

from signer_jax.chips import Topology
from signer_jax.errors import SignerError
from signer_jax.layout import AXES
from signer_jax.planning import weightless
from signer_jax.planning.plan import Plan, gib, plan, verdict
from signer_jax.planning.steps import mesh_on
from signer_jax.renderer.remat import POLICIES, again
from signer_jax.settings import Mesh, Settings
from signer_jax.training.partitioning import mesh_sizes
from signer_jax.validation import RENDERS

_WIDEST = 8  # ways of an axis that splits what a layer computes: beyond it little is left to compute between its sums
_POLICIES = ("dots_no_batch", "attention")  # what a model without a video's tokens can do: nothing again, or all
_ROWS = (1, 2, 4, 8)  # of a batch for each group of chips that shares it


def search(
    stage: str, settings: Settings, topology: Topology, devices: list | None, *, most: int, say: Callable[[str], None]
) -> list[Plan]:
    """At most `most` plans of a stage, the config's own first; no larger batch where a smaller one does not fit.

    Raises `SignerError` where nothing that was tried can be.
    """
    found: list[Plan] = []
    refused: list[SignerError] = []
    full: set[tuple] = set()  # meshes and remat whose memory is full
    seen: set[tuple] = set()
    barred: set[tuple] = set()  # meshes and batches that cannot be
    for mesh, rows, remat in _candidates(stage, settings, topology):
        key, size = (tuple(mesh.items()), remat), (tuple(mesh.items()), rows)
        if len(found) == most or key in full or size in barred or (*key, rows) in seen:
            continue
        seen.add((*key, rows))
        changed = _changed(settings, stage, mesh, rows, remat)
        try:
            one = plan(stage, changed, topology, weightless.described(changed), mesh_on(changed, topology, devices))
        except SignerError as error:  # a mesh that the torus does not have, a batch that does not divide, …
            refused.append(error)
            barred.add(size)
            say(f"{_named(mesh, rows, remat)}: {error}")
            continue
        found.append(one)
        say(f"{len(found)} of {most}: {_named(mesh, rows, remat)}: {verdict(one)}{_speed(one)}")
        if not one.fits:
            full.add(key)
    if not found:
        raise SignerError(
            f"--search: stage {stage!r} on {topology.name}: none of what was tried can be; the first: {refused[0]}"
        )
    return found


def ranking(plans: Sequence[Plan]) -> list[str]:
    """What fits, by the least time that a row of the batch takes; then how many do not."""
    fit = sorted((one for one in plans if one.fits), key=_seconds_a_row)
    lines = [f"stage {plans[0].stage} on {plans[0].topology}: {len(fit)} of {len(plans)} tried fit"]
    for place, one in enumerate(fit, 1):
        mesh = {name: size for name, size in one.mesh.items() if size > 1} or one.mesh
        flags = " ".join(f"--config.mesh.{name}={size}" for name, size in one.mesh.items())
        lines.append(f"  {place}. {mesh} batch {one.rows}, remat {one.remat}: {gib(one.total)} GiB{_speed(one)}")
        if place == 1:
            lines.append(f"     {flags} --config.train.{one.stage}.batch={one.rows} --config.remat={one.remat}")
    return lines


def _seconds_a_row(one: Plan) -> float:
    found = one.estimate
    return found.least / one.rows if found else one.computed * 1e-15 / one.rows


def _speed(one: Plan) -> str:
    return f", {one.rows / one.estimate.least:.3g} examples/s at most" if one.estimate else ""


def _named(mesh: dict[str, int], rows: int, remat: str) -> str:
    sizes = " × ".join(f"{name} {size}" for name, size in mesh.items() if size > 1) or "one chip"
    return f"{sizes}, batch {rows}, remat {remat}"


def _candidates(stage: str, settings: Settings, topology: Topology) -> Iterator[tuple[dict[str, int], int, str]]:
    own = dict(zip(AXES, mesh_sizes(asdict(settings.mesh), topology.size), strict=True))
    policies = [name for name in (POLICIES if stage in RENDERS else _POLICIES) if name != settings.remat]
    for remat in (settings.remat, *policies):
        yield own, settings.stage(stage).batch, remat
    accumulate = settings.stage(stage).accumulate
    batched, divided = _meshes(own, topology.size, topology.slices)
    other = _POLICIES[not again(settings.remat)]
    ways = (
        (batched[:2], _ROWS, settings.remat),
        (batched[:2], _ROWS, other),
        (batched[2:], _ROWS, settings.remat),
        (divided, _ROWS[:1], settings.remat),
        (divided, _ROWS[:1], other),
        (batched[2:], _ROWS, other),
        (divided, _ROWS[1:], settings.remat),
    )
    for meshes, batches, remat in ways:
        for rows in batches:
            for mesh in meshes:
                yield mesh, rows * accumulate * mesh["data"] * mesh["fsdp"], remat


def _meshes(own: dict[str, int], size: int, slices: int) -> tuple[list[dict[str, int]], list[dict[str, int]]]:
    """The config's and those that split the batch, with parameters or without; a few that split a layer's work. Of
    several slices the first of them have a copy of the parameters each.
    """
    one = dict.fromkeys(AXES, 1)
    batched = [own]
    for n in (slices, 1, 2, 4, size):
        mesh = one | {"data": n, "fsdp": size // n}
        if size % n == 0 and mesh not in batched:
            batched.append(mesh)
    divided = [
        one | {"data": slices, "fsdp": size // slices // n, axis: n}
        for axis in AXES if axis not in ("data", "fsdp")
        for n in (2, 4, _WIDEST) if size // slices % n == 0
    ]  # fmt: skip
    return batched, [mesh for mesh in divided if mesh not in batched]


def _changed(settings: Settings, stage: str, mesh: dict[str, int], rows: int, remat: str) -> Settings:
    training: Any = replace(settings.stage(stage), batch=rows)  # of the stage's own kind
    return replace(settings, mesh=Mesh(**mesh), remat=remat, train=replace(settings.train, **{stage: training}))
