"""The picture as code: text in, video out.

prompt -> SLUL -> glosses -> SLP-MoE -> pose -> stabiliser -> control -> video transformer -> VAE -> video

from signer_jax import Signer
signed = Signer.load("runs/demo").sign("how do you sign 'house'?")
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from signer_jax import model as models
from signer_jax import workdir as folder
from signer_jax.data.pipeline import to_model_range, to_pixels_range
from signer_jax.data.records import Corpus
from signer_jax.data.retrieval import Experts, Retrieval, reduce
from signer_jax.data.windows import pad
from signer_jax.errors import SignerError, closest
from signer_jax.language import resolve_language
from signer_jax.model import Model
from signer_jax.pose import stitching
from signer_jax.pose.prior import Entry, Prior
from signer_jax.renderer.references import References, latent_frame_times, part_positions
from signer_jax.renderer.sampler import shared_noise
from signer_jax.slul.linker import pool_glosses, shift_right
from signer_jax.slul.tokenizer import Tokenizer
from signer_jax.stations.understand import Linker, Understood, semantics, understand
from signer_jax.storage import REMAKE
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
    unknown: list[str] = field(default_factory=list)  # words that no training text of the language has, left out
    remarks: list[str] = field(default_factory=list)  # what else became of the text, a line each


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
            step, steps = latest_step(directory), config.train[stage].steps
            if step != steps:
                stands = "has no checkpoint yet" if step is None else f"stands at step {step} of {steps}"
                raise SignerError(f"{workdir}: stage {stage!r} {stands}; run the same `signer train` to finish it")
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
        prior = Prior.open(self.workdir / "prior", REMAKE)
        return Retrieval(prior, self.model.joints, c.pose.dims, c.pose.experts, c.data.max_glosses)

    @cached_property
    def latents(self) -> Latents:
        parts = part_positions(self.config.renderer.reference_parts, self.model.joints)
        return Latents.open(self.workdir / "latents", parts)

    # ---- Text -> glosses ------------------------------------------------------------------------------------------
    def language(self, text: str, language: str | None) -> str:
        return resolve_language(text, language, self.corpus.about)

    @cached_property
    def linker(self) -> Linker:
        c, about = self.config, self.corpus.about
        retrieval = self.retrieval if self.model.slp_moe is not None else None

        def spells(word: str, language: str) -> bool:
            return bool(retrieval and retrieval.prior.fingerspell(word, language))

        def performs(gloss: str, language: str) -> bool:
            return bool(retrieval and any(retrieval.slots(gloss, language))) or spells(gloss.lstrip("#"), language)

        return Linker.of(
            self.model.slul, self.params["slul"], self.tokenizer, about["words"], about["glosses"],
            max_source=c.data.max_source, max_target=c.data.max_target, beams=c.slul.beams,
            length_penalty=c.slul.length_penalty, performs=performs if retrieval else None,
            spells=spells if retrieval else None, reads_unknown=bool(c.slul.init),
        )  # fmt: skip

    def understand(self, texts: Sequence[str], languages: Sequence[str]) -> Understood:
        """H and the glosses of each text, and what could not be read of it."""
        return understand(texts, languages, self.linker)

    def glosses(self, texts: Sequence[str], languages: Sequence[str]) -> list[tuple[str, ...]]:
        """The best beam of each text."""
        return self.understand(texts, languages).glosses

    def semantics(self, text: str, language: str) -> tuple[np.ndarray, np.ndarray]:
        """H `[1, s, d]` and its mask `[1, s]`."""
        H, mask = semantics(text, language, self.linker)
        return np.asarray(H), mask

    # ---- Glosses -> pose ------------------------------------------------------------------------------------------
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

    def gate(self, H: np.ndarray, mask: np.ndarray, glosses: Sequence[str], experts: Experts) -> np.ndarray:
        """The experts' weights for each gloss, `[n, e]`, from H `[1, s, d]`; zeros where a gloss has no candidate."""
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

    def perform(self, H: np.ndarray, mask: np.ndarray, language: str, glosses: Sequence[str]) -> tuple[Pose, Retrieved]:
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
            weights = self.gate(H, mask, glosses[i : i + limit], experts)
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
            clean = self.model.renderer.render(
                params["renderer"], noise, **conditions, steps=c.steps, shift=c.shift, guidance=c.guidance
            )
            return self.model.vae.apply({"params": params["vae"]}, self.latents.denormalise(clean), method="decode")

        return jax.jit(render)

    def style(self, picture: np.ndarray | None = None, signer: str | None = None) -> References:
        """The reference frames of a training signer (the first, if none is named), or one picture, uint8 `[h, w, 3]`.

        Raises `SignerError` for a signer without training videos or a picture of another size.
        """
        references = self.latents.references
        if signer is not None and signer not in references:
            raise SignerError(
                f"signer {signer!r}: no training video{closest(signer, references)}; known: {', '.join(references)}"
            )
        bank = references[signer if signer is not None else next(iter(references))]
        if picture is None:
            return bank
        size = self.config.data.size
        if picture.shape[:2] != (size, size):
            raise SignerError(
                f"style: the reference image is {picture.shape[1]}x{picture.shape[0]}, this run needs {size}x{size}"
            )
        mean, _ = self.model.vae.apply(
            {"params": self.params["vae"]}, to_model_range(picture)[None, None], method="encode"
        )
        return bank.of_picture(self.latents.normalise(np.asarray(mean)[0, 0]))

    def render_windows(
        self,
        pose: np.ndarray,
        confidence: np.ndarray,
        references: Sequence[References],
        text: np.ndarray | None,
        batch: int = 4,
    ) -> np.ndarray:
        """uint8 `[b, t, h, w, 3]` of windows `[b, t, j, c]`, each with its references, and text `[b, s, d]`."""
        renderer, rows = self.model.renderer, len(pose)
        if renderer is None:
            raise SignerError(f"{self.workdir}: this run has no renderer (stages {tuple(self.config.stages)})")
        times = latent_frame_times(pose.shape[1], renderer.temporal_ratio)
        taken = [bank.take(bank.nearest(pose[i, times], confidence[i, times])) for i, bank in enumerate(references)]
        conditions = {name: np.stack([one[name] for one in taken]) for name in taken[0]}
        conditions |= {"pose": pose, "confidence": confidence}
        conditions["text"] = np.asarray(renderer.text(None, None, rows)) if text is None else text
        # The same noise for every window: what does not move looks the same in all of them.
        _, k, h, w, _, z = conditions["reference"].shape
        noise = shared_noise(
            jax.random.key(self.config.seed), (1, k, h, w, z), shared=self.config.renderer.shared_noise
        )
        noise = jnp.repeat(noise, batch, 0)
        videos = []
        for i in range(0, rows, batch):
            missing = max(0, i + batch - rows)  # the last batch is filled with its last row
            part = {
                name: np.concatenate([a[i : i + batch], np.repeat(a[-1:], missing, 0)])
                for name, a in conditions.items()
            }
            videos.append(to_pixels_range(self._render(self.params, noise, part))[: rows - i])
        return np.concatenate(videos)

    def render(self, pose: Pose, references: References, text: np.ndarray | None = None) -> np.ndarray:
        """uint8 `[t, h, w, 3]`: the pose cut into windows, each rendered with the same references and noise."""
        length = self.config.renderer.window
        small = reduce(pose, self.model.joints, self.config.pose.dims) if pose.coordinates.shape[1] == 128 else pose
        count = -(-len(small) // length)
        index = np.minimum(np.arange(count * length), len(small) - 1).reshape(count, length)
        texts = None if text is None else np.repeat(text, count, 0)
        video = self.render_windows(small.coordinates[index], small.confidence[index], [references] * count, texts)
        return video.reshape(-1, *video.shape[2:])[: len(small)]

    # ---- The whole chain ------------------------------------------------------------------------------------------
    def sign(
        self, text: str, *, language: str | None = None, style: np.ndarray | None = None, signer: str | None = None
    ) -> Signed:
        """Text or a prompt in, glosses, pose and video out.

        `language` is the sign language's IANA code, found from the text's words where it is not given. `style` is a
        reference image, uint8 `[h, w, 3]`; else a training signer's look is used.
        A long text is signed sentence by sentence. Raises `SignerError` for an empty text, one without a known word, an
        unknown language, or glosses that the prior database lacks.
        """
        language = self.language(text, language)
        understood = self.understand([text], [language])
        understood.check()
        rows = understood.rows(0)
        references = self.style(style, signer) if self.model.renderer is not None else None
        poses, videos = [], []
        fingerspelled: list[str] = []
        skipped: list[str] = []
        for b in [b for b in rows if understood.sentences[b].glosses] or rows[:1]:
            H, mask = understood.H[b : b + 1], understood.mask[b : b + 1]
            pose, found = self.perform(H, mask, language, understood.sentences[b].glosses)
            poses.append(pose)
            fingerspelled += found.fingerspelled
            skipped += found.skipped
            if references is not None:
                videos.append(self.render(pose, references, H * mask[..., None]))
        whole = Pose(
            np.concatenate([pose.coordinates for pose in poses]),
            np.concatenate([pose.confidence for pose in poses]),
            poses[0].fps,
        )
        return Signed(
            understood.glosses[0], whole, np.concatenate(videos) if videos else None, fingerspelled, skipped, language,
            understood.unknown(0), understood.remarks(0),
        )  # fmt: skip


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
