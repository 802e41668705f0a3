"""What feeds the stages: the tokenizer and the prior of a corpus, its clips in their buckets, their latents, and each
stage's batches.
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import grain
import jax
import numpy as np

from signer_jax import mirror, storage
from signer_jax import model as models
from signer_jax.data import augmentation, buckets, lengths, streams
from signer_jax.data.records import Corpus, Records
from signer_jax.data.windows import Limits, MotionWindows, token_counts, too_long
from signer_jax.distributed import first_makes
from signer_jax.errors import SignerError
from signer_jax.model import Model
from signer_jax.pose.prior import Prior
from signer_jax.progress import progress
from signer_jax.renderer.latents import LatentStore
from signer_jax.renderer.vae_chunks import rows_at_once
from signer_jax.settings import Data, Settings
from signer_jax.slp_moe.retrieval import Retrieval, prior_entries
from signer_jax.slul.tokenizer import Tokenizer
from signer_jax.storage import REMAKE, recover
from signer_jax.training import bucketed, conditions, encoders, partitioning, unreferenced
from signer_jax.training import latents as latent_cache
from signer_jax.training.copies import Copies, named

_SIGNS_AT_ONCE = 16  # that are read to build the prior


def limits(data: Data) -> Limits:
    return Limits(data.max_source, data.max_target, data.max_glosses)


def open_tokenizer(settings: Settings, workdir: Path, corpus: Corpus) -> Tokenizer | None:
    """The published tokenizer that the settings name, or the run's own, trained on the training split's texts."""
    path = workdir / "tokenizer.model"
    if settings.tokenizer.path or not corpus.count("train", "text"):
        return made_tokenizer(settings, workdir, corpus)
    recover(path)
    if path.exists():
        return made_tokenizer(settings, workdir, corpus)
    records = corpus.texts("train")
    samples = [records[i] for i in range(len(records))]
    return Tokenizer.train(
        (sample.text for sample in samples),
        path,
        settings.tokenizer.vocab_size,
        sorted(corpus.about["languages"]),
        glosses=(sample.glosses for sample in samples),
        whole=settings.tokenizer.whole_glosses,
    )


def made_tokenizer(settings: Settings, workdir: Path, corpus: Corpus) -> Tokenizer | None:
    """As `open_tokenizer`, which has trained the run's own before."""
    if not corpus.count("train", "text"):
        return None
    path = settings.tokenizer.path or workdir / "tokenizer.model"
    recover(path)
    return Tokenizer.load(path, mask=settings.tokenizer.mask)


def open_prior(workdir: Path, corpus: Corpus) -> Prior:
    """The pose prior database, built from the training split's performances and from nothing else."""
    path = workdir / "prior"
    recover(path)
    if not (path.exists() and any(path.iterdir())):
        # Several are asked for at a time: of a set in a bucket each is a request.
        records = corpus.signs("train")
        samples = progress(streams.in_order(records, _SIGNS_AT_ONCE), "prior", total=len(records))
        Prior.build(prior_entries(samples), path, fps=corpus.about["fps"])
    return Prior.open(path, REMAKE)


