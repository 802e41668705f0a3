"""A config to settings: every key there, every value one that its field takes, and all of them going together.

Before a run claims its folder, so that a mistake costs one line and no folder.
"""

from collections.abc import Iterable
from dataclasses import fields, is_dataclass, replace
from typing import Any, get_type_hints

from signer_jax.errors import SignerError, closest
from signer_jax.pose import skeleton
from signer_jax.ranges import nearest, range_of
from signer_jax.renderer.variants import VARIANTS, frames_fault, overlap_fault
from signer_jax.settings import Rendering, Settings, flatten, known

RENDERS = frozenset({"images", "renderer", "joint"})  # stages that train the renderer


def read(config: Any) -> Settings:
    """The settings of a config (a ConfigDict, or a dict of dicts).

    Raises `SignerError` for a key that is missing or unknown, the first value that its field does not take, or one that
    does not fit another.
    """
    check_keys(config, "config")
    settings = _with_variant(_read(Settings, config, "config"))
    for message in _misfits(settings):
        raise SignerError(message)
    return settings


def _with_variant(settings: Settings) -> Settings:
    """With the variant's own length, shift and overlap where the config leaves them to it (0)."""
    c = settings.renderer
    variant = VARIANTS[c.variant]
    window, overlap = c.window or variant.frames or 0, c.overlap or next(iter(variant.continues), 0)
    shift = c.shift or variant.shift_at(settings.data.size)
    return replace(settings, renderer=replace(c, window=window, shift=shift, overlap=overlap))


def check_keys(config: Any, where: str) -> None:
    """Raises `SignerError` unless a config has the settings' keys, neither more (a typo makes a new one) nor fewer."""
    keys, found = known(), flatten(config)
    if extra := [name for name in found if name not in keys]:
        raise SignerError(f"{where}: the config sets an unknown key {extra[0]!r}{closest(extra[0], keys)}")
    if missing := [name for name in keys if name not in found]:
        raise SignerError(f"{where}: the config lacks {missing[0]!r}; start from shipped('default')")


def _read(hint: Any, value: Any, name: str) -> Any:
    if isinstance(hint, type) and is_dataclass(hint):
        hints = get_type_hints(hint, include_extras=True)
        return hint(**{field.name: _read(hints[field.name], value[field.name], f"{name}.{field.name}")
                       for field in fields(hint)})  # fmt: skip
    value = tuple(value) if isinstance(value, list) else value
    if value is None and name.endswith((".init", "_encoder")):  # a config's placeholder
        kind = "t5" if name == "config.slul.init" else "wan"
        raise SignerError(f"{name} is not set; set {name} to a folder made by signer import {kind}, --{name}=FOLDER")
    row = range_of(hint)
    if not row.holds(value):
        raise SignerError(f"{name} is {value!r}: it must be {row.words}{row.near(value)}")
    plain, value = getattr(hint, "__origin__", hint), row.read(value)  # the type that is annotated
    return float(value) if plain is float else value


def size_fault(size: tuple[int, int], unit: int, why: str) -> Iterable[str]:
    """What is to be said where a side of `config.data.size` is no multiple of `unit`, with the nearest that are."""
    if any(side % unit for side in size):
        wrong = [f"{name} {nearest(side, unit)}" for name, side in zip(("height", "width"), size, strict=True)
                 if side % unit]  # fmt: skip
        yield f"config.data.size {size[0]},{size[1]}: must be multiples of {unit} ({why}): {', '.join(wrong)}"


