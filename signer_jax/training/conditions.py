"""What a published model reads beside the latents and the pose, and the share of it that each training example gets."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from signer_jax.data.buckets import Bucket, Placed, fitted
from signer_jax.data.faces import face_video, squares
from signer_jax.data.records import Corpus
from signer_jax.data.windows import MotionWindows
from signer_jax.model import Model, latent_constants
from signer_jax.renderer.conditions import encoder
from signer_jax.renderer.latents import LatentStore
from signer_jax.renderer.render import Renderer
from signer_jax.renderer.text_encoder import ROWS
from signer_jax.renderer.vae import VideoVAE
from signer_jax.renderer.variants import VARIANTS
from signer_jax.settings import Settings
from signer_jax.training import partitioning, pictures, text_states
from signer_jax.training.bucketed import Windows
from signer_jax.training.encoders import text_encoder, tower
from signer_jax.training.latents import FEW, Beside, training_windows
from signer_jax.training.pictures import Cut, Pictures
from signer_jax.training.text_states import TextStates
from signer_jax.types import Pose


@dataclass(frozen=True)
class Sources:
    """What training examples take from: None for what a run has not."""

    renderer: Renderer
    corpus: Corpus
    texts: TextStates | None
    negative: str  # the prompt that says nothing
    sizes: Sequence[Bucket]  # of the windows: the buckets that have any, or the one size where there are no buckets
    pictures: Mapping[Bucket, Pictures]  # at each of them; empty where a model is shown none
    reference_dropout: float
    faces: bool  # whether any example shows one
    grey: Callable[[Bucket], Float[np.ndarray, "k h w z"]] | None = None  # of a grey window, where latents are taken
    constants: Float[np.ndarray, "2 z"] | None = None  # mean and deviation of latents, where they are the corpus's

    def beside(self) -> Beside:
        """For a stream of windows.

        `text_states [rows, d]`, zeros past the end, and `text_null [n, d]`; `clip [i, c]` of the reference. Of a model
        whose reference is the first frame: whether it is `shown`, never on single frames, and `picture [y, x, 3]`,
        uint8, where it is taken in pixels. `constants [2, z]`, which normalise what is encoded at a step, where they
        are not the autoencoder's. Of one that has it in front: `reference [h, w, z]`, of another clip, or of a
        signer who has none a frame outside the window, zeros where none is kept. `face
        [t, s, s, 3]`, uint8, of a model that takes it, and `blank [k, h, w, z]`, latents of a grey video as long. All
        but the face are as the window's bucket has them.
        """
        motions, signers = self.corpus.motions("train"), [signer for *_, signer in self.corpus.listed("train")]
        variant = self.renderer.variant
        text_of = lru_cache(maxsize=None)(lambda motion: motions[motion].text)
        rows, null = variant.text_rows or ROWS, self.texts and self.texts.of(self.negative)
        # Once: it depends on the autoencoder and the size alone.
        grey = {} if self.grey is None else {size: self.grey(size) for size in self.sizes}

        def arrays(
            motion: int, start: int, length: int, rng: np.random.Generator, at: tuple[Placed, Bucket] | None
        ) -> dict[str, Any]:
            found: dict[str, Any] = {} if self.constants is None else {"constants": self.constants}
            size = self.sizes[0] if at is None else at[1]
            if self.texts is not None:
                states = self.texts.of(text_of(motion))
                found["text_states"] = np.pad(states, ((0, rows - len(states)), (0, 0)))
                found["text_null"] = null
            if size in grey:  # the encoding is causal: a shorter one begins alike
                found["blank"] = grey[size][: 1 + (length - 1) // self.renderer.temporal_ratio]
            shown_here = self.pictures.get(size)
            if self.faces and (face := self.renderer.transformer.face) is not None:
                crops = shown_here.window(motion, start).faces if shown_here else None
                if crops is None or len(crops) < length:  # a cache of before they were kept
                    found["face"] = filmed_faces(motion, start, length, face.size)
                else:
                    found["face"] = squares(crops[:length], face.size)
            if shown_here is None:
                return found
            if variant.front:
                bank = shown_here.banks[signers[motion]]
                place = bank.place_but(motion, rng, dropout=self.reference_dropout, window=(start, length))
                found["reference"] = bank.shown(place)
                if bank.clip is not None:
                    found["clip"] = np.zeros_like(bank.clip[0]) if place is None else np.array(bank.clip[place])
                return found
            shown = np.float32(length > 1 and rng.random() >= self.reference_dropout)
            found["shown"] = shown
            kept = shown_here.window(motion, start, tokens=bool(shown_here.tower))
            if self.renderer.shows_picture and kept.picture is not None:
                found["picture"] = np.array(kept.picture)
            elif self.renderer.shows_picture:  # a cache of before they were kept
                video = motions.video(motion)
                picture = video[min(start, len(video) - 1)][None]
                found["picture"] = (picture if at is None else fitted(picture, *at))[0]
            if kept.tokens is not None:
                found["clip"] = kept.tokens * shown
            return found

        def filmed_faces(motion: int, start: int, length: int, size: int) -> np.ndarray:
            sample, video = motions.filmed(motion)
            pose = motions.posed(sample, motion)
            frames = np.minimum(np.arange(start, start + length), len(video) - 1)
            shown_pose = Pose(pose.coordinates[frames], pose.confidence[frames], pose.fps)
            return face_video(video[frames], shown_pose, size)

        return arrays


def prepare(
    settings: Settings, workdir: Path, corpus: Corpus, windows: MotionWindows, latents: LatentStore, model: Model,
    vae: Any, of: Windows | None = None,
) -> Sources:  # fmt: skip
    """Everything that the training videos' examples take, computed where it is not there yet.

    `vae` are the autoencoder's parameters on this process's own devices; `of` the windows of a training on buckets,
    whose examples are shown pictures of their bucket's size. Those of `data.size` are made in any case: for signing.
    """
    c, renderer = settings.renderer, model.renderer
    encoder, seer, texts = text_encoder(settings), tower(settings), None
    if encoder is not None:
        mesh = partitioning.own_mesh(asdict(settings.mesh))
        texts = text_states.prepare(
            workdir / "text_states", encoder, lambda: texts_of(settings, corpus), mesh, settings.data.encoded
        )
        texts.of(c.negative_prompt)  # refused here where it is of another one
    shown: dict[Bucket, Pictures] = {}
    sizes = [Bucket(c.window, *settings.data.size)]
    if of is not None:
        sizes = shown_sizes(of)
    if renderer.variant.front or renderer.variant.first:
        whole, *each = [
            pictures.prepare(
                workdir / name, corpus, windows, latents, model.vae, vae, seer,
                references=c.references, first=renderer.variant.first, windows=starts, cut=cut,
                most=FEW if renderer.variant.first else None, pixels=renderer.shows_picture,
                faces=faces_of(settings, renderer, cut), shared=settings.data.encoded,
            )
            for name, starts, cut in pictured(settings, corpus, of)
        ]  # fmt: skip
        shown = {sizes[0]: whole} if of is None else dict(zip(sizes, each, strict=True))
    grey = None
    if renderer.variant.front and "image" in renderer.variant.streams:
        grey = partial(_grey, model.vae, vae, latents)
    constants = np.stack([latents.mean, latents.std]) if corpus_constants(settings, model) else None
    return Sources(
        renderer,
        corpus,
        texts,
        c.negative_prompt,
        sizes,
        shown,
        c.reference_dropout,
        faces_of(settings, renderer, None) > 0,
        grey,
        constants,
    )


def texts_of(settings: Settings, corpus: Corpus) -> list[str]:
    """What a published text encoder reads: the training videos' texts, and the negative prompt."""
    both = zip(corpus.listed("train"), corpus.captions("train"), strict=True)
    return [settings.renderer.negative_prompt, *(text for (_, video, _), text in both if video)]