def stage_batches(
    name: str, settings: Settings, workdir: Path, corpus: Corpus, tokenizer: Tokenizer | None, model: Model,
    params: Any, seed: int, mesh: jax.sharding.Mesh,
) -> grain.DatasetIterator:  # fmt: skip
    """The stage's training examples, made ready where they are not yet; of each batch, this process's rows."""
    batch, rows = settings.stage(name).batch, partitioning.local_rows(settings.stage(name).batch, mesh)
    reading = streams.Reading(batch, seed, settings.data.read_threads, settings.data.prefetch, rows)
    if name == "slul":
        assert tokenizer is not None
        texts, mixed = corpus.texts("train"), mixture(settings.data, corpus, "text")
        if settings.data.language_temperature != 1.0:
            languages = [texts[i].language for i in range(len(texts))]
            mixed = streams.by_language(languages, settings.data.language_temperature, mixed)
        most, dropout = limits(settings.data), settings.tokenizer.dropout
        if settings.data.text_buckets:
            return streams.bucketed_texts(texts, tokenizer, most, text_buckets(settings.data), reading, mixed, dropout)
        return streams.text_batches(texts, tokenizer, most, reading, mixed, dropout)
    mixed = mixture(settings.data, corpus, "motion")
    changed = settings.data.augment if augmentation.is_on(settings.data.augment) else None
    of_videos = part_of(mixed, streams.video_indices(corpus, "train"))
    if name == "vae" and settings.vae.buckets:
        plan = bucket_plan("vae", settings, model, corpus)
        videos, records = streams.video_indices(corpus, "train"), corpus.motions("train")
        load = lambda i, *part: records.clip(videos[i], *part)  # noqa: E731
        return streams.bucketed_videos(load, plan, reading, of_videos, changed)
    if name == "vae":
        return streams.video_batches(corpus, "train", settings.vae.window, reading, of_videos, changed)
    if name == "pose":
        windows = motion_windows(
            settings, workdir, corpus, tokenizer, model, experts=True, records=corpus.signs("train")
        )
        signs = mixture(settings.data, corpus, "sign")
        return streams.pose_batches(windows, settings.pose.window, reading, signs, changed)
    corpus = as_rendered(settings, corpus)
    mixed = mixture(settings.data, corpus, "motion")
    # The renderer's own stages read no candidates: none are laid out for them.
    windows = motion_windows(settings, workdir, corpus, tokenizer, model, experts=name == "joint")
    c = settings.renderer
    latents = cached_latents(settings, workdir, corpus, windows, model, params, mesh)
    vae = partitioning.here(params["vae"], mesh)
    if c.buckets:
        of, stores = bucketed_latents(settings, workdir, corpus, windows, model, params, mesh, latents)
        sources = conditions.prepare(settings, workdir, corpus, windows, latents, model, vae, of)
        return bucketed.batches(
            of, stores, corpus, windows, reading,
            single=name == "images",
            temporal_ratio=model.vae.temporal_ratio,
            reference_dropout=c.reference_dropout,
            around=settings.pose.window if name == "joint" else 0,
            beside=sources.beside(), referenced=most_references(model) is None,
            mixture=part_of(mixed, [of.motion(row) for row in range(len(of.plan.placed))]),
        )  # fmt: skip
    sources = conditions.prepare(settings, workdir, corpus, windows, latents, model, vae)
    return latent_cache.latent_batches(
        latents, corpus, windows, reading,
        length=1 if name == "images" else c.window,
        temporal_ratio=model.vae.temporal_ratio,
        reference_dropout=c.reference_dropout,
        around=settings.pose.window if name == "joint" else 0,
        beside=sources.beside(), referenced=most_references(model) is None,
        mixture=part_of(mixed, [motion for motion, _ in latent_cache.training_windows(corpus, c.window, c.stride)]),
    )  # fmt: skip


def as_rendered(settings: Settings, corpus: Corpus) -> Corpus:
    """The corpus as the stages that train the renderer see it: with the changed copies of its motions, if any."""
    augment = settings.data.augment
    return Copies(corpus, augment, settings.data.seed) if augment.copies > 1 else corpus


def mixture(data: Data, corpus: Corpus, kind: str) -> streams.Mixture | None:
    """How the training split's `text`, `motion` or `sign` records are mixed, where the settings have weights."""
    return streams.Mixture(corpus.set_of("train", kind), data.weights) if data.weights else None


def part_of(mixed: streams.Mixture | None, motions: Sequence[int]) -> streams.Mixture | None:
    """The mixture of examples of which each is of one of the motions."""
    return None if mixed is None else replace(mixed, sets=mixed.sets[np.array(motions, int)])


def motion_windows(
    settings: Settings,
    workdir: Path,
    corpus: Corpus,
    tokenizer: Tokenizer | None,
    model: Model,
    *,
    experts: bool,
    records: Records | None = None,
) -> MotionWindows:
    """Windows of the training motions (`records`, or all), with `experts` the candidates beside them where there is
    SLP-MoE, from the prior that is built where it is not yet.
    """
    retrieval = None
    if experts and model.slp_moe is not None:
        place = workdir / "prior"
        prior = first_makes(
            "prior", lambda: open_prior(workdir, corpus), lambda: Prior.open(place, REMAKE),
            lambda: mirror.there(place / storage.MANIFEST),
        )  # fmt: skip
        retrieval = Retrieval(prior, model.joints, settings.pose.dims, settings.pose.experts, settings.data.max_glosses)
    copies = corpus if isinstance(corpus, Copies) and records is None else None
    plain = copies.plain if copies else corpus
    windows = MotionWindows(
        plain.motions("train") if records is None else records, model.joints, settings.pose.dims,
        limits(settings.data), tokenizer, retrieval, settings.pose.gating,
    )  # fmt: skip
    return copies.windows(windows) if copies else windows


def cached_latents(
    settings: Settings,
    workdir: Path,
    corpus: Corpus,
    windows: MotionWindows,
    model: Model,
    params: Any,
    mesh: jax.sharding.Mesh,
) -> LatentStore:
    """The training videos' latents, encoded where they are not yet."""
    c, vae = settings.renderer, partitioning.here(params["vae"], mesh)
    return latent_cache.prepare(
        workdir / "latents", corpus, windows, model.vae, vae,
        window=c.window, stride=c.stride, references=c.references,
        batch=rows_at_once(c.window, *settings.data.size),
        constants=models.latent_constants(model, settings), banks_only=bool(c.buckets), most=most_references(model),
        shared=settings.data.encoded,
    )  # fmt: skip