def _misfits(settings: Settings) -> Iterable[str]:
    """One message for each group of values that do not go together, of the stages that the config trains."""
    stages, vae, renderer = settings.stages, settings.vae, settings.renderer
    if "vae" in stages and not vae.init and len(vae.temporal_downsample) != len(vae.dim_mult) - 1:
        yield (
            f"config.vae.temporal_downsample {vae.temporal_downsample}: give one entry for each level of "
            f"config.vae.dim_mult {vae.dim_mult} but the last"
        )
    augment = settings.data.augment
    changed = any((augment.mirror, augment.turn, augment.grow, augment.shift, augment.colour))  # a copy keeps its speed
    if augment.copies > 1 and not changed:
        yield (
            f"config.data.augment.copies {augment.copies}: the copies would all be alike; raise mirror, turn, grow, "
            "shift or colour of config.data.augment, or leave it at 1"
        )
    if augment.copies > 2 and augment.mirrors_alone:
        yield (
            f"config.data.augment.copies {augment.copies}: by mirror alone a window has two versions; set it to 2, or "
            "raise turn, grow, shift or colour of config.data.augment"
        )
    if settings.data.corpus == "builtin" and 0 < settings.data.fps < 4:
        yield f"config.data.fps {settings.data.fps:g}: the signs of the built-in corpus need 4 frames a second or more"
    folded = vae.patch_size * 2 ** (len(vae.dim_mult) - 1)  # pixels a side of a latent
    if {"vae", "renderer"} & set(stages) and not vae.init:
        yield from size_fault(settings.data.size, folded, "vae.patch_size and the levels")
    if "renderer" in stages and not renderer.init:
        if renderer.dim % renderer.heads or renderer.dim // renderer.heads % 2:
            yield f"config.renderer.dim {renderer.dim}: must be {renderer.heads} heads of an even width"
        if renderer.freq_dim % 2:
            yield f"config.renderer.freq_dim {renderer.freq_dim}: must be even (sines and cosines)"
    ratio = 2 ** sum(vae.temporal_downsample)  # frames a latent frame, but the first
    if "renderer" in stages and renderer.window and not vae.init and (fault := frames_fault(renderer.window, ratio)):
        yield f"config.renderer.window {renderer.window}: {fault}"
    shared, continues = renderer.overlap, VARIANTS[renderer.variant].continues
    blends = "renderer" in stages and not continues and not vae.init
    if blends and (fault := overlap_fault(shared, renderer.window, ratio)):
        yield f"config.renderer.overlap {shared}: {fault}"
    if continues and (shared not in continues or shared >= renderer.window > 1):
        yield (
            f"config.renderer.overlap {shared}: segments of the variant {renderer.variant!r} go on from "
            f"{' or '.join(map(str, continues))} last frames of the one before, fewer than config.renderer.window "
            f"{renderer.window}; give so many, or 0"
        )
    if RENDERS & set(stages) and not renderer.window:
        yield f"config.renderer.window 0: the variant {renderer.variant!r} has no length of its own; give the frames"
    yield from _encoder_misfits(renderer)
    if "slul" in stages:
        yield from _slul_misfits(settings)
    if RENDERS & set(stages) and renderer.face_weight != 1 and not faced(settings.pose.joints):
        yield (
            f"config.renderer.face_weight {renderer.face_weight:g}: config.pose.joints {settings.pose.joints!r} has no "
            f"face to weigh; take one of {', '.join(filter(faced, skeleton.SUBSETS))}, or leave it at 1"
        )
    if renderer.variant != "own" and renderer.stem_features:
        yield (
            f"config.renderer.variant {renderer.variant!r}: a published model takes latents, not a stem's features; "
            "set config.renderer.stem_features=()"
        )
    for name in stages:
        stage = getattr(settings.train, name, None)
        if stage is None:
            continue  # refused with the stages' names
        if stage.batch % stage.accumulate:
            yield (
                f"config.train.{name}.accumulate {stage.accumulate}: must divide config.train.{name}.batch "
                f"{stage.batch}, so that its parts are of one size"
            )
        unseen = VARIANTS[renderer.variant].pose == "tokens" and renderer.control == "none"
        if "branch" in stage.trains and unseen and name in RENDERS:
            yield (
                f"config.train.{name}.trains {stage.trains}: 'branch' trains what reads the pose, and of "
                "config.renderer.control 'none' the model is shown no pose; set config.renderer.control='variant', or "
                "leave 'branch' out"
            )
        if "full" in stage.trains and len(stage.trains) > 1:
            yield f"config.train.{name}.trains {stage.trains}: 'full' is all there is; give it alone"
    if "vae" in stages and not vae.init and vae.principal_start and settings.train.vae.trains != ("full",):
        yield (
            f"config.train.vae.trains {settings.train.vae.trains}: weights that start from principal components are "
            "in no other file; train them in full, or set config.vae.principal_start=false"
        )
    if "vae" in stages and not vae.init and vae.principal_start:
        # What `vae_initialisation.initialise_from_frames` needs.
        channels, numbers = 2 * vae.z_dim + 1, 3 * vae.patch_size**2
        for name, wrong, needs in (
            (f"dim_mult {vae.dim_mult}", vae.dim_mult != (1,), "(1,), one level"),
            (f"base_dim {vae.base_dim}", vae.base_dim < channels, f"at least {channels}, 2 * vae.z_dim + 1"),
            (f"z_dim {vae.z_dim}", vae.z_dim > numbers, f"at most {numbers}, the values of a patch"),
        ):
            if wrong:
                yield (
                    f"config.vae.{name}: principal components need {needs}; change it or set "
                    "config.vae.principal_start=false"
                )
    trained = RENDERS & set(stages) and not renderer.init
    if trained and renderer.guidance != 1 and renderer.condition_dropout == 0:
        yield (
            f"config.renderer.guidance {renderer.guidance}: guidance needs a renderer trained without pose and text "
            "too; set config.renderer.condition_dropout above 0, or guidance to 1"
        )
    low = renderer.guidance_low_noise
    if low and not VARIANTS[renderer.variant].experts:
        yield (
            f"config.renderer.guidance_low_noise {low}: the variant {renderer.variant!r} has no two experts; set it to "
            "0, and config.renderer.guidance_each.text to the guidance"
        )
    if trained and low not in (0, 1) and not renderer.dropout_each.text:
        yield (
            f"config.renderer.guidance_low_noise {low}: guidance needs a renderer trained without text too; set "
            "config.renderer.dropout_each.text above 0, or guidance_low_noise to 0"
        )
    for name, guidance in vars(renderer.guidance_each).items():
        share = getattr(renderer.dropout_each, name) or (renderer.reference_dropout if name == "reference" else 0.0)
        if trained and guidance != 1 and not share:
            yield (
                f"config.renderer.guidance_each.{name} {guidance}: guidance needs a renderer trained without it too; "
                f"set config.renderer.dropout_each.{name} above 0, or the guidance to 1"
            )


