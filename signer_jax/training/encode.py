"""`signer encode`: what a run encodes before it trains, as a job of its own that any number of machines share.

It is made by the code that a run makes it with, into a folder (`encodings`) that runs of the same config, corpus and
weights take it from. So there must be a corpus that every machine opens in seconds, which is a prepared set, and an
autoencoder that is there before the run, which is a published one.
"""

from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path
from tempfile import TemporaryDirectory

from signer_jax.data.prepared import reading
from signer_jax.data.records import Corpus
from signer_jax.distributed import first_tells
from signer_jax.errors import SignerError
from signer_jax.interop import kept
from signer_jax.renderer.references import latent_frame_times
from signer_jax.renderer.vae_chunks import rows_at_once
from signer_jax.settings import Settings
from signer_jax.training import (
    begun,
    bucketed,
    conditions,
    encoders,
    encodings,
    input_pipeline,
    latents,
    partitioning,
    pictures,
    text_states,
)  # fmt: skip
from signer_jax.training.contents import fingerprint
from signer_jax.training.held import Weights


def check(settings: Settings) -> None:
    """Raises `SignerError` for a run whose encodings cannot be made before it."""
    if not encoders.STAGES & set(settings.stages):
        raise SignerError(
            f"config.stages {','.join(settings.stages)}: none trains the renderer, so there is nothing to encode; give "
            "the config of a run that does"
        )
    if settings.data.corpus != reading.NAME:
        raise SignerError(
            f"config.data.corpus {settings.data.corpus!r}: `signer encode` reads prepared sets, which every machine "
            "opens at once; make one with `signer prepare`, or let the run encode"
        )
    if not settings.vae.init or "vae" in settings.stages:
        raise SignerError(
            "config.vae.init: the autoencoder is trained in the run, which then encodes by it; `signer encode` is for "
            "a published one, with no stage 'vae'"
        )


def encode(settings: Settings, out: Path, worker: int = 0, workers: int = 1) -> list[encodings.Made]:
    """Makes a worker's share of everything that the run encodes, all processes of the job together.

    Raises `SignerError` as `check`, and for sets and weights that are none.
    """
    check(settings)
    with TemporaryDirectory(prefix="signer-encode-") as folder:  # the run's list of what is in the sets
        settings = kept.local(settings, Path(folder))  # weights in a bucket are copies
        encoders.check(settings)
        data = Path(folder) / "data"
        c = settings.data  # as `prepare` has it: a run's encodings are found by its corpus's hash
        reading.write(data, c.source, fps=c.fps, size=c.size, glosses_by=c.glosses_by)
        corpus = input_pipeline.as_rendered(settings, reading.opened(data, c.decode_processes))
        return [encodings.make(out, name, one, worker, workers) for name, one in works(settings, corpus)]


def works(settings: Settings, corpus: Corpus) -> Iterator[tuple[str, begun.Work]]:
    """What the run encodes, and what it calls it; the weights of one are read when it is asked for."""
    source = encoders.text_encoder(settings)
    if source is not None:
        mesh = partitioning.own_mesh(asdict(settings.mesh))
        yield "text_states", text_states.work(source, lambda: conditions.texts_of(settings, corpus), mesh)
    # Of the renderer its patches and its variant count; the autoencoder is whole on each device whatever the mesh.
    weights = Weights.of(
        replace(settings, stages=("renderer",)), 0, corpus.directory.parent, partitioning.make_mesh({"data": -1})
    )
    model, c = weights.model, settings.renderer
    assert model.vae is not None and model.renderer is not None
    vae = partitioning.here(weights.read(weights.whole(("vae",)), ())["vae"], weights.mesh)
    encoder = fingerprint(vae)
    items, _ = latents.windows_and_places(
        corpus, latent_frame_times(c.window, model.vae.temporal_ratio), window=c.window, stride=c.stride,
        references=c.references, banks_only=bool(c.buckets), most=input_pipeline.most_references(model),
    )  # fmt: skip
    batch = rows_at_once(c.window, *settings.data.size)
    yield "latents", latents.work(corpus, items, model.vae, vae, encoder, window=c.window, batch=batch)
    of = input_pipeline.bucket_windows(settings, model, corpus) if c.buckets else None
    if of is not None:
        for size in conditions.shown_sizes(of):
            yield str(size), bucketed.work(of.plan.buckets.index(size), of, encoder, corpus, model.vae, vae)
    renderer, tower = model.renderer, encoders.tower(settings)
    if not (renderer.variant.front or renderer.variant.first):
        return
    seen_by = tower if renderer.variant.first else None
    weights_of = first_tells("tower", seen_by.kept_hash) if seen_by else ""
    for name, starts, cut in conditions.pictured(settings, corpus, of):
        pixels, faces = renderer.shows_picture, conditions.faces_of(settings, renderer, cut)
        shown = sorted(set(starts())) if seen_by or pixels or faces else []
        if shown:
            yield Path(name).name, pictures.work(corpus, shown, seen_by, weights_of, cut, pixels, faces)