def most_references(model: Model) -> int | None:
    """How many reference frames all signers' latents keep; None: each signer's own, of a variant that reads them."""
    assert model.renderer is not None
    return None if "reference" in model.renderer.variant.streams else latent_cache.FEW


def bucketed_latents(
    settings: Settings, workdir: Path, corpus: Corpus, windows: MotionWindows, model: Model, params: Any,
    mesh: jax.sharding.Mesh, base: LatentStore,
) -> tuple[bucketed.Windows, list[LatentStore | None]]:  # fmt: skip
    """The windows of the renderer's buckets and their latents, encoded where they are not yet; None of an empty one."""
    vae = partitioning.here(params["vae"], mesh)
    of = bucket_windows(settings, model, corpus)
    plan = of.plan

    def made(k: int) -> LatentStore:
        return bucketed.prepare(
            workdir / "buckets" / str(plan.buckets[k]), k, of, base, corpus, windows, model.vae, vae,
            references=settings.renderer.references, crop=settings.data.crop, enlarge=settings.data.enlarge,
            most=most_references(model), shared=settings.data.encoded,
        )  # fmt: skip

    return of, [made(k) if plan.members(k) else None for k in range(len(plan.buckets))]


def text_buckets(data: Data) -> tuple[lengths.Bucket, ...]:
    """The lengths of SLUL's batches, of `config.data.text_buckets` and its limits. Raises `SignerError`."""
    most = lengths.Bucket(data.max_source, data.max_target)
    return lengths.read(data.text_buckets, most, "config.data.text_buckets")


def told_of_texts(settings: Settings, corpus: Corpus, tokenizer: Tokenizer) -> list[str]:
    """What is to be known of the training texts before training, in lines."""
    data, counts = settings.data, token_counts(corpus.texts("train"), tokenizer)
    lines = too_long(counts, limits(data), frames=settings.stages != ("slul",))
    if data.text_buckets and "slul" in settings.stages and len(counts):
        sizes, sides = text_buckets(data), counts[:, :2]
        of, reading = lengths.shortest(sides, sizes), streams.Reading(settings.stage("slul").batch, settings.seed, 0, 1)
        shares = [
            lengths.padding(sides, kept, streams.alike(which, reading))
            for kept, which in ((sizes, of), (sizes[-1:], np.zeros_like(of)))
        ]
        each = ", ".join(f"{size} {n}" for size, n in zip(sizes, np.bincount(of, minlength=len(sizes)), strict=True))
        lines.append(
            f"training texts a bucket of config.data.text_buckets: {each}; {100 * shares[0]:.0f} % of SLUL's tokens "
            f"are padding, {100 * shares[1]:.0f} % without buckets"
        )
    return lines


# ---- Buckets ---------------------------------------------------------------------------------------------------------


def bucketed_parts(settings: Settings) -> list[tuple[str, int]]:
    """The parts that train on buckets, each with the largest batch of its stages."""
    return [
        (part, max(settings.stage(stage).batch for stage in stages))
        for part, stages in _stages_of_videos(settings).items()
        if getattr(settings, part).buckets
    ]


def check_all_bucketed(settings: Settings) -> None:
    """Raises `SignerError` for a part that trains on one size where videos have several."""
    for part in _stages_of_videos(settings) if settings.data.other_sizes else ():
        if not getattr(settings, part).buckets:
            raise SignerError(
                f"config.{part}.buckets is (): videos of several sizes (config.data.other_sizes) come in buckets; name "
                f"one of each size in config.{part}.buckets"
            )


def _stages_of_videos(settings: Settings) -> dict[str, list[str]]:
    """The parts that a run trains on videos, with their stages."""
    stages = {"vae": ("vae",), "renderer": ("images", "renderer", "joint")}
    mine = {part: [stage for stage in names if stage in settings.stages] for part, names in stages.items()}
    return {part: names for part, names in mine.items() if names}


def bucket_sizes(part: str, settings: Settings, model: Model) -> tuple[tuple[buckets.Bucket, ...], int]:
    """The buckets of `config.PART.buckets`, and what their sides are multiples of. Raises `SignerError`."""
    spatial = model.vae.spatial_ratio
    if part == "renderer":
        spatial, _ = models.pixels_of_a_token(settings.renderer, spatial, model.renderer.transformer.patch)
    texts, where = getattr(settings, part).buckets, f"config.{part}.buckets"
    return buckets.read(texts, temporal=model.vae.temporal_ratio, spatial=spatial, where=where), spatial


