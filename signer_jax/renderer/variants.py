"""The Wan variants: a record each, plain values, and the only place that tells them apart.

A record says what a transformer's input channels are made of and in which order, whether it is told one noise level an
example or one a token, where the constants that normalise its latents come from, which noise levels it was trained on,
and what else it takes. Modules and stations read the record; none asks for a model's name.

Sizes and counts are those of the published weights (diffusers' config.json); a model of other sizes in the same layout
(a test's, or one that is trained from scratch) follows the same record, its latents as wide as its autoencoder's.
"""

from dataclasses import dataclass
from typing import Any, Literal

from signer_jax.errors import SignerError, closest

EXPERTS = ("high", "low")  # of the noise: the names that the parameters of a two-expert model have

SMALL_PIXELS = 600_000  # of a frame: between 480x832 and 720x1280, for which shifts are published

Stream = Literal["noise", "mask", "image", "control", "reference"]


@dataclass(frozen=True)
class Sizes:
    """Of the published transformer; heads of 128."""

    heads: int
    layers: int
    ffn_dim: int
    parameters: int  # of each expert


@dataclass(frozen=True)
class FaceBranch:
    """The sizes of Animate's face branch (`animate`)."""

    channels: tuple[int, ...]  # of the motion encoder, from the picture's size, halved each time, down to 4 pixels
    style_dim: int
    motion_dim: int  # directions
    motion_blocks: int  # linear layers
    motion_out: int  # width of a picture's vector
    hidden: int  # of the encoder in time, for each head
    heads: int  # face tokens a latent frame, but for one that is learned
    every: int  # blocks to an adapter, which stands after the first of them
    batch: int  # pictures that the motion encoder takes at once: memory, not numbers

    @property
    def size(self) -> int:
        """Pixels of the face's picture, square."""
        return 4 * 2 ** (len(self.channels) - 1)


@dataclass(frozen=True)
class Variant:
    """What distinguishes a Wan model from the others."""

    sizes: Sizes | None  # None where a config gives them
    latent_channels: int | None  # z of its autoencoder; None where that is the run's own
    spatial_ratio: int | None  # pixels a side of a latent; None likewise
    # The input channels in this order. noise: the latents to be made. mask: 1 where a frame of the image stream is
    # given, one channel a video frame of the latent frame. image: the latents of the given frames. control: the latents
    # of the control video. reference: those of one picture, the same in every frame.
    streams: tuple[Stream, ...]
    time: Literal["example", "token"]  # what has a noise level of its own
    constants: Literal["vae", "corpus"]  # whose mean and deviation normalise latents
    shift: float  # of the noise levels, where the config has none (`shift_at`)
    frames: int | None  # video frames of a segment; None where a config gives them
    text: Literal["encoder", "slul"]  # whose states the cross attention reads
    text_rows: int | None  # zeros past the text's end; None: as many as the run's sentences have
    text_dim: int | None
    clip_dim: int | None = None  # width of CLIP's tokens of the reference
    front: bool = False  # the reference is one more latent frame in front of the video, and not part of it
    first: bool = False  # the reference is the video's first frame, and part of it
    rest: Literal["grey", "zeros"] = "grey"  # after it in the image stream: latents of grey pictures, or nothing
    continues: tuple[int, ...] = ()  # last frames that a further segment may go on from; none: it goes on from nothing
    pose: Literal["branch", "tokens", "channels"] = "branch"  # how it takes the pose: ControlNeXt, Animate, Fun-Control
    threshold: float = 0.3  # confidence below which a joint is not drawn
    face: FaceBranch | None = None
    shift_480p: float | None = None  # that of small videos, where another one is published for them
    fps: float | None = None  # frames a second of the videos that it was trained on; None where a config gives them
    guidance: float = 1.0  # of the text, as it is published; 1: none
    guidance_low: float | None = None  # of the expert of low noise, where that is another
    boundary: float | None = None  # two experts: the first has σ in [boundary, 1], the second σ in [0, boundary)

    def channels(self, latents: int, ratio: int) -> int:
        """The transformer's input channels, for latents of this width and `ratio` video frames a latent frame."""
        return sum(ratio if stream == "mask" else latents for stream in self.streams)

    @property
    def takes_picture(self) -> bool:
        """Whether a picture of the signer says what the video looks like."""
        return self.front or self.first or "reference" in self.streams

    def shift_at(self, size: tuple[int, int]) -> float:
        """The published shift of the noise levels for videos of this height and width."""
        small = size[0] * size[1] < SMALL_PIXELS
        return self.shift if self.shift_480p is None or not small else self.shift_480p

    @property
    def experts(self) -> tuple[str, ...]:
        """The names of the experts; none where one transformer does all."""
        return () if self.boundary is None else EXPERTS


def _published(sizes: Sizes, **changes: Any) -> Variant:
    """Wan's common part: text to video, with the autoencoder of 2.1."""
    common: dict[str, Any] = {
        "latent_channels": 16, "spatial_ratio": 8, "streams": ("noise",), "time": "example", "constants": "vae",
        "shift": 5.0, "frames": 81, "text": "encoder", "text_rows": 512, "text_dim": 4096, "fps": 16.0, "guidance": 5.0,
    }  # fmt: skip
    return Variant(sizes, **common | changes)


