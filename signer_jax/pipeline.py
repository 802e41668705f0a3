"""The picture as code: text in, video out.

prompt -> SLUL -> glosses -> SLP-MoE -> pose -> stabiliser -> control -> video transformer -> VAE -> video

from signer_jax import Signer
signed = Signer.load("runs/demo").sign("how do you sign 'house'?")
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from signer_jax import model as models
from signer_jax import workdir as folder
from signer_jax.data.pipeline import to_pixels_range
from signer_jax.data.records import Corpus
from signer_jax.data.retrieval import Experts, Retrieval, reduce
from signer_jax.data.windows import pad
from signer_jax.errors import SignerError, closest
from signer_jax.language import resolve_language
from signer_jax.model import Model
from signer_jax.pose import stitching
from signer_jax.pose.prior import Entry, Prior
from signer_jax.renderer.sampler import colour, shared_noise
from signer_jax.slul.decoding import beam_search
from signer_jax.slul.linker import pool_glosses, shift_right
from signer_jax.slul.tokenizer import Tokenizer
from signer_jax.training.checkpoints import latest_step, read_params
from signer_jax.training.latents import Latents
from signer_jax.types import Pose


@dataclass(frozen=True)
class Retrieved:
    """What became of each gloss: the signs to perform, and what had to be fingerspelled or left out."""

    signs: list[tuple[str, list[Entry | None]]]  # label, the entry of each expert
    fingerspelled: list[str] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Signed:
    """What `Signer.sign` returns."""

    glosses: tuple[str, ...]
    pose: Pose
    video: np.ndarray | None  # uint8 [t, h, w, 3]; None where the run has no renderer
    fingerspelled: list[str]
    skipped: list[str]
    language: str


def retrieve(glosses: Sequence[str], language: str, retrieval: Retrieval) -> Retrieved:
    """Looks every gloss up; one that the database lacks is fingerspelled where it has the letters, else skipped."""
    found = Retrieved([])
    for gloss in glosses:
        slots = retrieval.slots(gloss, language)
        if any(slots):
            found.signs.append((gloss, slots))
            continue
        letters = retrieval.prior.fingerspell(gloss.lstrip("#"), language)
        if letters:
            found.fingerspelled.append(gloss)
            found.signs.extend((letter.gloss, retrieval.slots(letter.gloss, language)) for letter in letters)
        else:
            found.skipped.append(gloss)
    return found


class Signer:
    """A trained run, ready to sign. Its methods are the stations, in order."""

    def __init__(self, config: ConfigDict, workdir: Path, model: Model, params: dict[str, Any]):
        self.config, self.workdir, self.model = config, workdir, model
        self.params = jax.device_put(params, jax.local_devices()[0])
        self.corpus = Corpus(workdir / "data")
        self.fps = self.corpus.about["fps"] or config.data.fps or 25.0

    @classmethod
    def load(cls, workdir: str | Path) -> "Signer":
        """The newest checkpoint of every stage. Raises `SignerError` where there is no run, or an unfinished one."""
        workdir = Path(workdir)
        config = folder.load_config(workdir)
        tokenizer = _tokenizer(config, workdir)
        model, published = models.build(config, tokenizer.vocab_size if tokenizer else 0)
        params: dict[str, Any] = dict(published)
        for stage in config.stages:
            directory = workdir / "checkpoints" / stage
            if latest_step(directory) is None:
                raise SignerError(
                    f"{workdir}: stage {stage!r} has no checkpoint yet; run the same `signer train` to finish it"
                )
            params |= read_params(directory)
        return cls(config, workdir, model, params)

    # ---- What the run left on disk --------------------------------------------------------------------------------
    @cached_property
    def tokenizer(self) -> Tokenizer:
        tokenizer = _tokenizer(self.config, self.workdir)
        if tokenizer is None or self.model.slul is None:
            raise SignerError(
                f"{self.workdir}: this run has no SLUL (stages {tuple(self.config.stages)}), so it reads no text"
            )
        return tokenizer

    @cached_property
    def retrieval(self) -> Retrieval:
        if self.model.slp_moe is None:
            raise SignerError(f"{self.workdir}: this run has no SLP-MoE (stages {tuple(self.config.stages)})")
        c = self.config
        prior = Prior.open(self.workdir / "prior")
        return Retrieval(prior, self.model.joints, c.pose.dims, c.pose.experts, c.data.max_glosses)

    @cached_property
    def latents(self) -> Latents:
        return Latents.open(self.workdir / "latents")

    # ---- Text -> glosses ------------------------------------------------------------------------------------------
    def language(self, text: str, language: str | None) -> str:
        return resolve_language(text, language, self.corpus.about)

    def glosses(self, texts: Sequence[str], languages: Sequence[str]) -> list[tuple[str, ...]]:
        """The best beam of each text."""
        c = self.config
        source = np.stack(
            [
                pad(self.tokenizer.encode_source(t, code), c.data.max_source)
                for t, code in zip(texts, languages, strict=True)
            ]
        )
        ids, _ = beam_search(
            self.model.slul, self.params["slul"], jnp.asarray(source), beams=c.slul.beams,
            max_length=c.data.max_target, length_penalty=c.slul.length_penalty,
            allowed=jnp.asarray(self.tokenizer.gloss_ids),
        )  # fmt: skip
        return [self.tokenizer.decode_gloss(row) for row in np.asarray(ids[:, 0])]

    # ---- Glosses -> pose ------------------------------------------------------------------------------------------
    @cached_property
    def _encode(self):
        return jax.jit(lambda params, source: self.model.slul.apply({"params": params}, source, method="encode"))

    @cached_property
    def _weigh(self):
        def weigh(params: dict, H: Any, mask: Any, experts: Any, query: Any) -> Any:
            return self.model.slp_moe.apply({"params": params}, H, mask, *experts, gloss_query=query, method="weigh")

        return jax.jit(weigh)

    @cached_property
    def _query(self):
        def query(params: dict, target: Any, H: Any, mask: Any, belongs: Any, glosses: int) -> Any:
            states = self.model.slul.apply({"params": params}, shift_right(target), H, mask, method="decode")
            return pool_glosses(states, belongs, glosses)[0]

        return jax.jit(query, static_argnums=5)

    @cached_property
    def _stabilise(self):
        def stabilise(params: dict, pose: Any, confidence: Any, valid: Any) -> Any:
            return self.model.stabiliser.apply({"params": params}, pose, confidence, valid)

        return jax.jit(stabilise)

    def semantics(self, text: str, language: str) -> tuple[np.ndarray, np.ndarray]:
        """H `[1, s, d]` and its mask `[1, s]`."""
        source = pad(self.tokenizer.encode_source(text, language) if text else [], self.config.data.max_source)[None]
        return np.asarray(self._encode(self.params["slul"], source)), source != 0

    def gate(self, text: str, language: str, glosses: Sequence[str], experts: Experts) -> np.ndarray:
        """The experts' weights for each gloss, `[n, e]`; zeros where a gloss has no candidate."""
        H, mask = self.semantics(text, language)
        n = experts.mask.shape[0]
        query = None
        if self.config.pose.gating == "gloss":
            ids = self.tokenizer.encode_gloss(glosses)
            length = self.config.data.max_target
            belongs = np.full(length, -1, np.int32)
            index = self.tokenizer.gloss_index(ids)[:length]
            belongs[: len(index)] = index
            query = self._query(self.params["slul"], pad(ids, length)[None], H, mask, belongs[None], n)
        seen = experts.mask & (experts.frame_gloss.sum(axis=0) > 0)[:, None]
        arrays = (experts.candidates, experts.confidence, seen, experts.frame_gloss)
        return np.asarray(self._weigh(self.params["slp_moe"], H, mask, tuple(a[None] for a in arrays), query))[0]

    def stabilise(self, pose: Pose) -> Pose:
        """Refines a pose on the models' joints; padded to a multiple of 32 frames, so that few lengths are compiled."""
        total = -(-len(pose) // 32) * 32
        extra = ((0, total - len(pose)), (0, 0), (0, 0))
        stable = self._stabilise(
            self.params["stabiliser"],
            np.pad(pose.coordinates, extra, mode="edge")[None],
            np.pad(pose.confidence, extra[:2], mode="edge")[None],
            (np.arange(total) < len(pose))[None],
        )
        return Pose(np.asarray(stable)[0, : len(pose)], pose.confidence, pose.fps)

    def perform(self, text: str, language: str, glosses: Sequence[str]) -> tuple[Pose, Retrieved]:
        """Retrieval, the top expert's candidates at their own length, stitching, the stabiliser. All 128 joints.

        Raises `SignerError` where the database knows none of the glosses.
        """
        found = retrieve(glosses, language, self.retrieval)
        if not found.signs:
            raise SignerError(
                f"glosses {' '.join(glosses) or '(none)'}: the prior knows none of them for language {language}"
            )
        # The candidates on one timeline, for the gates: each gloss as long as its candidates are on average.
        gap = max(1, round(self.config.pose.transition * self.retrieval.prior.fps))
        chosen: list[Entry] = []
        limit = self.config.data.max_glosses
        for i in range(0, len(found.signs), limit):
            part = found.signs[i : i + limit]
            slots = [row for _, row in part]
            lengths = [int(np.mean([entry.end - entry.start for entry in row if entry is not None])) for row in slots]
            spans, total = _spans(lengths, gap)
            experts = pad_experts(self.retrieval.on_timeline(slots, spans, total))
            weights = self.gate(text, language, glosses[i : i + limit], experts)
            for row, gates in zip(slots, weights, strict=False):
                chosen.append(row[int(np.argmax(gates))] or next(entry for entry in row if entry is not None))
        segments = [self.retrieval.prior.pose(entry) for entry in chosen]
        pose = join(segments, self.config.pose.transition, self.retrieval.prior.rest(chosen[0].signer))
        stable = self.stabilise(reduce(pose, self.model.joints, self.config.pose.dims))
        coordinates = pose.coordinates.copy()
        coordinates[:, self.model.joints, : self.config.pose.dims] = stable.coordinates
        return Pose(coordinates, pose.confidence, pose.fps), found

    # ---- Pose -> video --------------------------------------------------------------------------------------------
    @cached_property
    def _render(self):
        c = self.config.renderer

        def render(params: dict, noise: Any, conditions: dict) -> Any:
            clean = self.model.renderer.render(params["renderer"], noise, **conditions, guidance=c.guidance)
            return self.model.vae.apply({"params": params["vae"]}, self.latents.denormalise(clean), method="decode")

        return jax.jit(render)

    def style(self, picture: np.ndarray | None = None, signer: str | None = None) -> np.ndarray:
        """Reference latents `[h, w, z]`: of a picture, uint8 `[h, w, 3]`, or of a training signer's typical frame.

        Without either, the first signer's.

        Raises `SignerError` for a signer without training videos or a picture of another size.
        """
        references = self.latents.references
        if signer is not None and signer not in references:
            raise SignerError(
                f"signer {signer!r}: no training video{closest(signer, references)}; known: {', '.join(references)}"
            )
        if picture is None:
            return references[signer if signer is not None else next(iter(references))].typical()
        size = self.config.data.size
        if picture.shape[:2] != (size, size):
            raise SignerError(
                f"style: the reference image is {picture.shape[1]}x{picture.shape[0]}, this run needs {size}x{size}"
            )
        return self.latents.normalise(np.asarray(self._encode_video(self.params["vae"], picture[None, None]))[0, 0])

    @cached_property
    def _encode_video(self):
        encode = partial(self.model.vae.apply, method="encode")
        return jax.jit(lambda params, video: encode({"params": params}, video / 127.5 - 1.0)[0])

    @cached_property
    def _decode_video(self):
        return jax.jit(lambda params, latents: self.model.vae.apply({"params": params}, latents, method="decode"))

    def picture(self, reference: np.ndarray) -> np.ndarray:
        """uint8 `[h, w, 3]`: what reference latents show."""
        latents = self.latents.denormalise(reference)[None, None]
        return to_pixels_range(self._decode_video(self.params["vae"], latents))[0, 0]

    def roundtrip(self, video: np.ndarray) -> np.ndarray:
        """uint8 `[b, t, h, w, 3]` through the autoencoder and back."""
        return to_pixels_range(self._decode_video(self.params["vae"], self._encode_video(self.params["vae"], video)))

    def render_windows(
        self,
        pose: np.ndarray,
        confidence: np.ndarray,
        references: np.ndarray,
        text: np.ndarray | None,
        batch: int = 4,
        renderer_params: Any = None,
    ) -> np.ndarray:
        """uint8 `[b, t, h, w, 3]` of windows `[b, t, j, c]`, each with its reference `[b, h, w, z]`; text `[b, s, d]`.

        `renderer_params` take the place of the run's own.
        """
        params = self.params if renderer_params is None else {**self.params, "renderer": renderer_params}
        renderer, rows = self.model.renderer, len(pose)
        if renderer is None:
            raise SignerError(f"{self.workdir}: this run has no renderer (stages {tuple(self.config.stages)})")
        conditions = {"pose": pose, "confidence": confidence, "reference": references}
        conditions["text"] = np.asarray(renderer.text(None, None, rows)) if text is None else text
        # The same noise for every window: what does not move looks the same in all of them.
        shape = (1, 1 + (pose.shape[1] - 1) // renderer.temporal_ratio, *references.shape[1:])
        noise = shared_noise(jax.random.key(self.config.seed), shape, shared=self.config.renderer.shared_noise)
        noise = jnp.repeat(colour(noise, jnp.asarray(self.latents.noise_factor)), batch, 0)
        videos = []
        for i in range(0, rows, batch):
            missing = max(0, i + batch - rows)  # the last batch is filled with its last row
            part = {
                name: np.concatenate([a[i : i + batch], np.repeat(a[-1:], missing, 0)])
                for name, a in conditions.items()
            }
            videos.append(to_pixels_range(self._render(params, noise, part))[: rows - i])
        return np.concatenate(videos)

    def render(
        self, pose: Pose, reference: np.ndarray, text: np.ndarray | None = None, *, renderer: Any = None
    ) -> np.ndarray:
        """uint8 `[t, h, w, 3]`: the pose cut into windows, each rendered with the same reference and noise.

        `renderer`: other parameters than the run's own.
        """
        length = self.config.renderer.window
        small = reduce(pose, self.model.joints, self.config.pose.dims) if pose.coordinates.shape[1] == 128 else pose
        count = -(-len(small) // length)
        index = np.minimum(np.arange(count * length), len(small) - 1).reshape(count, length)
        texts = None if text is None else np.repeat(text, count, 0)
        references = np.repeat(reference[None], count, 0)
        video = self.render_windows(
            small.coordinates[index], small.confidence[index], references, texts, renderer_params=renderer
        )
        return video.reshape(-1, *video.shape[2:])[: len(small)]

    # ---- The whole chain ------------------------------------------------------------------------------------------
    def sign(
        self, text: str, *, language: str | None = None, style: np.ndarray | None = None, signer: str | None = None
    ) -> Signed:
        """Text or a prompt in, glosses, pose and video out.

        `language` is the sign language's IANA code, found from the text's words where it is not given. `style` is a
        reference image, uint8 `[h, w, 3]`; else a training signer's look is used.
        Raises `SignerError` for an empty text, an unknown language, or glosses that the prior database lacks.
        """
        language = self.language(text, language)
        glosses = self.glosses([text], [language])[0]
        pose, found = self.perform(text, language, glosses)
        video = None
        if self.model.renderer is not None:
            H, mask = self.semantics(text, language)
            video = self.render(pose, self.style(style, signer), H * mask[..., None])
        return Signed(glosses, pose, video, found.fingerspelled, found.skipped, language)


def sign_from_prior(prior: Prior, text: str, language: str | None, transition: float) -> Signed:
    """Words straight from a pose database, without a model: each word is looked up, or fingerspelled. No video.

    Raises `SignerError` for an empty text, an ambiguous language, or where nothing could be found.
    """
    words = tuple(word.strip(".,;:!?'\"()") for word in text.split())
    words = tuple(word for word in words if word)
    if not words:
        raise SignerError("the text is empty; give at least one word")
    codes = sorted(prior.languages)
    if language is None:
        best = {code: sum(bool(_lookup(prior, word, code)) for word in words) for code in codes}
        language = max(codes, key=lambda code: best[code])
    elif language not in codes:
        raise SignerError(f"language {language!r}: the prior has {', '.join(codes)}")
    entries: list[Entry] = []
    spelled, skipped = [], []
    for word in words:
        found = prior.variants(word, language)[:1]
        if not found and (letters := prior.fingerspell(word, language)):
            found = letters
            spelled.append(word)
        if not found:
            skipped.append(word)
        entries += found
    if not entries:
        raise SignerError(
            f"{' '.join(words)}: the prior has neither the words nor their letters for language {language}"
        )
    segments = [prior.pose(entry) for entry in entries]
    pose = join(segments, transition)
    return Signed(tuple(entry.gloss for entry in entries), pose, None, spelled, skipped, language)


def join(segments: Sequence[Pose], transition: float, rest: Pose | None = None) -> Pose:
    """One pose from signs at their own length, `transition` seconds between two.

    It begins and ends in the rest pose, or, without one, holds its edges for as long as a transition.
    """
    fps = segments[0].fps
    spans, total = stitching.timeline(segments, transition, fps)
    edge = round(transition * fps) + (0 if rest is None else round(stitching.REST_SECONDS * fps))
    return stitching.stitch(segments, spans + edge, total + 2 * edge, fps=fps, rest=rest)


def _lookup(prior: Prior, word: str, language: str) -> list[Entry]:
    return prior.variants(word, language) or prior.fingerspell(word, language) or []


def _spans(lengths: Sequence[int], gap: int) -> tuple[np.ndarray, int]:
    """Spans of segments of these lengths with `gap` frames around each, and the total."""
    starts = gap + np.concatenate([[0], np.cumsum(np.array(lengths[:-1], np.int64) + gap)]).astype(np.int32)
    spans = np.stack([starts, starts + np.array(lengths, np.int32)], axis=1)
    return spans, int(spans[-1, 1]) + gap


def pad_experts(experts: Experts, multiple: int = 32) -> Experts:
    """Fills the timeline up to a multiple of frames that belong to no gloss, so that few lengths are compiled."""
    extra = -experts.candidates.shape[1] % multiple
    return Experts(
        np.pad(experts.candidates, ((0, 0), (0, extra), (0, 0), (0, 0)), mode="edge"),
        np.pad(experts.confidence, ((0, 0), (0, extra), (0, 0))),
        experts.mask,
        np.pad(experts.frame_gloss, ((0, extra), (0, 0))),
    )


def _tokenizer(config: ConfigDict, workdir: Path) -> Tokenizer | None:
    path = Path(config.tokenizer.path) if config.tokenizer.path else workdir / "tokenizer.model"
    return Tokenizer.load(path, mask=config.tokenizer.mask) if path.exists() else None
