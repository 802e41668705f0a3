"""The picture as code: text in, video out.

prompt -> SLUL -> glosses -> SLP-MoE -> pose -> stabiliser -> control -> video transformer -> VAE -> video

from signer_jax import Signer
signed = Signer.load("runs/demo").sign("tomorrow i will open the door")
"""

from pathlib import Path

import numpy as np

from signer_jax import mirror
from signer_jax import workdir as folder
from signer_jax.data.records import Corpus
from signer_jax.errors import SignerError
from signer_jax.language import resolve_language
from signer_jax.model import TRAINED
from signer_jax.opened import Opened, check_finished, check_parts
from signer_jax.pose.stitching import resample
from signer_jax.progress import progress
from signer_jax.renderer.variants import VARIANTS
from signer_jax.settings import Settings
from signer_jax.stations.perform import most_by, perform
from signer_jax.stations.render import Rendered, look_of, render
from signer_jax.stations.render import style as style_of
from signer_jax.stations.understand import understand
from signer_jax.training import partitioning
from signer_jax.types import Pose, Signed

MANY = 3  # sentences: what has more shows how far it is


def check_asked(
    workdir: str | Path, text: str, *, language: str | None = None, styled: bool = False, posed: bool = False
) -> None:
    """What a run's settings and its corpus say of a request before any weights are read, which may take minutes.

    Raises `SignerError` where there is no run, or an unfinished one, and, for these alone, as `Signer.sign` does, or,
    where a pose is `posed`, as `Signer.film`. `styled`: whether a picture is given.
    """
    workdir = mirror.path_of(workdir)
    settings = folder.load_settings(workdir)
    check_finished(settings, workdir)
    check_parts(settings, workdir, ("renderer",) if posed else ("slul", "slp_moe"))
    _check_style(settings, workdir, styled=styled)
    if posed:
        _check_beside(settings, workdir, text)
    else:
        resolve_language(text, language, Corpus(workdir / "data").about)


def _check_style(settings: Settings, workdir: Path, *, styled: bool) -> None:
    renders = any("renderer" in TRAINED[stage] for stage in settings.stages)
    if styled and renders and not VARIANTS[settings.renderer.variant].takes_picture:
        raise SignerError(
            f"{workdir}: the video model ({settings.renderer.variant}) is shown no picture of a signer, so a style has "
            "no effect; leave it out"
        )


def _check_beside(settings: Settings, workdir: Path, text: str) -> None:
    if text and not settings.renderer.text_encoder:
        raise SignerError(
            f"{workdir}: this run has no text encoder (config.renderer.text_encoder), so no text can go with a pose; "
            "leave it out"
        )


class Signer(Opened):
    """A trained run, ready to sign: `sign` goes through its three stations (`opened.Opened`) in order."""

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
        _check_style(self.settings, self.workdir, styled=style is not None)
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
        studio = self.studio if text else self.wordless
        _check_style(self.settings, self.workdir, styled=style is not None)
        _check_beside(self.settings, self.workdir, text)
        pose = resample(pose, max(1, round(len(pose) / pose.fps * self.fps)), fps=self.fps)
        with partitioning.on_mesh_of(self.params):
            states = None
            if self.texts is not None:
                states = self.texts.of([text])[0] if text else self.texts.null
            return render(pose, style_of(studio, picture=style, signer=signer or ""), None, None, studio, states)

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
        performer = most_by([entry for part in performed for entry in part.entries])
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
