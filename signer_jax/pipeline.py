"""The picture as code: text in, video out.

prompt -> SLUL -> glosses -> SLP-MoE -> pose -> stabiliser -> control -> video transformer -> VAE -> video

from signer_jax import Signer
signed = Signer.load("runs/demo").sign("tomorrow i will open the door")
"""

from collections.abc import Collection
from dataclasses import asdict, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from signer_jax import workdir as folder
from signer_jax.data.records import Corpus
from signer_jax.data.streams import spread
from signer_jax.errors import SignerError
from signer_jax.interop import kept
from signer_jax.language import resolve_language
from signer_jax.model import Model
from signer_jax.pose.prior import Prior
from signer_jax.pose.stitching import resample
from signer_jax.progress import progress
from signer_jax.renderer.latents import LatentStore
from signer_jax.settings import Settings
from signer_jax.slp_moe.retrieval import Retrieval
from signer_jax.slul.tokenizer import Tokenizer
from signer_jax.stations.meanings import meanings_of
from signer_jax.stations.perform import Performer, perform
from signer_jax.stations.render import Rendered, Studio, look_of, render
from signer_jax.stations.render import style as style_of
from signer_jax.stations.understand import Linker, understand
from signer_jax.storage import REMAKE
from signer_jax.training import conditions, partitioning
from signer_jax.training.checkpoints import latest_step
from signer_jax.training.held import Weights
from signer_jax.types import Pose, Signed

MANY = 3  # sentences: what has more shows how far it is
TEXTS = 10_000  # training texts, spread over the corpus, from which it is learned which gloss a word brings; a second


