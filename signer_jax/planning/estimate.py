"""How long a step takes at least: the roofline of products, memory and links."""

from typing import NamedTuple

from signer_jax.chips import Chip


class Estimate(NamedTuple):
    """Seconds of a step, by what it waits for if it did nothing else, at the chip's full figures."""

    products: float
    memory: float
    links: float

    @property
    def least(self) -> float:
        """Where all three overlap: no step is shorter."""
        return max(self)

    @property
    def most(self) -> float:
        """Where none of them does. A step may still be longer: no product reaches a chip's peak."""
        return sum(self)

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
