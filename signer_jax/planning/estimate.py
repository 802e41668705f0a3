"""How long a step takes at least: the roofline of products, memory and links, at the makers' figures."""

from typing import NamedTuple

from signer_jax.chips import Chip

# Beside such a bound: Wan 1.3B, 480×832×81, `remat` attention (docs/performance.md).
MEASURED = "of Wan 1.3B on one H200, where at least 1.05 s were found, a step took 2.04 s, MFU 42%"


class Estimate(NamedTuple):
    """Seconds of a step, by what it waits for if it did nothing else, at the chip's full figures."""

    products: float
    memory: float
    links: float

    @property
    def least(self) -> float:
        """Where all three overlap: no step is shorter, and none was seen that reaches it (`MEASURED`)."""
        return max(self)

    @property
    def bound(self) -> str:
        """What it waits for most."""
        names = {"products": self.products, "memory": self.memory, "links": self.links}
        return max(names, key=lambda name: names[name])


def estimate(chip: Chip, flops: float, touched: float, sent: float, near: float = 0.0) -> Estimate | None:
    """Of FLOPs and bytes of one chip and step; None where the chip's figures are not known.

    `near`: how many of the bytes that are sent stay within a node.
    """
    if not chip.flops:
        return None
    links = (sent - near) / chip.link + near / (chip.near or chip.link)
    return Estimate(flops / chip.flops, touched / chip.bandwidth, links)


def utilisation(chip: Chip, needed: float, seconds: float) -> float:
    """MFU: the share of the peak that the FLOPs that the model needs of a chip are, in a step of so many seconds."""
    return needed / (chip.flops * seconds)
