"""Published weights on their way into a folder of ours: what a folder holds, whether it is whole, and its copy.

A folder is a diffusers pipeline's (`model_index.json`, or folders of its models' names) or one model's. Whatever can be
known without reading a tensor is looked at before anything is written: class, config, names, shapes, and whether the
models of a pipeline fit each other. The copy keeps diffusers' layout and names, so that every reader reads it like the
original; it holds plain files, and each tensor is read once, some megabytes at a time.
"""

import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from signer_jax import outside, storage
from signer_jax.errors import SignerError
from signer_jax.interop import clip, names, prompts, shards, state_dict, t5, t5x, wan, wan_original
from signer_jax.interop.foreign import ORIGINAL, PICKLES, recognise
from signer_jax.interop.model_config import plain_inside, read_json
from signer_jax.json_files import LISTS
from signer_jax.renderer.variants import EXPERTS, VARIANTS
from signer_jax.slul.byte_pieces import says_bytes
from signer_jax.slul.tokenizer import Tokenizer

KIND = "copy of published weights"
INDEX = "model_index.json"
SPIECE, BYTES = "spiece.model", "tokenizer_config.json"
MODELS = (*wan.PIPELINE, "vae", "text_encoder", "image_encoder")  # of a pipeline, in the order in which they are read
TOKENIZER = ("tokenizer.json", SPIECE, "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json")
# Small files that stand beside the models; the loaders of diffusers look for them.
SETTINGS = {
    "scheduler": ("scheduler_config.json",), "tokenizer": TOKENIZER, "image_processor": ("preprocessor_config.json",),
    "feature_extractor": ("preprocessor_config.json",),
}  # fmt: skip
_T5_FILES = (*TOKENIZER, "generation_config.json")
# Parameters of the published models beside the transformers, whose numbers are the variants'.
_PUBLISHED = {"vae": (126_892_531, 704_688_668), "text_encoder": (5_680_910_336,), "image_encoder": (630_766_080,)}
_WHOLE = "give the folder of a diffusers pipeline, or of one of its models"


@dataclass(frozen=True)
class Part:
    """One model of a folder, looked at and not read."""

    name: str  # its folder in a pipeline
    model: names.Described
    config: Mapping[str, Any]
    tensors: Mapping[str, Any]  # FileTensor, or t5x.Turned; all of them, by the names that they have in the copy

    @property
    def kind(self) -> str:
        """The class, as its config says it."""
        return str(self.config.get("_class_name") or next(iter(self.config.get("architectures") or ()), self.name))

    @property
    def parameters(self) -> int:
        """Those that are read, or stand behind what is read."""
        read = {name: tensor for name, tensor in self.tensors.items() if not name.endswith(_unread(self.name))}
        return sum(math.prod(tensor.shape) for tensor in read.values())

    @property
    def size(self) -> int:
        """Bytes of its tensors."""
        return sum(tensor.entry().size for tensor in self.tensors.values())


@dataclass(frozen=True)
class Found:
    """What a folder holds."""

    path: Path
    parts: tuple[Part, ...]
    whole: bool  # a pipeline, whose models lie in folders; else the folder is the model's own
    index: Mapping[str, Any] = field(default_factory=dict)  # `model_index.json`
    plain: tuple[Path, ...] = ()  # small files that are copied as they are
    left_out: tuple[str, ...] = ()  # names that are not
    notes: tuple[str, ...] = ()  # what else is to be known, a line each

    def part(self, name: str) -> Part | None:
        return next((part for part in self.parts if part.name == name), None)


# ---- Looking ---------------------------------------------------------------------------------------------------------


def look_at_wan(path: str | Path) -> Found:
    """A diffusers pipeline of Wan's, or one of its models.

    Raises `SignerError` for what is none, for a model that is not whole or of another class, and for models that do not
    fit each other; no tensor has been read then.
    """
    folder = _folder(path)
    index = read_json(folder / INDEX, _WHOLE) if (folder / INDEX).exists() else {}
    if not index and (folder / "config.json").exists():
        part, others = _only(folder), _others(folder, ())
        return Found(folder, (part,), whole=False, left_out=others, notes=_notes([part], others))
    there = {name: folder / name for name in MODELS if (folder / name).is_dir()}
    if not index and all((folder / name).is_dir() for name in wan_original.EXPERTS):
        there = dict(zip(wan.PIPELINE, wan.folders_of(folder, EXPERTS), strict=True))
    if missing := [name for name in MODELS if _named(index, name) and name not in there]:
        raise SignerError(f"{folder}: its {INDEX} names {missing[0]!r}, and there is no such folder; download it again")
    if not there:
        what = recognise(folder)
        raise SignerError(f"{folder}: {f'is {what}' if what else f'holds no model (no config.json); {_WHOLE}'}")
    parts: dict[str, Part] = {}
    for name, inside in there.items():
        parts[name] = _part(name, inside, parts)
    plain = [folder / INDEX] if index else []
    for name, files in SETTINGS.items():
        plain += [folder / name / file for file in files if (folder / name / file).exists()]
    for file in plain:
        plain_inside(file, _WHOLE)
        if file.suffix == ".json":
            read_json(file, _WHOLE, LISTS)
    if (folder / "tokenizer").is_dir():
        encoder = parts.get("text_encoder")
        prompts.load_tokenizer(folder / "tokenizer", vocab_size=encoder.model.module.vocab_size if encoder else None)
    settings = (name for name in SETTINGS if (folder / name).is_dir())
    known = (*(inside.name for inside in there.values()), *settings, INDEX)
    others = _others(folder, known)
    return Found(folder, tuple(parts.values()), True, index, tuple(plain), others, _notes(parts.values(), others))


