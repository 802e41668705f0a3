"""What a stage's step takes on a topology, and whether it fits: compiled for it, or by arithmetic alone (GPUs)."""

from dataclasses import dataclass, field, replace
from typing import Any

from signer_jax.chips import CPU, TPUS, Chip, GiB, Topology
from signer_jax.planning import arithmetic, compiled, steps
from signer_jax.planning.estimate import MEASURED, Estimate, estimate, utilisation
from signer_jax.planning.steps import AnyMesh, Step
from signer_jax.planning.weightless import Described
from signer_jax.settings import Settings
from signer_jax.training import compiled_step


@dataclass(frozen=True)
class Plan:
    """Bytes, FLOPs and seconds are of one chip and one step, but for `rows` and `parameters`."""

    stage: str
    topology: str
    mesh: dict[str, int]
    rows: int  # of the global batch
    remat: str  # what is computed again
    parameters: int  # of all parts, and those that train
    trained: int
    method: str  # compiled | arithmetic
    memory: dict[str, int]  # by kind
    total: int
    limit: int  # 0 where nothing is known
    needed: float  # FLOPs of the model
    computed: float  # of the program; 0 where the compiler found no room
    moved: dict[str, float]  # bytes by kind of collective: what it gives back
    arrays: dict[str, dict[str, float]]  # of each kind: how often an array of each shape
    sent: float  # bytes that go over the links
    near: float  # of them, those within a node of GPUs or a slice of TPUs, where there are several
    touched: float  # bytes read and written in memory
    whole: dict[str, int]  # large arrays that no axis splits
    largest: tuple[str, ...]  # of the temporaries, where the compiler found no room
    compile_seconds: float
    chip: Chip
    host: int = 0  # bytes in the host's memory, for each chip
    assumed: tuple[str, ...] = field(default=())
    saved: compiled_step.Saved | None = None  # the program, where it was to be kept and there is one

    @property
    def fits(self) -> bool:
        return not self.limit or self.total <= self.limit

    @property
    def ratio(self) -> float:
        return self.computed / self.needed if self.needed else 0.0

    @property
    def estimate(self) -> Estimate | None:
        return estimate(self.chip, self.computed, self.touched, self.sent, self.near) if self.computed else None

    def figures(self) -> dict[str, Any]:
        """For a file."""
        found = self.estimate
        times = {} if found is None else {
            "products_seconds": found.products, "memory_seconds": found.memory, "links_seconds": found.links,
            "least_seconds": found.least, "bound": found.bound,
            "mfu_most": utilisation(self.chip, self.needed, found.least),
        }  # fmt: skip
        return {
            "stage": self.stage, "topology": self.topology, "mesh": self.mesh, "batch": self.rows, "remat": self.remat,
            "parameters": self.parameters, "trained_parameters": self.trained, "method": self.method,
            "fits": self.fits, "memory_bytes": self.memory, "total_bytes": self.total, "limit_bytes": self.limit,
            "host_bytes": self.host,
            "model_flops": self.needed, "compiled_flops": self.computed, "ratio": self.ratio,
            "collective_bytes": self.moved, "collective_arrays": self.arrays, "sent_bytes": self.sent,
            "near_bytes": self.near, "touched_bytes": self.touched,
            "whole_bytes": self.whole, "largest": list(self.largest), "compile_seconds": self.compile_seconds,
            "peak": {"flops": self.chip.flops, "memory": self.chip.bandwidth, "links": self.chip.link},
            "estimate": times, "assumed": list(self.assumed),
        }  # fmt: skip


def plan(
    name: str, settings: Settings, topology: Topology, described: Described, mesh: AnyMesh, *, keep: bool = False
) -> Plan:
    """`keep`: the compiled program too. Raises `SignerError` as `steps.make`."""
    step = steps.make(name, settings, described, mesh)
    found = _known(step, topology, described, settings.remat)
    if not (topology.tpu or topology.kind == CPU):
        return _by_arithmetic(found, step)
    return _compiled(found, step, topology, keep)


def _known(step: Step, topology: Topology, described: Described, remat: str) -> Plan:
    """Without what only the program says."""
    memory = {name: size for name, size in steps.by_kind(step).items() if size}
    return Plan(
        stage=step.stage.name, topology=topology.name, mesh=dict(step.mesh.shape), rows=step.rows, remat=remat,
        parameters=steps.numbers(described.params), trained=steps.numbers(step.state.params), method="",
        memory=memory, total=sum(memory.values()), limit=int(topology.chip.memory),
        needed=step.needed / step.mesh.size, computed=0.0, moved={}, arrays={}, sent=0.0, near=0.0, touched=0.0,
        whole=steps.whole(step), largest=(), compile_seconds=0.0, chip=topology.chip, assumed=described.assumed,
        host=steps.in_host(step),
    )  # fmt: skip


def _compiled(found: Plan, step: Step, topology: Topology, keep: bool) -> Plan:
    made = compiled.of(step, topology, keep=keep)
    if made.too_large:
        total = max(made.too_large + found.total, found.limit + 1)
        memory = found.memory | {"temporaries": total - found.total}
        largest = made.largest or arithmetic.largest(step)  # what the compiler says, or what is written
        return replace(
            found, method="compiled", memory=memory, total=total, largest=largest, compile_seconds=made.seconds
        )
    more = {
        "padding to tiles": made.padding, "temporaries": made.temporaries, "results not in place": made.results,
        "program": made.code,
    }  # fmt: skip
    memory = found.memory | {name: size for name, size in more.items() if size}
    cost = made.cost
    return replace(
        found, method="compiled", memory=memory, total=sum(memory.values()), computed=cost.flops, moved=cost.bytes,
        arrays=cost.arrays, sent=cost.sent + cost.far, near=cost.sent if found.chip.near else 0.0,
        touched=cost.touched, compile_seconds=made.seconds, saved=made.saved,
    )  # fmt: skip