class Signer:
    """A trained run, ready to sign: its three stations, and `sign`, which goes through them in order."""

    def __init__(self, settings: Settings, workdir: Path, model: Model, params: dict[str, Any]):
        self.settings, self.workdir, self.model = kept.local(settings, workdir), workdir, model
        self.params = params  # on devices of this process (`partitioning.own_mesh`)
        self.corpus = Corpus(workdir / "data")
        self.fps = self.corpus.about["fps"] or settings.data.fps or 25.0

    @classmethod
    def load(cls, workdir: str | Path, parts: Collection[str] | None = None) -> "Signer":
        """The newest checkpoint of every stage; of these `parts` alone, where not all stations are asked.

        Raises `SignerError` where there is no run, or an unfinished one.
        """
        workdir = Path(workdir)
        settings, model, params = restored(workdir, parts=parts)
        return cls(settings, workdir, model, params)

    # ---- The stations: each a struct for the functions of its file under `stations/` ------------------------------
    @cached_property
    def linker(self) -> Linker:
        """Text -> glosses, for `stations.understand`."""
        c, about, tokenizer = self.settings, self.corpus.about, self.tokenizer  # refused where there is no SLUL
        retrieval = self.retrieval if self.model.slp_moe is not None else None
        return Linker.of(
            self.model.slul, self.params["slul"], tokenizer, about["words"], about["glosses"],
            spoken=about["languages"], max_source=c.data.max_source, max_target=c.data.max_target, beams=c.slul.beams,
            length_penalty=c.slul.length_penalty, performs=retrieval.shows if retrieval else None,
            spells=retrieval.spells if retrieval else None, reads_unknown=bool(c.slul.init),
            meanings=self.meanings,
        )  # fmt: skip

    @cached_property
    def meanings(self) -> dict[str, dict[str, str]]:
        """By language, the gloss that a word always brings, of at most `TEXTS` training texts."""
        if not self.corpus.count("train", "text"):
            return {}
        records = self.corpus.texts("train")
        samples = [records[i] for i in spread(len(records), TEXTS)]
        return {
            one: meanings_of((sample.text, sample.glosses) for sample in samples if sample.language == one)
            for one in sorted({sample.language for sample in samples})
        }

    @cached_property
    def performer(self) -> Performer:
        """Glosses -> pose, for `stations.perform`."""
        model, c = self.model, self.settings
        return Performer(
            model.slul, model.slp_moe, model.stabiliser, self.params, self.tokenizer, self.retrieval,
            target=c.data.max_target, transition=c.pose.transition,
        )  # fmt: skip

    @cached_property
    def studio(self) -> Studio:
        """Pose -> video, for `stations.render`."""
        if self.model.renderer is None:
            raise self._lacks("renderer")
        model, c = self.model, self.settings
        return Studio.of(
            model.renderer, model.vae, {name: self.params[name] for name in ("renderer", "vae")}, self.latents,
            model.joints, c.pose.dims, size=c.data.size, window=c.renderer.window, guidance=c.renderer.guidance,
            share_noise=c.renderer.shared_noise, seed=c.seed, overlap=c.renderer.overlap,
            null=self.texts.null if self.texts else None, see=self.looks.tokens if self.looks else None,
            guidance_each=vars(c.renderer.guidance_each),
        )  # fmt: skip

    # ---- What they read from the run's folder ---------------------------------------------------------------------
    @cached_property
    def tokenizer(self) -> Tokenizer:
        tokenizer = None if self.model.slul is None else _tokenizer(self.settings, self.workdir)
        if tokenizer is None:
            renders = "; `signer sign --from-pose FILE.pose` renders a pose" if self.model.renderer is not None else ""
            raise self._lacks("SLUL", f", so it reads no text{renders}")
        return tokenizer

    @cached_property
    def retrieval(self) -> Retrieval:
        if self.model.slp_moe is None:
            raise self._lacks("SLP-MoE")
        c = self.settings
        prior = Prior.open(self.workdir / "prior", REMAKE)
        return Retrieval(prior, self.model.joints, c.pose.dims, c.pose.experts, c.data.max_glosses)

    @cached_property
    def latents(self) -> LatentStore:
        """Of a published model that is shown pictures, with banks of these."""
        store = LatentStore.open(self.workdir / "latents")
        return replace(store, banks=self.looks.banks) if self.looks else store

    @cached_property
    def looks(self) -> conditions.Looks | None:
        """A published model's reference pictures, None where the variant is shown none."""
        return conditions.open_looks(self.settings, self.workdir)

    @cached_property
    def texts(self) -> conditions.Texts | None:
        """A published model's text encoder, None where the run names none."""
        return conditions.open_texts(self.settings, self.workdir)

    def _lacks(self, part: str, so: str = "") -> SignerError:
        return SignerError(f"{self.workdir}: this run has no {part} (stages {self.settings.stages}){so}")

    # ---- The whole chain ------------------------------------------------------------------------------------------
    def language(self, text: str, language: str | None = None) -> tuple[str, str]:
        """The sign language that is asked for, or else that of the text's words, and what to say of the choice ("":
        nothing). Raises `SignerError` for others.
        """
        return resolve_language(text, language, self.corpus.about)

    def sign(
        self, text: str, *, language: str | None = None, style: np.ndarray | None = None, signer: str | None = None
    ) -> Signed:
        """Text or a prompt in, glosses, pose and video out.

        `language` is the sign language's IANA code, found from the text's words where it is not given. `style` is a
        reference image, uint8 `[h, w, 3]`, `signer` a training signer; else the video looks like the signer who
        performs most of the signs, or, where there is no training video of that one, like the first (`Signed.look`,
        which is "" for a picture, and where the video model is shown none: there `signer` says nothing).
        A text is signed sentence by sentence. Raises `SignerError` for an empty text, one without a known word, an
        unknown language, glosses that the prior database lacks, or a style that the video model is not shown.
        """
        self._check_style(style)
        with partitioning.on_mesh_of(self.params):
            return self._sign(text, language, style, signer)

    def film(
        self, pose: Pose, *, text: str = "", style: np.ndarray | None = None, signer: str | None = None
    ) -> Rendered:
        """A pose in, a video at the run's frame rate out: of a run without SLUL too.

        `pose` is normalised (`skeleton.normalise`). `text` is what the run's text encoder reads beside it; SLUL's
        features are left out. `style`, `signer`: see `sign`. Raises `SignerError` where the run has no renderer, for a
        text without a text encoder, or a style that the video model is not shown.
        """
        studio = self.studio
        self._check_style(style)
        if text and self.texts is None:
            raise SignerError(
                f"{self.workdir}: this run has no text encoder (config.renderer.text_encoder), so no text can go with "
                "a pose; leave it out"
            )
        pose = resample(pose, max(1, round(len(pose) / pose.fps * self.fps)), fps=self.fps)
        with partitioning.on_mesh_of(self.params):
            states = None
            if self.texts is not None:
                states = self.texts.of([text])[0] if text else self.texts.null
            return render(pose, style_of(studio, picture=style, signer=signer or ""), None, None, studio, states)

    def _check_style(self, style: np.ndarray | None) -> None:
        renderer = self.model.renderer
        if style is not None and renderer is not None and not renderer.variant.takes_picture:
            raise SignerError(
                f"{self.workdir}: the video model ({self.settings.renderer.variant}) is shown no picture of a signer, "
                "so a style has no effect; leave it out"
            )

    def _sign(self, text: str, language: str | None, style: np.ndarray | None, signer: str | None) -> Signed:
        asked, (language, said) = language, self.language(text, language)
        understood = understand([text], [language], self.linker)
        understood.check(asked and language)
        understood.require_glosses(0)
        rows = understood.signed_rows(0)
        H, mask = understood.H[rows], understood.mask[rows]
        many = len(rows) > MANY  # a long text takes minutes
        performed = [
            perform(understood.sentences[b].glosses, H[i : i + 1], mask[i : i + 1], language, self.performer)
            for i, b in enumerate(progress(rows, "sentences performed", shown=many))
        ]
        performers = [part.signer for part in performed]
        performer = max(dict.fromkeys(performers), key=performers.count)
        video, look = None, ""
        if self.model.renderer is not None:
            chosen = style_of(self.studio, picture=style, signer=signer or look_of(performer, self.studio))
            look = chosen.signer if self.model.renderer.variant.takes_picture else ""
            said_by = [understood.sentences[b].text for b in rows]
            states = self.texts.of(said_by) if self.texts else [None] * len(rows)
            shown = progress(performed, "sentences rendered", shown=many)
            rendered = [
                render(part.pose, chosen, H[i : i + 1], mask[i : i + 1], self.studio, states[i])
                for i, part in enumerate(shown)
            ]
            video = np.concatenate([part.video for part in rendered])
        return Signed(
            understood.glosses[0], Pose.joined([part.pose for part in performed]), video,
            [gloss for part in performed for gloss in part.fingerspelled],
            [gloss for part in performed for gloss in part.skipped], language, performer, look,
            understood.unknown(0), [*([said] if said else ()), *understood.remarks(0)],
        )  # fmt: skip