def look_at_t5(path: str | Path) -> Found:
    """A whole T5 that transformers or t5x saved, with its `spiece.model`; raises as `look_at_wan` does."""
    folder = _folder(path)
    model = t5.describe(folder)
    model.check()
    vocabulary = vocabulary_of(folder)
    if vocabulary is None:
        raise SignerError(
            f"{folder}: holds no {SPIECE}, by which config.tokenizer.path reads the text; download it from the same "
            "model, into this folder"
        )
    tokenizer = Tokenizer.load(vocabulary, mask="<extra_id_0>")
    if tokenizer.vocab_size > model.module.vocab_size:
        raise SignerError(
            f"{vocabulary}: has {tokenizer.vocab_size} pieces, the model {model.module.vocab_size}; take both "
            "from one model"
        )
    plain = tuple(plain_inside(folder / name, "give the file itself") for name in _T5_FILES if (folder / name).exists())
    part = Part("t5", model, *t5.in_transformers_form(model))
    if t5x.holds(folder):
        note = "read in t5x's form, written in transformers'; what its optimizer kept was left out"
        return Found(folder, (part,), False, {}, plain, (), (note,))
    return Found(folder, (part,), False, {}, plain, _others(folder, [file.name for file in plain]))


def vocabulary_of(folder: Path) -> Path | None:
    """What `config.tokenizer.path` reads of a T5's folder: `spiece.model`, or the file that says that it is a ByT5."""
    if (folder / SPIECE).exists():
        return plain_inside(folder / SPIECE, "give the model's own")
    if (folder / BYTES).exists() and says_bytes(plain_inside(folder / BYTES, "give the model's own").read_bytes()):
        return folder / BYTES
    return None


def _folder(path: str | Path) -> Path:
    folder = Path(path)
    storage.recover(folder)
    if not folder.exists():
        raise SignerError(f"{folder}: no such file or folder; {_WHOLE}")
    if not folder.is_dir():
        what = recognise(folder)
        raise SignerError(f"{folder}: {f'is {what}' if what else f'is a file; {_WHOLE}'}")
    return folder


def _named(index: Mapping[str, Any], name: str) -> bool:
    """Whether a pipeline's index has this model: `[library, class]`, both null where it has none."""
    entry = index.get(name)
    return isinstance(entry, list) and any(entry)


def _others(folder: Path, known: Any) -> tuple[str, ...]:
    """What the folder also holds."""
    parts = (".safetensors", ".safetensors.index.json", "config.json", storage.MANIFEST)
    found = sorted(entry.name for entry in folder.iterdir() if not entry.name.startswith("."))
    return tuple(name for name in found if name not in known and not name.endswith(parts))


def _notes(parts: Iterable[Part], others: Sequence[str]) -> tuple[str, ...]:
    """What is to be known of models in Wan's own form."""
    own = [part for part in parts if part.name in wan.PIPELINE and wan_original.holds(part.model.tensors)]
    notes = ["read in Wan's own names, written in diffusers'"] if own else []
    notes += dict.fromkeys(filter(None, (wan_original.left_out(part.model.tensors) for part in own)))
    if pickles := [name for name in others if re.fullmatch(PICKLES, name)]:
        notes.append(f"{pickles[0]} is {ORIGINAL}")
    return tuple(notes)


def _only(folder: Path) -> Part:
    """A folder that is a model's own: which one its config says."""
    config = state_dict.read_config(folder)
    name = str(config.get("_class_name") or config.get("model_type"))
    by_class = {
        "AutoencoderKLWan": "vae", "clip_vision_model": "image_encoder", "t5": "text_encoder", "umt5": "text_encoder"
    }  # fmt: skip
    return _part(by_class.get(name, "transformer"), folder, {})


def _part(name: str, folder: Path, before: Mapping[str, Part]) -> Part:
    """A model of a pipeline, checked, beside those that were looked at before it."""
    transformer = before["transformer"].model.module if "transformer" in before else None
    if name in wan.PIPELINE:
        model = wan.describe_transformer(folder)
        if transformer is not None and model.module != transformer:
            raise SignerError(f"{folder}: is of another size than the transformer beside it; take both from one model")
    elif name == "vae":
        model = wan.describe_vae(folder)
        if transformer is not None and model.module.z_dim != transformer.out_channels:
            raise SignerError(
                f"{folder}: makes latents of {model.module.z_dim} channels, the transformer beside it has "
                f"{transformer.out_channels}; take both from one model"
            )
    elif name == "text_encoder":
        model = t5.describe_encoder(folder, width=transformer.text_dim if transformer else None)
    else:
        width = transformer.image_dim if transformer else None
        model = clip.describe(folder, width=width)
    model.check()
    if name in wan.PIPELINE:
        return Part(name, model, *wan.in_diffusers_form(model))
    return Part(name, model, state_dict.read_config(folder), state_dict.read_tensors(folder))