def _sizes_14b(parameters: int) -> Sizes:
    return Sizes(heads=40, layers=40, ffn_dim=13824, parameters=parameters)


_IMAGE: tuple[Stream, ...] = ("noise", "mask", "image")
_CONTROL: dict[str, Any] = {"streams": ("noise", "control", "mask", "image"), "pose": "channels", "guidance": 6.0}
# Wan 2.1 is sampled with shift 5 at 720p and 3 at 480p; 2.2 with one shift for all sizes.
_BY_SIZE: dict[str, Any] = {"shift_480p": 3.0}
# Frame rates and guidance are `sample_fps` and `sample_guide_scale` of each model's own config (wan/configs of
# github.com/Wan-Video/Wan2.1 and Wan2.2; Fun-Control: examples/wan2.1_fun, examples/wan2.2_fun and config/wan2.2 of
# github.com/aigc-apps/VideoX-Fun, whose pipeline_wan2_2_fun_control.py says the order of the channels).
_FIRST: dict[str, Any] = {"first": True, "continues": (1,)}
_FACE = FaceBranch(
    channels=(32, 64, 128, 256, 512, 512, 512, 512), style_dim=512, motion_dim=20, motion_blocks=5, motion_out=512,
    hidden=1024, heads=4, every=5, batch=8,
)  # fmt: skip

VARIANTS: dict[str, Variant] = {
    # The renderer of this project's own runs, of any size, from scratch: latents as its corpus has them, SLUL's
    # features for text, the signer's picture in every frame.
    "own": Variant(
        None, None, None, ("noise", "reference"), "example", "corpus", shift=3.0, frames=None, text="slul",
        text_rows=None, text_dim=None,
    ),
    "wan2.1-t2v-1.3b": _published(Sizes(12, 30, 8960, 1_418_996_800), shift=3.0),
    "wan2.1-t2v-14b": _published(_sizes_14b(14_288_491_584), **_BY_SIZE),
    "wan2.1-i2v-14b": _published(_sizes_14b(16_394_878_784), streams=_IMAGE, clip_dim=1280, **_BY_SIZE, **_FIRST),
    "wan2.1-fun-control-14b": _published(
        _sizes_14b(16_395_124_544), streams=("noise", "control", "image"), clip_dim=1280, rest="zeros",
        pose="channels", guidance=6.0, **_BY_SIZE, **_FIRST,
    ),
    "wan2.2-t2v-a14b": _published(
        _sizes_14b(14_288_491_584), shift=12.0, boundary=0.875, guidance=4.0, guidance_low=3.0
    ),
    "wan2.2-i2v-a14b": _published(_sizes_14b(14_288_901_184), streams=_IMAGE, boundary=0.9, guidance=3.5, **_FIRST),
    "wan2.2-ti2v-5b": _published(
        Sizes(24, 30, 14336, 4_999_787_712), latent_channels=48, spatial_ratio=16, time="token", frames=121,
        fps=24.0, **_FIRST,
    ),
    # Fun-Control of 2.2 has I2V's mask and grey frames behind the picture, and no CLIP.
    "wan2.2-fun-control-a14b": _published(_sizes_14b(14_289_228_864), boundary=0.9, **_CONTROL, **_FIRST),
    "wan2.2-fun-control-5b": _published(
        Sizes(24, 30, 14336, 5_001_016_512), latent_channels=48, spatial_ratio=16, time="token", frames=121,
        fps=24.0, **_CONTROL, **_FIRST,
    ),
    "wan2.2-animate-14b": _published(
        _sizes_14b(17_274_816_884), streams=_IMAGE, clip_dim=1280, front=True, frames=77, pose="tokens", threshold=0.5,
        face=_FACE, continues=(1, 5), fps=30.0, guidance=1.0,
    ),
}  # fmt: skip


def find(name: str) -> Variant:
    """The record of a variant. Raises `SignerError` for an unknown name."""
    if name not in VARIANTS:
        raise SignerError(
            f"config.renderer.variant {name!r}: unknown{closest(name, VARIANTS)}; known: {', '.join(VARIANTS)}"
        )
    return VARIANTS[name]


def frames_of(latent_frames: int, ratio: int) -> int:
    """The video frames that so many latent frames cover."""
    return ratio * (latent_frames - 1) + 1


def frames_fault(frames: int, ratio: int) -> str:
    """What is wrong with a video's length, in words that name the nearest right ones; empty where nothing is."""
    if (frames - 1) % ratio == 0:
        return ""
    below = frames_of((frames - 1) // ratio + 1, ratio)
    return f"must be {ratio}n + 1 frames (the autoencoder's); the nearest are {below} and {below + ratio}"


def overlap_fault(shared: int, window: int, ratio: int) -> str:
    """What is wrong with the frames that blended windows of `window` frames share; empty where nothing is."""
    if shared % ratio == 0 and 2 * shared <= window + ratio - 1:
        return ""
    most = (window + ratio - 1) // (2 * ratio) * ratio
    return f"must be a multiple of {ratio} (vae in time), at most half of config.renderer.window {window}: 0 to {most}"