def _by_arithmetic(found: Plan, step: Step) -> Plan:
    made = arithmetic.of(step)
    # What the host has is fetched for the update, when there are no activations any more.
    memory = found.memory | {"gradients": made.gradients, "activations": max(made.activations, found.host)}
    return replace(
        found, method="arithmetic", memory=memory, total=sum(memory.values()), computed=made.flops, moved=made.moved,
        sent=made.sent, near=made.near if found.chip.near else 0.0, touched=made.touched,
    )  # fmt: skip


# ---- In words --------------------------------------------------------------------------------------------------------


def gib(size: float) -> str:
    return f"{size / GiB:.1f}" if size >= GiB / 20 else f"{size / GiB:.3f}"


def verdict(plan: Plan) -> str:
    """In one line."""
    if not plan.limit:
        return f"takes {gib(plan.total)} GiB a device; how much a {plan.topology.partition(':')[0]} has is not known"
    if plan.fits:
        return f"fits, {gib(plan.total)} of {gib(plan.limit)} GiB a chip"
    most = max(plan.memory, key=lambda kind: plan.memory[kind])
    by = f"; most of it {most}, {gib(plan.memory[most])} GiB" if plan.memory[most] > plan.total / 3 else ""
    return f"does not fit: {gib(plan.total)} of {gib(plan.limit)} GiB a chip{by}"


def lines(plan: Plan) -> list[str]:
    """For people."""
    mesh = " × ".join(f"{name} {size}" for name, size in plan.mesh.items() if size > 1) or "one chip"
    how = f"compiled in {plan.compile_seconds:.0f} s" if plan.method == "compiled" else (
        "by arithmetic, not compiled: activations as XLA would keep them at best, no padding, no fragments"
        + (", whole along tensor" if plan.mesh["tensor"] > 1 else "")
    )  # fmt: skip
    found = [
        f"stage {plan.stage} on {plan.topology}, {mesh}, batch {plan.rows} ({how})",
        f"  parameters           {plan.parameters / 1e9:.3f} billion, of which {plan.trained / 1e9:.3f} train",
    ]
    found += [f"  memory a chip, GiB   {gib(size):>8}  {kind}" for kind, size in plan.memory.items()]
    found.append(f"  {'':<20} {gib(plan.total):>8}  in all" + (f", of {gib(plan.limit)}" if plan.limit else ""))
    if plan.host:
        found.append(f"  memory of the host   {gib(plan.host):>8}  optimizer state, for each chip")
    if plan.computed:
        found.append(
            f"  TFLOP a chip         {plan.computed / 1e12:.3g} {_done(plan)}, {plan.needed / 1e12:.3g} the model's: "
            f"{plan.ratio:.2f} times"
        )
        moved = ", ".join(f"{kind} {size / 1e9:.2f}" for kind, size in sorted(plan.moved.items(), key=lambda x: -x[1]))
        found.append(f"  collectives, GB      {moved or 'none'}")
    for name, size in sorted(plan.whole.items(), key=lambda pair: -pair[1])[:8]:
        found.append(f"  whole on every chip  {size / 1e9:.2f} GB  {name}")
    if len(plan.whole) > 8:
        found.append(f"  whole on every chip  {len(plan.whole) - 8} others beyond {steps.LARGE // 10**6} MB")
    found += [f"  largest              {line}" for line in plan.largest]
    found += _times(plan)
    found += [f"  assumed              {line}" for line in plan.assumed]
    return [*found, f"  {verdict(plan)}"]


def _done(plan: Plan) -> str:
    return "compiled" if plan.method == "compiled" else "run"


def _times(plan: Plan) -> list[str]:
    found, chip = plan.estimate, plan.chip
    if found is None:
        return []
    share = utilisation(chip, plan.needed, found.least)
    return [
        f"  a step, at least     {found.least:.3g} s, MFU at most {share:.0%}; at peak rates, {found.bound} decide",
        f"    measured           {MEASURED}",
        f"    products           {found.products:.3g} s at {chip.flops / 1e12:.0f} TFLOP/s (bfloat16 peak)",
        f"    memory             {found.memory:.3g} s: {plan.touched / 1e9:.3g} GB at {chip.bandwidth / 1e9:.0f} GB/s",
        f"    links              {found.links:.3g} s one way: {_links(plan)}",
    ]


def _links(plan: Plan) -> str:
    chip, tpu = plan.chip, plan.topology.partition(":")[0].rpartition("x")[2] in TPUS
    far = f"{(plan.sent - plan.near) / 1e9:.3g} GB at {chip.link / 1e9:.3g} GB/s"
    near = f"{plan.near / 1e9:.3g} GB at {chip.near / 1e9:.3g} GB/s within"
    torus = "if all of a chip's links are at work (those of one axis of the torus have a share of it)"
    if tpu:
        return f"{far} between slices, {near} them, {torus}" if chip.near else f"{far}, {torus}"
    return f"{far}, {near} nodes" if plan.near else far