def _slul_misfits(settings: Settings) -> Iterable[str]:
    """Of what SLUL's stage gives, and of how it reads."""
    c = settings.train.slul
    if c.select_every and c.select_by != "last" and not c.select_sentences:
        yield (
            "config.train.slul.select_sentences 0: there is nothing to choose by; give how many, 500 for example, or "
            "set config.train.slul.select_every=0"
        )
    for name, value, off in (("patience", c.patience, 0), ("average", c.average, 1)):
        if value != off and not c.select_every:
            yield (
                f"config.train.slul.{name} {value}: counts looks, of which there are none; set "
                f"config.train.slul.select_every to the steps between them, or {name} to {off}"
            )
    if c.patience and c.select_every and c.select_by == "last":
        yield (
            f"config.train.slul.patience {c.patience}: by 'last' every look is better than the one before; set it to "
            "0, or config.train.slul.select_by=bleu4"
        )
    if c.select_every and c.average > (looks := -(-c.steps // c.select_every)):
        yield (
            f"config.train.slul.average {c.average}: there are {looks} looks in {c.steps} steps; lower it, or "
            "config.train.slul.select_every"
        )
    if c.average > 1 and "lora" in c.trains:
        yield (
            f"config.train.slul.average {c.average}: adapters are products of two matrices, and the product of their "
            "means is not the mean of the products; leave it at 1"
        )
    if c.r_drop and not settings.slul.dropout:
        yield (
            f"config.train.slul.r_drop {c.r_drop:g}: without dropout a text is read the same twice; set "
            "config.slul.dropout above 0, or r_drop to 0"
        )


def faced(joints: str) -> bool:
    """Whether a subset of the joints has the face's."""
    return bool(len(skeleton.face_area(skeleton.SUBSETS[joints])[0]))


def _encoder_misfits(renderer: Rendering) -> Iterable[str]:
    """Of the encoders whose states a published variant reads."""
    if renderer.text_encoder and VARIANTS[renderer.variant].text == "slul":
        yield (
            f"config.renderer.text_encoder {renderer.text_encoder}: the variant {renderer.variant!r} reads SLUL's "
            "features and no other text; set it to '', or choose a published variant"
        )
    if renderer.image_encoder and VARIANTS[renderer.variant].clip_dim is None:
        yield (
            f"config.renderer.image_encoder {renderer.image_encoder}: the variant {renderer.variant!r} takes no tokens "
            "of pictures; set it to ''"
        )
    if renderer.negative_prompt and not renderer.text_encoder:
        yield (
            f"config.renderer.negative_prompt {renderer.negative_prompt[:40]!r}: nothing reads it without "
            "config.renderer.text_encoder; give that, or set it to ''"
        )
