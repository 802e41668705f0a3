"""A trained run, opened: its modules and parameters, and what each station reads from its folder when first asked."""

from collections.abc import Collection
from dataclasses import asdict, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Self

from signer_jax import mirror
from signer_jax import workdir as folder
from signer_jax.back_translation.translator import NAME as BACK_TRANSLATION
from signer_jax.data.prepared.reading import opened
from signer_jax.data.streams import spread
from signer_jax.errors import SignerError
from signer_jax.interop import kept
from signer_jax.model import TRAINED, Model
from signer_jax.pose.prior import Prior
from signer_jax.renderer.latents import COPY, LatentStore
from signer_jax.renderer.variants import VARIANTS
from signer_jax.settings import Settings
from signer_jax.slp_moe.retrieval import Retrieval
from signer_jax.slul.tokenizer import Tokenizer
from signer_jax.stations.perform import Performer
from signer_jax.stations.studio import Studio
from signer_jax.stations.taught import Taught
from signer_jax.stations.understand import Linker
from signer_jax.storage import REMAKE
from signer_jax.training import partitioning, signing
from signer_jax.training.held import Weights
from signer_jax.training.there import latest_step
from signer_jax.validation import RENDERS

_NAMES = {"slul": "SLUL", "slp_moe": "SLP-MoE", "renderer": "renderer"}
TEXTS = 10_000  # training texts, spread over the corpus, from which it is learned which gloss a word brings; a second


class Opened:
    """A run's settings, modules and parameters, and its three stations."""

    def __init__(self, settings: Settings, workdir: Path, model: Model, params: dict[str, Any]):
        self.settings, self.workdir, self.model = kept.local(settings, workdir), workdir, model
        self.params = params  # on devices of this process (`partitioning.own_mesh`)
        self.corpus = opened(workdir / "data")
        self.fps = self.corpus.about["fps"] or settings.data.fps or 25.0

    @classmethod
    def load(cls, workdir: str | Path, parts: Collection[str] | None = None) -> Self:
        """The newest checkpoint of every stage; of these `parts` alone, where not all stations are asked.

        Raises `SignerError` where there is no run, or an unfinished one.
        """
        workdir = mirror.path_of(workdir)
        settings, model, params = restored(described(workdir), parts=parts)
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
            search=c.slul.search, length_penalty=c.slul.length_penalty, performs=retrieval.shows if retrieval else None,
            spells=retrieval.spells if retrieval else None, reads_unknown=bool(c.slul.init),
            reads_pieces=c.slul.unknown == "pieces", taught=self.taught,
        )  # fmt: skip

    @cached_property
    def taught(self) -> dict[str, Taught]:
        """By language, of at most `TEXTS` training texts in all."""
        if not self.corpus.count("train", "text"):
            return {}
        records = self.corpus.texts("train")
        texts: dict[str, list[tuple[str, tuple[str, ...]]]] = {}
        for i in spread(len(records), TEXTS):
            sample = records[i]
            texts.setdefault(sample.language, []).append((sample.text, tuple(sample.glosses)))
        return {language: Taught.of(each) for language, each in texts.items()}

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
        check_parts(self.settings, self.workdir, ("renderer",))
        return self._studio(spoken=self.model.renderer.variant.text == "slul" or self.texts is not None)

    @cached_property
    def wordless(self) -> Studio:
        """The studio for poses without a text: no guidance away from what was not said."""
        studio = self.studio
        c = self.settings.renderer
        led = c.guidance_each.text != 1.0 or c.guidance_low_noise not in (0.0, 1.0)
        return self._studio(spoken=False) if led else studio

    def _studio(self, *, spoken: bool) -> Studio:
        model, c = self.model, self.settings
        low = c.renderer.guidance_low_noise
        return Studio.of(
            model.renderer, model.vae, {name: self.params[name] for name in ("renderer", "vae")}, self.latents,
            model.joints, c.pose.dims, size=c.data.size, window=c.renderer.window, guidance=c.renderer.guidance,
            share_noise=c.renderer.shared_noise, seed=c.seed, overlap=c.renderer.overlap,
            null=self.texts.null if self.texts else None, see=self.looks.tokens if self.looks else None,
            guidance_each=vars(c.renderer.guidance_each) | ({} if spoken else {"text": 1.0}),
            guidance_low={"text": low} if spoken and low else {},
        )  # fmt: skip

    # ---- What they read from the run's folder ---------------------------------------------------------------------
    @cached_property
    def tokenizer(self) -> Tokenizer:
        check_parts(self.settings, self.workdir, ("slul",))
        tokenizer = _tokenizer(self.settings, self.workdir)
        if tokenizer is None:
            raise SignerError(f"{self.workdir}: this run has no tokenizer, so it reads no text; restore it")
        return tokenizer

    @cached_property
    def retrieval(self) -> Retrieval:
        check_parts(self.settings, self.workdir, ("slp_moe",))
        c = self.settings
        prior = Prior.open(self.workdir / "prior", REMAKE)
        return Retrieval(prior, self.model.joints, c.pose.dims, c.pose.experts, c.data.max_glosses)

    @cached_property
    def latents(self) -> LatentStore:
        """Of a published model that is shown pictures, with banks of these."""
        store = LatentStore.open(self.workdir / "latents")
        banks = self.looks.banks if self.looks else store.banks
        return replace(store, banks={signer: bank for signer, bank in banks.items() if COPY not in signer})

    @cached_property
    def looks(self) -> signing.Looks | None:
        """A published model's reference pictures, None where the variant is shown none."""
        return signing.open_looks(self.settings, self.workdir)

    @cached_property
    def texts(self) -> signing.Texts | None:
        """A published model's text encoder, None where the run names none."""
        return signing.open_texts(self.settings, self.workdir)