def shown_sizes(of: Windows) -> list[Bucket]:
    """The buckets that have windows."""
    return [size for k, size in enumerate(of.plan.buckets) if of.plan.members(k)]


def pictured(
    settings: Settings, corpus: Corpus, of: Windows | None
) -> Iterator[tuple[str, Callable[[], list[tuple[int, int]]], Cut | None]]:
    """The folders of pictures of a run: where each lies, the windows (motion, first frame) whose first frames may be
    shown, and the bucket that it is of. That of `data.size` comes first, the buckets' of `of` after it.
    """
    c, data = settings.renderer, settings.data
    # No window that training on buckets reads is of data.size alone.
    yield "pictures", list if c.buckets else partial(training_windows, corpus, c.window, c.stride), None
    if of is not None:
        for size in shown_sizes(of):
            cut = Cut(size, of.brought_to(size, crop=data.crop, enlarge=data.enlarge))
            yield f"buckets/{size}.pictures", partial(_windows_of, of, size), cut


def faces_of(settings: Settings, renderer: Renderer, cut: Cut | None) -> int:
    """Of how many frames of each window examples show the face."""
    shown = renderer.transformer.face is not None and settings.renderer.dropout_each.face < 1.0
    return (cut.bucket.frames if cut else settings.renderer.window) if shown else 0


def _windows_of(of: Windows, size: Bucket) -> list[tuple[int, int]]:
    """(motion, first frame) of a bucket's windows."""
    return [(of.motion(row), of.starts[row]) for row in of.plan.members(of.plan.buckets.index(size))]


def corpus_constants(settings: Settings, model: Model) -> bool:
    """Whether pictures that are encoded at a step are normalised by the corpus's constants: a published variant's with
    an autoencoder of the run's own, which has none.
    """
    return VARIANTS[settings.renderer.variant].constants == "vae" and latent_constants(model, settings) is None


def _grey(vae: VideoVAE, params: Any, latents: LatentStore, size: Bucket) -> Float[np.ndarray, "k h w z"]:
    """Normalised latents of a grey video of this size."""
    encode = jax.jit(lambda params: encoder(vae, {"vae": params}, latents.normalise)(jnp.zeros((1, *size, 3))))
    return np.asarray(encode(params))[0]