def fitting_buckets(
    part: str, settings: Settings, model: Model, videos: Sequence[tuple[int, int]]
) -> tuple[buckets.Bucket, ...]:
    """The buckets of `config.PART.buckets`. Raises `SignerError` for an aspect that no size of `videos` has."""
    sizes, spatial = bucket_sizes(part, settings, model)
    own = settings.data.corpus == "openvid"  # whose videos have aspects of their own
    buckets.check_aspects(
        [buckets.Clip(1, *size) for size in videos], sizes,
        crop=settings.data.crop, enlarge=settings.data.enlarge, spatial=spatial, where=f"config.{part}.buckets",
        other="; or name its height x width in config.data.other_sizes" if own else "",
    )  # fmt: skip
    return sizes


def training_clips(corpus: Corpus) -> list[buckets.Clip]:
    """The training videos' sizes; none where the corpus says none."""
    listed = corpus.listed("train")
    sizes = corpus.sizes_of("train") or [(0, 0)] * len(listed)
    return [buckets.Clip(frames, *size) for (frames, video, _), size in zip(listed, sizes, strict=True) if video]


def bucket_plan(part: str, settings: Settings, model: Model, corpus: Corpus) -> buckets.Plan:
    """Where the training videos go, of `config.PART.buckets`. Raises `SignerError` as `fitting_buckets`."""
    sizes = fitting_buckets(part, settings, model, corpus.sizes)
    return buckets.plan(training_clips(corpus), sizes, crop=settings.data.crop, enlarge=settings.data.enlarge)


def bucket_windows(settings: Settings, model: Model, corpus: Corpus) -> bucketed.Windows:
    """The training windows of the renderer's buckets."""
    plan = bucket_plan("renderer", settings, model, corpus)
    return bucketed.Windows.of(corpus, training_clips(corpus), plan, settings.renderer.stride)


def _told_of_copies(settings: Settings, corpus: Corpus, plain: Corpus) -> list[str]:
    """What copies cannot do for some clips, in lines."""
    augment = settings.data.augment
    if augment.copies == 1:
        return []
    clips = [signer for _, video, signer in plain.listed("train") if video]
    alike = augment.copies * len(clips) - sum(video for _, video, _ in corpus.listed("train"))
    lines, unnamed = [], sum(not named(signer) for signer in clips)
    if alike:
        lines.append(
            f"{alike} of {len(clips)} training clips may not be mirrored, and have no changed copy: by mirror alone it "
            "would be the clip itself"
        )
    if unnamed and (augment.colour or (augment.mirror and not augment.mirrors_alone)):
        assert isinstance(corpus, Copies)
        lines.append(
            f"{unnamed} of {len(clips)} training clips name no signer; looks (side and colours) that a changed copy "
            f"has for them: {corpus.looks}; name their signers for more, or raise config.data.augment.copies"
        )
    return lines


def told(settings: Settings, model: Model, corpus: Corpus) -> list[str]:
    """What is to be known of the training videos before training, in lines. Raises `SignerError` where no clip fits."""
    lines = []
    corpus, plain = as_rendered(settings, corpus), corpus
    for part, batch in bucketed_parts(settings):
        plan = bucket_plan(part, settings, model, corpus if part == "renderer" else plain)
        rows = bucket_windows(settings, model, corpus).plan if part == "renderer" else None
        lines += buckets.told(plan, batch, f"config.{part}.buckets", rows)
    if augmentation.is_on(settings.data.augment) and (cached := encoders.STAGES & set(settings.stages)):
        names, copies = ", ".join(name for name in settings.stages if name in cached), settings.data.augment.copies
        lines.append(
            f"config.data.augment: {names} read latents that are encoded once, and see nothing of it; "
            "config.data.augment.copies=3, for one, encodes each window twice more, changed" if copies == 1 else
            f"config.data.augment.copies {copies}: {names} read each window as it is and in {copies - 1} changed "
            "copies, which take so many times the room and the encoding"
        )  # fmt: skip
        lines += _told_of_copies(settings, corpus, plain)
    if settings.data.augment.mirror > 0 and not settings.data.augment.not_mirrored and "pose" in settings.stages:
        lines.append(
            "config.data.augment.mirror: every sign may be mirrored, since config.data.augment.not_mirrored is empty; "
            "name there the glosses that mean another thing when mirrored, such as left and right"
        )
    if encoders.STAGES & set(settings.stages):
        of = bucket_windows(settings, model, corpus) if settings.renderer.buckets else None
        latent_cache.training_windows(corpus, settings.renderer.window, settings.renderer.stride)  # refuses none
        if of is None:
            lines += latent_cache.told(corpus, settings.renderer.window, settings.renderer.stride)
        lines += unreferenced.told(settings, corpus, model, of)
    return lines
