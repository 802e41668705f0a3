"""Calls beside each other give what calls after each other do."""

import os
import subprocess
import sys
import threading

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import QUICK

from signer_jax.beside import beside

# In a process of its own: these tests have eight devices, over which calls follow each other.
ON_ONE_DEVICE = """
import threading
import jax, jax.numpy as jnp, numpy as np
from signer_jax.beside import beside
assert jax.device_count() == 1
traced, threads, both = [], set(), threading.Barrier(2, timeout=60)
mesh = jax.make_mesh((1,), ("data",), axis_types=(jax.sharding.AxisType.Auto,))
@jax.jit
def program(x):
    traced.append(jax.sharding.get_abstract_mesh())
    return jnp.sin(x).sum()
def call(k):
    threads.add(threading.get_ident())
    if k:
        both.wait()  # two are under way at once, or this fails
    return float(program(np.full(8, k, np.float32)))
with jax.sharding.use_abstract_mesh(mesh.abstract_mesh):
    made = list(beside(call, range(9)))
assert np.allclose(made, [8 * np.sin(k) for k in range(9)]), made
assert len(traced) == 1 and traced[0] == mesh.abstract_mesh, traced
assert len(threads) == 3, threads
outside = list(beside(call, range(9)))
assert outside == made and len(traced) == 2, traced  # on no mesh: once more, and no oftener
def fails(k):
    if k == 5:
        raise ValueError("five")
    return k
seen = []
try:
    for k in beside(fails, range(9)):
        seen.append(k)
except ValueError as error:
    assert str(error) == "five"
assert seen == [0, 1, 2, 3, 4], seen
assert list(beside(call, [])) == []
"""

OF_A_RUN = """
import sys
from pathlib import Path
import jax, numpy as np
from signer_jax.pipeline import Signer
from signer_jax.stations import render
from signer_jax.stations.studio import ROWS
from signer_jax.training import input_pipeline, latents
assert jax.device_count() == 1
folder, out = Path(sys.argv[1]), Path(sys.argv[2])
signer = Signer.load(folder)
pose, studio = signer.corpus.motions("train")[0].pose, signer.studio
poses = [pose] * (1 + 3 * ROWS * studio.window // len(pose))
windows = input_pipeline.motion_windows(signer.settings, folder, signer.corpus, None, signer.model, experts=False)
made = {}
for how in ("beside", "map"):
    calls = []
    for module in (render, latents):
        plain = module.beside
        module.beside = lambda call, items: (calls.append(how), (plain if how == "beside" else map)(call, items))[1]
    filmed = render.render_many(poses, [render.style(studio)] * len(poses), None, None, studio)
    film = np.concatenate([one.video for one in filmed])
    store = latents.prepare(
        out / how, signer.corpus, windows, signer.model.vae, signer.params["vae"], window=3, stride=2, references=4,
        batch=2,
    )
    made[how] = film, *(np.asarray(bank.latents) for bank in store.banks.values())
    assert calls == [how, how], calls
    for module in (render, latents):
        module.beside = plain
for one, other in zip(made["beside"], made["map"], strict=True):
    assert np.array_equal(one, other)
"""


def on_one_device(code: str, *arguments) -> None:
    environment = {**os.environ, "JAX_PLATFORMS": "cpu", "XLA_FLAGS": QUICK, "JAX_NUM_CPU_DEVICES": "1"}
    command = [sys.executable, "-c", code, *map(str, arguments)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]


@pytest.mark.skipif((os.cpu_count() or 1) < 2, reason="needs two cores")
def test_on_one_device_two_calls_are_under_way_at_once():
    on_one_device(ON_ONE_DEVICE)


def test_a_run_films_and_encodes_the_same_bits_two_at_a_time(tiny_run, tmp_path):
    on_one_device(OF_A_RUN, tiny_run, tmp_path)


def test_over_several_devices_they_follow_each_other():
    assert jax.device_count() > 1
    threads = set()

    def call(k):
        threads.add(threading.get_ident())
        return np.asarray(jnp.square(k))

    assert list(beside(call, range(6))) == [k * k for k in range(6)]
    assert threads == {threading.get_ident()}
