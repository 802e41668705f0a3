"""A trained sign-to-text model, opened: poses in, texts and glosses out."""

import functools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, NamedTuple, Self, get_origin

import jax
import numpy as np
from flax.traverse_util import flatten_dict

from signer_jax import mirror, outside
from signer_jax import workdir as folder
from signer_jax.back_translation import examples, losses, model
from signer_jax.errors import SignerError
from signer_jax.json_files import LISTS, read_json
from signer_jax.pose.stitching import resample
from signer_jax.progress import progress
from signer_jax.settings import Settings
from signer_jax.slul.decoding import beam_search
from signer_jax.slul.tokenizer import Tokenizer
from signer_jax.training.checkpoints import read_params
from signer_jax.training.there import latest_step
from signer_jax.types import Pose

NAME = "back_translation"  # of its stage, the only one in its folder
ABOUT = "back_translation.json"
_ROWS = 32  # poses that are read at a time
_TRAIN = "train one with `signer back-translate`"
_ANEW = "run the same `signer back-translate` to make it anew"
_FASTEST = 1000.0  # frames a second


@dataclass(frozen=True)
class About:
    """What is to be known of a model beside its settings: `back_translation.json`."""

    corpus: str
    fps: float
    languages: list[str]
    glosses: list[str]
    poses: int  # that it learned from
    held_out: int  # training poses that were left out, since another split has their sentence
    too_long: int
    sentences: list[str]  # keys (`examples.key_of`) of those that it learned


class Read(NamedTuple):
    """What was read of a pose."""

    text: str
    glosses: str


@dataclass(frozen=True)
class BackTranslator:
    """Poses -> texts and glosses."""

    directory: Path
    settings: Settings
    module: model.SignTranslator
    params: dict[str, Any]
    tokenizer: Tokenizer
    about: About

    @classmethod
    def open(cls, directory: str | Path) -> Self:
        """Raises `SignerError` where the folder holds none, or one whose training is not over."""
        workdir = mirror.path_of(directory)
        settings = folder.load_settings(workdir)
        if settings.stages != (NAME,):
            raise SignerError(f"--back-translation {workdir}: holds a run and no back translation; {_TRAIN}")
        stands, steps = latest_step(mirror.checkpoints(workdir) / NAME), settings.stage(NAME).steps
        if stands != steps:
            raise SignerError(
                f"--back-translation {workdir}: stands at step {stands or 0} of {steps}; run the same `signer "
                "back-translate` to finish it"
            )
        about = read_about(workdir / ABOUT)
        tokenizer = Tokenizer.load(workdir / "tokenizer.model")
        module = module_of(settings, tokenizer, about)
        params = read_params(mirror.checkpoints(workdir) / NAME)[NAME]
        shapes: Any = jax.eval_shape(module.init, jax.random.key(0), *model.example(settings.back_translation))
        if _sizes(shapes["params"]) != _sizes(params):
            raise SignerError(
                f"--back-translation {workdir}: its checkpoint is of other glosses, languages or pieces than {ABOUT} "
                "and tokenizer.model say; restore them, or train anew in another --workdir"
            )
        return cls(workdir, settings, module, params, tokenizer, about)

    @property
    def coding(self) -> examples.Coding:
        return coding_of(self.settings, self.tokenizer, self.about)

    @functools.cached_property
    def learned(self) -> frozenset[str]:
        """The keys of the sentences that it learned: what it says of one of them says nothing about a run."""
        return frozenset(self.about.sentences)

    def check_languages(self, languages: Iterable[str]) -> None:
        """Raises `SignerError` for a language that it did not learn."""
        if unknown := sorted(set(languages) - set(self.about.languages)):
            raise SignerError(
                f"--back-translation {self.directory}: learned {', '.join(self.about.languages)}, not {unknown[0]}; "
                "give one of the run's language"
            )

    def cut(self, poses: Sequence[Pose]) -> int:
        """How many of the poses have more than `max_frames` frames at its own rate: of these `read` sees the first."""
        most = self.settings.back_translation.max_frames
        return sum(frames_at(pose, self.about.fps) > most for pose in poses)

    def read(self, poses: Sequence[Pose], languages: Sequence[str]) -> list[Read]:
        """What each pose says, of any length at any rate, on all joints (`skeleton.JOINTS`), normalised; of more than
        `max_frames` at its own rate the first. Raises `SignerError` for a language that it did not learn.
        """
        self.check_languages(languages)
        c, coding = self.settings.back_translation, self.coding
        found: list[Read] = []
        for start in progress(range(0, len(poses), _ROWS), "back translation"):
            some = [at_rate(pose, self.about.fps) for pose in poses[start : start + _ROWS]]
            count = len(some)
            rows = [*some, *([some[-1]] * (_ROWS - count))]  # one shape for all
            spoken = [coding.language(name) for name in languages[start : start + count]]
            given = examples.shown(rows, c.joints, c.max_frames)
            language = np.array([*spoken, *([spoken[-1]] * (_ROWS - count))], np.int32)
            ids, logits, mask = _translate(
                self.module, self.params, given, language, coding.pieces, c.beams, c.length_penalty,
                np.array(self.tokenizer.gloss_ids),
            )  # fmt: skip
            ids, logits, mask = map(np.asarray, (ids, logits, mask))
            for k in range(count):
                glosses = [self.about.glosses[i] for i in losses.best_path(logits[k], mask[k])]
                found.append(Read(" ".join(self.tokenizer.decode_gloss(ids[k])), " ".join(glosses)))
        return found


