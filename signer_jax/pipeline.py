"""The picture as code: text in, video out.

prompt -> SLUL -> glosses -> SLP-MoE -> pose -> stabiliser -> control -> video transformer -> VAE -> video

from signer_jax import Signer
signed = Signer.load("runs/demo").sign("how do you sign 'house'?")
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from signer_jax import model as models
from signer_jax import workdir as folder
from signer_jax.data.records import Corpus
from signer_jax.data.streams import to_pixels_range
from signer_jax.errors import SignerError, closest
from signer_jax.language import resolve_language
from signer_jax.model import Model
from signer_jax.pose.prior import Entry, Prior
from signer_jax.pose.skeleton import on_joints
from signer_jax.renderer.sampler import colour, shared_noise
from signer_jax.slp_moe.retrieval import Retrieval
from signer_jax.slul.tokenizer import Tokenizer
from signer_jax.stations.perform import Performer, join, perform
from signer_jax.stations.understand import Linker, Understood, semantics, understand
from signer_jax.storage import REMAKE
from signer_jax.training.checkpoints import latest_step, read_params
from signer_jax.training.latents import LatentStore
from signer_jax.types import Pose


@dataclass(frozen=True)
class Signed:
    """What `Signer.sign` returns."""

    glosses: tuple[str, ...]
    pose: Pose
    video: np.ndarray | None  # uint8 [t, h, w, 3]; None where the run has no renderer
    fingerspelled: Sequence[str]  # glosses
    skipped: Sequence[str]
    language: str
    signer: str = ""  # who performs: the signer of most of the signs
    look: str = ""  # the training signer whose look the video has
    unknown: Sequence[str] = ()  # words that no training text of the language has, left out
    remarks: Sequence[str] = ()  # what else became of the text, a line each


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
    def latents(self) -> LatentStore:
        return LatentStore.open(self.workdir / "latents")

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
    def performer(self) -> Performer:
        """The second station, for `stations.perform`."""
        model, c = self.model, self.config
        return Performer(
            model.slul, model.slp_moe, model.stabiliser, self.params, self.tokenizer, self.retrieval,
            target=c.data.max_target, transition=c.pose.transition,
        )  # fmt: skip

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
        banks = self.latents.banks
        if signer is not None and signer not in banks:
            raise SignerError(
                f"signer {signer!r}: no training video{closest(signer, banks)}; known: {', '.join(banks)}"
            )
        if picture is None:
            return banks[signer if signer is not None else next(iter(banks))].typical()
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
        if renderer.hybrid is not None:
            noise = colour(noise, jnp.asarray(self.latents.noise_factor))
        noise = jnp.repeat(noise, batch, 0)
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
        small = on_joints(pose, self.model.joints, self.config.pose.dims) if pose.coordinates.shape[1] == 128 else pose
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
        reference image, uint8 `[h, w, 3]`, `signer` a training signer; else the video looks like the signer who
        performs most of the signs, or, where there is no training video of that one, like the first (`Signed.look`).
        A long text is signed sentence by sentence. Raises `SignerError` for an empty text, one without a known word, an
        unknown language, or glosses that the prior database lacks.
        """
        language = self.language(text, language)
        understood = self.understand([text], [language])
        understood.check()
        rows = [b for b in understood.rows(0) if understood.sentences[b].glosses] or understood.rows(0)[:1]
        H, mask = understood.H[rows], understood.mask[rows]
        parts = [
            perform(understood.sentences[b].glosses, H[i : i + 1], mask[i : i + 1], language, self.performer)
            for i, b in enumerate(rows)
        ]
        performers = [part.signer for part in parts]
        performer = max(dict.fromkeys(performers), key=performers.count)
        video, look = None, ""
        if self.model.renderer is not None:
            look = signer or self.look_of(performer)
            texts = H * mask[..., None]
            references = self.style(style, look)
            video = np.concatenate(
                [self.render(part.pose, references, texts[i : i + 1]) for i, part in enumerate(parts)]
            )
        pose = Pose(
            np.concatenate([part.pose.coordinates for part in parts]),
            np.concatenate([part.pose.confidence for part in parts]),
            parts[0].pose.fps,
        )
        return Signed(
            understood.glosses[0], pose, video, [gloss for part in parts for gloss in part.fingerspelled],
            [gloss for part in parts for gloss in part.skipped], language, performer, look,
            understood.unknown(0), understood.remarks(0),
        )  # fmt: skip

    def look_of(self, signer: str) -> str:
        """A signer's own look where there is a training video of this one, else the first signer's who has one."""
        known = self.latents.banks
        return signer if signer in known else next(iter(known))


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
    pose, _ = join(segments, transition)
    return Signed(tuple(entry.gloss for entry in entries), pose, None, spelled, skipped, language)


def _lookup(prior: Prior, word: str, language: str) -> list[Entry]:
    return prior.variants(word, language) or prior.fingerspell(word, language) or []


def _tokenizer(config: ConfigDict, workdir: Path) -> Tokenizer | None:
    path = Path(config.tokenizer.path) if config.tokenizer.path else workdir / "tokenizer.model"
    return Tokenizer.load(path, mask=config.tokenizer.mask) if path.exists() else None
