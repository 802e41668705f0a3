"""The peak memory of drawing control pictures and of their gradient, each in a process of its own.

python tests/benchmarks/drawing.py [--frames 81] [--height 480] [--width 832]

Prints, a drawing a line: megabytes that the pictures themselves take, that the process takes at most beyond what it
took before (forward; with the gradient), and seconds a frame of the gradient.
"""

import argparse
import json
import resource
import subprocess
import sys
import time


def measure(kind: str, what: str, shape: tuple[int, int, int]) -> dict:
    """Peak resident memory of one drawing of random poses, after its compilation."""
    import jax
    import jax.numpy as jnp
    import numpy as np

    from signer_jax.pose import skeleton
    from signer_jax.pose.rasterise import rasterise
    from signer_jax.renderer import pose_picture

    frames, size = shape[0], shape[1:]
    joints = skeleton.SUBSETS["signing_74"]
    pose = np.random.default_rng(0).normal(0, 0.5, (1, frames, len(joints), 2)).astype(np.float32)
    seen = np.ones(pose.shape[:3], np.float32)
    groups, shapes = skeleton.limb_groups(joints), pose_picture.shapes(joints, face=True)

    def draw(pose: jax.Array) -> jax.Array:
        if kind == "limbs":
            return jnp.asarray(rasterise(pose, seen, groups, size, softness=0.7))
        return pose_picture.draw(pose, seen, shapes, size, threshold=0.3, softness=0.7)

    one = jax.jit(draw if what == "forward" else jax.grad(lambda pose: jnp.square(draw(pose)).mean()))
    run = one.lower(pose).compile()  # what compiling takes is not counted
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    start = time.perf_counter()
    jax.block_until_ready(run(pose))
    seconds = time.perf_counter() - start
    channels = len(groups) if kind == "limbs" else 3
    return {
        "pictures": 4 * channels * frames * size[0] * size[1] / 1e6,
        "peak": (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024 / 1e6,
        "seconds": seconds / frames,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    for name, default in (("frames", 81), ("height", 480), ("width", 832)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--one", nargs=2, metavar=("KIND", "WHAT"), help="measure in this process")
    given = parser.parse_args()
    shape = (given.frames, given.height, given.width)
    if given.one:
        print(json.dumps(measure(*given.one, shape)))
        return
    for kind in ("limbs", "dwpose"):
        sides = [f"--{name}={value}" for name, value in zip(("frames", "height", "width"), shape, strict=True)]
        found = {}
        for what in ("forward", "gradient"):
            command = [sys.executable, __file__, *sides, "--one", kind, what]
            found[what] = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
        forward, gradient = found["forward"], found["gradient"]
        print(
            f"{kind}: pictures {forward['pictures']:.0f} MB, forward {forward['peak']:.0f} MB, with the gradient "
            f"{gradient['peak']:.0f} MB, {gradient['seconds']:.2f} s a frame"
        )


if __name__ == "__main__":
    main()