@functools.partial(jax.jit, static_argnums=(0, 4, 5, 6))
def _translate(
    module: model.SignTranslator, params: Any, given: dict[str, Any], language: Any, pieces: int, beams: int,
    penalty: float, allowed: Any,
) -> tuple[Any, Any, Any]:  # fmt: skip
    """The best beam of each text, the gloss logits and which steps there are."""
    variables = {"params": params}
    encoded: Any = module.apply(variables, **given, language=language, method="encode")
    H, mask = encoded
    logits = module.apply(variables, H, method="gloss_logits")
    ids, _, _ = beam_search(
        module.t5, params["t5"], mask.astype(np.int32), beams=beams, max_length=pieces, length_penalty=penalty,
        allowed=allowed, H=H,
    )  # fmt: skip
    return ids[:, 0], logits, mask


def _sizes(params: Any) -> dict[str, tuple[int, ...]]:
    return {name: leaf.shape for name, leaf in flatten_dict(params, sep="/").items()}


def frames_at(pose: Pose, fps: float) -> int:
    """How many frames a pose has at so many a second."""
    return len(pose) if abs(pose.fps - fps) < 1e-3 * fps else max(1, round(len(pose) / pose.fps * fps))


def at_rate(pose: Pose, fps: float) -> Pose:
    """A pose at this many frames a second."""
    return pose if abs(pose.fps - fps) < 1e-3 * fps else resample(pose, frames_at(pose, fps), fps=fps)


def module_of(settings: Settings, tokenizer: Tokenizer, about: About) -> model.SignTranslator:
    c = settings.back_translation
    return model.build(c, settings.dtype, tokenizer.vocab_size, len(about.glosses), len(about.languages) + 1)


def coding_of(settings: Settings, tokenizer: Tokenizer, about: About) -> examples.Coding:
    c = settings.back_translation
    return examples.Coding(
        tokenizer, {gloss: k + 1 for k, gloss in enumerate(about.glosses)},
        {name: k for k, name in enumerate(["", *about.languages])}, c.joints, c.max_frames, settings.data.max_source,
        settings.data.max_glosses,
    )  # fmt: skip


def read_about(path: Path) -> About:
    """Raises `SignerError` where the file is missing or damaged."""
    file = outside.plain_file(path, _ANEW)
    try:
        with outside.reading(file, _ANEW):
            about = About(**read_json(file, LISTS))
        for field in fields(About):
            value, kind = getattr(about, field.name), get_origin(field.type) or field.type
            if type(value) is not kind or (kind is list and not all(type(one) is str for one in value)):
                raise ValueError(f"{field.name} is of another kind")
        if not 0 < about.fps <= _FASTEST:
            raise ValueError("a frame rate that is none")
    except (ValueError, TypeError, RecursionError) as error:
        raise SignerError(f"{path}: is damaged ({outside.reason_of(error)[:100]}); {_ANEW}") from None
    return about