def restored(
    workdir: Path, *, parts: Collection[str] | None = None, whole: bool = False
) -> tuple[Settings, Model, dict[str, Any]]:
    """A run's settings, its modules, and their parameters after its last stage: adapters merged, running means where
    they were kept. They lie as signing has them, or `whole`, as they were trained; of these `parts` alone, if any.

    Raises `SignerError` where there is no run, or an unfinished one.
    """
    settings = kept.local(folder.load_settings(workdir), workdir)
    tokenizer = _tokenizer(settings, workdir)
    mesh = partitioning.own_mesh(asdict(settings.mesh))
    weights = Weights.of(settings, tokenizer.vocab_size if tokenizer else 0, workdir, mesh)
    for stage in settings.stages:
        directory = workdir / "checkpoints" / stage
        step, steps = latest_step(directory), settings.stage(stage).steps
        if step != steps:
            stands = "has no checkpoint yet" if step is None else f"stands at step {step} of {steps}"
            raise SignerError(f"{workdir}: stage {stage!r} {stands}; run the same `signer train` to finish it")
    kinds = weights.whole(parts) if whole else weights.for_signing(parts)
    return settings, weights.model, weights.ready({}, kinds, settings.stages)


def _tokenizer(settings: Settings, workdir: Path) -> Tokenizer | None:
    path = Path(settings.tokenizer.path) if settings.tokenizer.path else workdir / "tokenizer.model"
    if not path.exists() and "slul" in settings.stages:
        mend = "restore it"
        if not settings.tokenizer.path:
            mend = "run the same `signer train` to make it anew from the same texts"
        raise SignerError(f"{path}: the tokenizer of this run is missing; {mend}")
    return Tokenizer.load(path, mask=settings.tokenizer.mask) if path.exists() else None