def _unread(name: str) -> tuple[str, ...]:
    """Endings of tensors that are no parameters of the class: copies of a table, a norm that nothing uses."""
    if name in ("text_encoder", "t5"):
        return ("embed_tokens.weight",)
    return ("norm_added_q.weight",) if name in wan.PIPELINE else ("\0",)


# ---- What it is ------------------------------------------------------------------------------------------------------


def variants_of(found: Found) -> tuple[str, ...]:
    """The variants that a transformer's layout fits, those of its very size first; none without a transformer."""
    part = found.part("transformer")
    if part is None:
        return ()
    module, vae = part.model.module, found.part("vae")
    z, ratio = module.out_channels, vae.model.module.temporal_ratio if vae else 4
    experts = found.part("transformer_2") is not None
    token = found.index.get("expand_timesteps")
    token = bool(token) if isinstance(token, bool) else (vae.model.module.is_residual if vae else z == 48)

    def fits(name: str) -> bool:
        variant = VARIANTS[name]
        return (
            variant.sizes is not None
            and variant.channels(z, ratio) == module.in_channels
            and (variant.clip_dim is None) == (module.image_dim is None)
            and (variant.face is None) == (module.face is None)
            and bool(variant.experts) == experts
            and (variant.time == "token") == token
        )

    def distance(name: str) -> tuple[int, int]:
        sizes = VARIANTS[name].sizes
        assert sizes is not None
        return abs(128 * sizes.heads - module.dim), abs(sizes.layers - module.layers)

    return tuple(sorted(filter(fits, VARIANTS), key=distance))


def published(found: Found, part: Part) -> int | None:
    """The number of parameters of the published model that a part is, or is smaller or larger than."""
    if part.name in wan.PIPELINE:
        sizes = [VARIANTS[name].sizes for name in variants_of(found)[:1]]
        return sizes[0].parameters if sizes and sizes[0] else None
    known = _PUBLISHED.get(part.name, ())
    return min(known, key=lambda count: abs(count - part.parameters), default=None)


# ---- The copy --------------------------------------------------------------------------------------------------------


def entries_of(part: Part, kind: str | None) -> list[shards.Entry]:
    """What is written of a part where `kind` is asked for.

    An autoencoder encodes in float32 and keeps its own numbers, which are few; what no training and no signing rounds
    (`names.held_as`: norms, modulation, the layers of the time) is float32 in the file too.
    """
    if kind is None or part.name == "vae":
        return [tensor.entry() for tensor in part.tensors.values()]
    bare = {name: name.removeprefix(clip.PREFIX) for name in part.tensors}
    paths = names.paths_of(_table_of(part), bare.values())
    return [tensor.entry(state_dict.kind_at(paths.get(bare[n], ""), kind)) for n, tensor in part.tensors.items()]


def _table_of(part: Part) -> list[names.Row]:
    """By the names that the tensors have in the copy, which holds a T5's decoder too."""
    of = wan if part.name in wan.PIPELINE else clip if part.name == "image_encoder" else t5
    return of.table_of(part.model.module)


def written_size(found: Found, kind: str | None) -> int:
    """Bytes that the copy takes."""
    tensors = [entry.size for part in found.parts for entry in entries_of(part, kind)]
    return sum(tensors) + sum(file.stat().st_size for file in found.plain)


def copy(
    found: Found, out: str | Path, *, kind: str | None = None, watch: shards.Watch | None = None,
    also: Callable[[Path], None] | None = None,
) -> None:  # fmt: skip
    """Writes what was found as a folder of ours, whole or not at all.

    `kind` is the type of the tensors there (of `shards.TYPES`), but for those that are never rounded (`entries_of`),
    None for the one that each has; `watch` is told of the bytes. `also` writes more into the folder. Raises
    `SignerError` for a value that is not finite, and where the place is taken or has too little room.
    """
    with storage.new_folder(out, KIND) as folder:
        for part in found.parts:
            inside = folder / part.name if found.whole else folder
            inside.mkdir(exist_ok=True)
            stem = "model" if part.name in ("t5", "text_encoder", "image_encoder") else wan.STEM
            config = part.config if part.name == "vae" else _typed(part.config, kind)
            state_dict.write_into(inside, config, entries_of(part, kind), stem, watch)
        for file in found.plain:
            inside = folder / file.relative_to(found.path)
            inside.parent.mkdir(exist_ok=True)
            with outside.reading(file, "give a smaller one"):
                size = inside.write_bytes(file.read_bytes())
            if watch:
                watch(size)
        if also:
            also(folder)


def _typed(config: Mapping[str, Any], kind: str | None) -> dict[str, Any]:
    """The config, with the type that the tensors now have where it names one."""
    named = {key: str(shards.TYPES[kind]) for key in ("dtype", "torch_dtype") if kind and config.get(key)}
    return {**config, **named}