def along(settings: Settings) -> str:
    """The axis of the mesh along which a process's devices share what it does alone (`partitioning.own_mesh`): the
    tokens of a published video model, whose windows are large and few; the rows of a batch elsewhere.
    """
    renders = RENDERS & set(settings.stages) and VARIANTS[settings.renderer.variant].sizes is not None
    return "context" if renders else "fsdp"


def described(workdir: Path) -> Weights:
    """A run, before its parameters are read. Raises `SignerError` where there is none, or an unfinished one."""
    settings = kept.local(folder.load_settings(workdir), workdir)
    check_is_run(settings, workdir)
    tokenizer = _tokenizer(settings, workdir)
    mesh = partitioning.own_mesh(asdict(settings.mesh), along=along(settings))
    weights = Weights.of(settings, tokenizer.vocab_size if tokenizer else 0, workdir, mesh)
    check_finished(settings, workdir)
    return weights


def check_is_run(settings: Settings, workdir: Path) -> None:
    """Raises `SignerError` for the folder of what judges runs."""
    if BACK_TRANSLATION in settings.stages:
        raise SignerError(
            f"{workdir}: holds a back translation, which judges runs and signs nothing; name a run, and give this "
            "folder to `signer evaluate --back-translation`"
        )


def check_finished(settings: Settings, workdir: Path) -> None:
    """Raises `SignerError` where a stage has not taken its last step."""
    check_is_run(settings, workdir)
    for stage in settings.stages:
        directory = mirror.checkpoints(workdir) / stage
        step, steps = latest_step(directory), settings.stage(stage).steps
        if step != steps:
            stands = "has no checkpoint yet" if step is None else f"stands at step {step} of {steps}"
            raise SignerError(f"{workdir}: stage {stage!r} {stands}; run the same `signer train` to finish it")


def restored(weights: Weights, *, parts: Collection[str] | None = None) -> tuple[Settings, Model, dict[str, Any]]:
    """A run's settings, its modules, and their parameters after its last stage, running means where they were kept.
    They lie as signing has them; of these `parts` alone, if any.
    """
    params = weights.ready({}, weights.for_signing(parts), weights.settings.stages)
    return weights.settings, weights.model, params


def check_parts(settings: Settings, workdir: Path, parts: Collection[str]) -> None:
    """Raises `SignerError` where a run lacks one of these: `slul`, `slp_moe`, `renderer`."""
    there = {part for stage in settings.stages for part in TRAINED[stage]}
    there |= {"slul"} if "slp_moe" in there else set()  # a published one
    for part in parts:
        if part in there:
            continue
        renders = "; `signer sign --from-pose FILE.pose` renders a pose" if "renderer" in there else ""
        so = f", so it reads no text{renders}" if part == "slul" else ""
        raise SignerError(f"{workdir}: this run has no {_NAMES[part]} (stages {settings.stages}){so}")


def _tokenizer(settings: Settings, workdir: Path) -> Tokenizer | None:
    path = Path(settings.tokenizer.path) if settings.tokenizer.path else workdir / "tokenizer.model"
    if not path.exists() and "slul" in settings.stages:
        mend = "restore it"
        if not settings.tokenizer.path:
            mend = "run the same `signer train` to make it anew from the same texts"
        raise SignerError(f"{path}: the tokenizer of this run is missing; {mend}")
    return Tokenizer.load(path, mask=settings.tokenizer.mask) if path.exists() else None
