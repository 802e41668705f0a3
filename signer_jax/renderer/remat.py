"""What a block's backward pass has of its forward pass: kept, kept in the host's memory, or computed again.

The names are `config.remat`'s. Attention of tokens to each other costs as much as all other matrix products of a block
at a video's length, and what it gives is one array `[b, l, h, d]`: of all but "full" it is kept. cuDNN's attention is
one operation that gives its backward pass more than that array, the logarithms of the softmax's sums: where it alone
were kept, the whole operation would run again for them.
"""

from collections.abc import Callable
from typing import Any

import jax
from flax import linen as nn
from jax.ad_checkpoint import Offloadable

from signer_jax.errors import SignerError
from signer_jax.renderer.attention import KEPT
from signer_jax.renderer.cudnn import FORWARD

_policies = jax.checkpoint_policies


def _by_cudnn(operation: Any, *arrays: Any, **_: Any) -> bool:
    """Whether it is cuDNN's attention, of tokens to each other or to more keys; jax gives its results no name."""
    return operation.name in FORWARD and arrays[1].shape[1] >= arrays[0].shape[1]


_HOST = {"offload_src": "device", "offload_dst": "pinned_host"}
_named_to_the_host = _policies.save_and_offload_only_these_names(
    names_which_can_be_saved=[], names_which_can_be_offloaded=[KEPT], **_HOST
)


def _to_the_host(operation: Any, *arrays: Any, **options: Any) -> Any:
    if _by_cudnn(operation, *arrays):
        return Offloadable(src=_HOST["offload_src"], dst=_HOST["offload_dst"])
    return _named_to_the_host(operation, *arrays, **options)


_attended = _policies.save_from_both_policies(_policies.save_only_these_names(KEPT), _by_cudnn)
POLICIES: dict[str, Callable[..., Any] | None] = {
    "none": None,  # all is kept
    "dots": _policies.save_from_both_policies(_policies.dots_saveable, _attended),
    # Products with weights: what lies between them is made again in less time than it takes to read it back.
    "dots_no_batch": _policies.save_from_both_policies(_policies.dots_with_no_batch_dims_saveable, _attended),
    "attention": _attended,
    "offload": _to_the_host,
    "full": _policies.nothing_saveable,
}  # fmt: skip


def again(name: str) -> bool:
    """Whether what has no such attention, or no choice, is computed again from its inputs."""
    return name in ("attention", "offload", "full")


def remat(module: type[nn.Module], name: str, *, prevent_cse: bool = True) -> Any:
    """The module, of which the backward pass has what the name says."""
    return module if name == "none" else nn.remat(module, prevent_cse=prevent_cse, policy=POLICIES[name])


def check_offload(name: str, device: Any) -> None:
    """Raises `SignerError` where the host's memory is to be used, and the device's platform has none to offer."""
    if name != "offload" or any(memory.kind == "pinned_host" for memory in device.addressable_memories()):
        return
    raise SignerError(
        f"config.remat 'offload': {device.platform} devices reach no memory of the host's here; choose 'attention'"
    )
