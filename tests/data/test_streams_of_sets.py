"""Streams over several prepared sets: each example once an epoch, whoever reads, or sets by their weights."""

import re
from pathlib import Path

import jax
import numpy as np
import pytest
from conftest import TINY
from test_prepare import even, film, posed

from signer_jax import configuration
from signer_jax.cli.main import main
from signer_jax.data import prepare, records, streams
from signer_jax.data.prepared import reading
from signer_jax.data.windows import token_counts
from signer_jax.errors import SignerError
from signer_jax.training import input_pipeline, partitioning
from signer_jax.types import Pose, Sample
from signer_jax.validation import read

BATCH = 4
# (set, texts with glosses, of these the first have a pose, of these the first have a video)
SETS = (("a", 5, 3, 2), ("b", 3, 2, 1))


@pytest.fixture(scope="module")
def sets(tmp_path_factory) -> str:
    folder = tmp_path_factory.mktemp("sets")
    for name, texts, poses, videos in SETS:
        (folder / f"{name} source").mkdir()
        rows = ["name,split,video,pose,text,gloss,language,spoken,signer"]
        for i in range(texts):
            if i < poses:
                posed(folder / f"{name} source" / f"{i}.pose", 20)
            if i < videos:
                film(folder / f"{name} source" / f"{i}.mp4", even(20), size=(32, 32))
            files = f"{i}.mp4" * (i < videos), f"{i}.pose" * (i < poses)
            rows.append(f"{name}{i},train,{','.join(files)},text {name} {i},TEXT,ase,en,one")
        (folder / f"{name} source" / "samples.csv").write_text("\n".join(rows) + "\n")
        words = ["prepare", "folder", "--source", str(folder / f"{name} source"), "--out", str(folder / name)]
        assert main([*words, "--size", "32x32"]) == 0
    return ",".join(str(folder / name) for name, *_ in SETS)


@pytest.fixture(scope="module")
def corpus(sets, tmp_path_factory):
    directory = tmp_path_factory.mktemp("corpus") / "data"
    reading.write(directory, sets, fps=0, size=(32, 32))
    return reading.opened(directory)


def stream(texts, processes: int, process: int, state: dict | None = None, mixture: streams.Mixture | None = None):
    """What one of several processes reads, from where any of them stood."""
    rows = tuple(range(process * BATCH // processes, (process + 1) * BATCH // processes))
    found = streams.iterate(
        texts, lambda sample, rng: {"name": np.array(sample.name)}, streams.Reading(BATCH, 3, 0, 1, rows), "texts",
        mixture,
    )  # fmt: skip
    if state is not None:
        found.set_state(state)
    return found


@pytest.mark.parametrize("processes", [1, 2, 4])
@pytest.mark.parametrize("later", [1, 2, 4])
def test_each_example_of_all_sets_comes_once_an_epoch_also_after_going_on_with_other_processes(
    corpus, processes, later
):
    """Stopped within the second epoch: 8 examples in batches of 4, three batches and then three more."""
    texts = corpus.texts("train")
    before = [stream(texts, processes, i) for i in range(processes)]
    seen = [name for _ in range(3) for one in before for name in next(one)["name"]]
    states = [one.get_state() for one in before]
    assert all(state == states[0] for state in states)  # one position, whoever saves it
    after = [stream(texts, later, i, states[-1]) for i in range(later)]
    seen += [name for _ in range(3) for one in after for name in next(one)["name"]]
    everything = sorted(f"{name}{i}" for name, texts, *_ in SETS for i in range(texts))
    assert [sorted(seen[k : k + 8]) for k in (0, 8, 16)] == [everything] * 3
    assert len({tuple(seen[k : k + 8]) for k in (0, 8, 16)}) == 3


def test_every_record_says_which_set_it_is_of(corpus):
    kinds = {"text": corpus.texts, "motion": corpus.motions, "sign": corpus.signs}
    for kind, found in ((kind, opened("train")) for kind, opened in kinds.items()):
        of = corpus.set_of("train", kind)
        assert [found[i].name[0] for i in range(len(found))] == ["ab"[k] for k in of]
    assert len(corpus.set_of("dev", "text")) == 0
    assert records.Corpus(corpus.directory).set_of("train", "text").tolist() == [0] * 8  # of any other corpus


def test_a_run_reads_sets_by_their_weights(sets, corpus, tmp_path):
    """As its stages read them: sentences, and the videos alone of the motions."""
    overrides = ["data.corpus=prepared", f"data.source={sets}", "data.weights=1,3", "train.slul.batch=4",
                 "train.vae.batch=4", "tokenizer.vocab_size=60"]  # fmt: skip
    settings = read(configuration.load(TINY, [f"--config.{one}" for one in overrides]))
    prepare.check(settings.data, tmp_path / "data")
    mixed = input_pipeline.mixture(settings.data, corpus, "text")
    order = streams.endless(corpus.texts("train"), 0, mixed)
    assert [sum(order[i].name[0] == name for i in range(40)) for name in "ab"] == [10, 30]
    motions = input_pipeline.mixture(settings.data, corpus, "motion")
    videos = streams.video_indices(corpus, "train")
    assert videos == [0, 1, 3] and list(input_pipeline.part_of(motions, videos).sets) == [0, 0, 1]
    assert input_pipeline.mixture(read(configuration.load(TINY)).data, corpus, "text") is None


@pytest.mark.parametrize("processes", [1, 2, 4])
def test_of_a_mixture_each_set_comes_once_an_epoch_of_its_own_whoever_reads(corpus, processes):
    mixture = streams.Mixture(corpus.set_of("train", "text"), (1.0, 1.0))
    found = [stream(corpus.texts("train"), processes, i, mixture=mixture) for i in range(processes)]
    seen = [name for _ in range(8) for one in found for name in next(one)["name"]]
    for name, texts, *_ in SETS:
        own = [one for one in seen if one[0] == name]
        everything = sorted(f"{name}{i}" for i in range(texts))
        assert len(own) == 16
        assert all(sorted(own[k : k + texts]) == everything for k in range(0, 16 - texts + 1, texts))


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (["data.corpus=prepared", "data.weights=1,2,3"], "gives 3 weights for the 2 sets of config.data.source"),
        (["data.corpus=builtin", "data.weights=1,2"], "are of prepared sets, and builtin is one corpus"),
    ],
)
def test_weights_that_fit_no_sets_are_refused(overrides, said, sets, tmp_path):
    source = [f"--config.data.source={sets}"] if "prepared" in overrides[0] else []
    settings = read(configuration.load(TINY, [*(f"--config.{one}" for one in overrides), *source]))
    with pytest.raises(SignerError, match=f"^config.data.weights: {re.escape(said)}"):
        prepare.check(settings.data, tmp_path / "data")


def batches_of(stage: str, sets: str, corpus, folder: Path, *overrides: str):
    """The stage's own batches, on one device."""
    common = ["data.corpus=prepared", f"data.source={sets}", "tokenizer.vocab_size=60", f"train.{stage}.batch=4"]
    settings = read(configuration.load(TINY, [f"--config.{one}" for one in (*common, *overrides)]))
    tokenizer = input_pipeline.open_tokenizer(settings, folder, corpus)
    mesh = partitioning.make_mesh({"data": 1}, jax.devices()[:1])
    found = input_pipeline.stage_batches(stage, settings, folder, corpus, tokenizer, None, None, 0, mesh)
    return settings, tokenizer, found


def test_slul_reads_texts_in_the_buckets_of_the_config(sets, corpus, tmp_path):
    counts = token_counts(corpus.texts("train"), batches_of("slul", sets, corpus, tmp_path)[1])
    longest = counts.max(axis=0)
    bucket = f"{longest[0]}x{longest[1]}"
    settings, tokenizer, found = batches_of("slul", sets, corpus, tmp_path, f"data.text_buckets=('{bucket}',)")
    assert [next(found)["source"].shape for _ in range(2)] == [(4, longest[0])] * 2
    (said,) = input_pipeline.told_of_texts(settings, corpus, tokenizer)
    most = f"{settings.data.max_source}x{settings.data.max_target}"
    assert said.startswith(f"training texts a bucket of config.data.text_buckets: {bucket} 8, {most} 0; ")
    filled = [100 * (1 - counts[:, :2].sum() / (8 * sum(map(int, size.split("x"))))) for size in (bucket, most)]
    assert said.endswith("; {:.0f} % of SLUL's tokens are padding, {:.0f} % without buckets".format(*filled))


def test_the_autoencoder_sees_changed_pictures_where_the_config_says_so(sets, tmp_path):
    film = np.random.default_rng(0).integers(0, 256, (12, 8, 8, 3)).astype(np.uint8)
    pose = Pose(np.zeros((12, 128, 3), np.float32), np.ones((12, 128), np.float32), 16.0)
    samples = [Sample("s", "", "ase", pose=pose, video=film)]
    own = records.write(tmp_path / "data", {"train": lambda: samples}, {"languages": {}, "size": [8, 8]})
    for mirror, shown in (("0.0", film), ("1.0", film[:, :, ::-1])):
        _, _, found = batches_of("vae", sets, own, tmp_path, f"data.augment.mirror={mirror}")
        seen = streams.to_pixels_range(next(found)["video"])
        assert {one.tobytes() for clip in seen for one in clip} <= {one.tobytes() for one in shown}


def test_that_every_sign_is_mirrored_is_said(sets, corpus):
    def told(*overrides: str) -> list[str]:
        settings = read(configuration.load(TINY, [f"--config.{one}" for one in overrides]))
        return input_pipeline.told(settings, None, corpus)

    (said,) = told("stages=slul,pose", "data.augment.mirror=0.5")
    assert said.startswith(
        "config.data.augment.mirror: every sign may be mirrored, since config.data.augment.not_mirrored"
    )
    assert not told("stages=slul,pose", "data.augment.mirror=0.5", "data.augment.not_mirrored=('LEFT',)")
    assert not told("stages=slul,pose") and not told("stages=slul", "data.augment.mirror=0.5")
