import json
from dataclasses import replace

import numpy as np
import pytest

from signer_jax.data import records, shards
from signer_jax.errors import SignerError
from signer_jax.types import Pose, Sample


def sample(i: int, video: bool = False) -> Sample:
    rng = np.random.default_rng(i)
    pose = Pose(rng.normal(size=(7, 128, 3)).astype(np.float32), np.ones((7, 128), np.float32), 16.0)
    return Sample(
        name=f"s{i}", text=f"Text, {i}!", language="ase", glosses=("A", "B-C"), signer="x", pose=pose,
        spans=np.array([[0, 3], [4, 7]], np.int32),
        video=rng.integers(0, 256, (7, 8, 8, 3), np.uint8) if video else None,
        references=((pose, np.array([[0, 2], [3, 7]], np.int32)),),
    )  # fmt: skip


def same(a: Sample, b: Sample) -> None:
    assert (a.name, a.text, a.language, a.glosses, a.signer) == (b.name, b.text, b.language, b.glosses, b.signer)
    np.testing.assert_array_equal(a.pose.coordinates, b.pose.coordinates)
    np.testing.assert_array_equal(a.pose.confidence, b.pose.confidence)
    np.testing.assert_array_equal(a.spans, b.spans)
    assert (a.video is None) == (b.video is None)
    if a.video is not None:
        np.testing.assert_array_equal(a.video, b.video)
    for (pose, spans), (other, other_spans) in zip(a.references, b.references, strict=True):
        np.testing.assert_array_equal(pose.coordinates, other.coordinates)
        np.testing.assert_array_equal(spans, other_spans)


@pytest.mark.parametrize("video", [False, True])
def test_a_record_is_read_back_whole(video):
    same(records.decode(records.encode(sample(0, video))), sample(0, video))


def test_a_corpus_is_written_and_read_back(tmp_path):
    train = [sample(0, True), sample(1), Sample("t", "Nur Text", "gsg", ("NU\u0308R",))]
    corpus = records.write(
        tmp_path / "data", {"train": lambda: train, "dev": lambda: [sample(2)]}, {"languages": {"ase": "English"}}
    )
    assert (
        corpus.count("train", "text") == 3
        and corpus.count("train", "pose") == 2
        and corpus.count("train", "video") == 1
    )
    assert corpus.listed("train") == [(7, True, "x"), (7, False, "x")]
    assert corpus.about["fps"] == 16.0 and corpus.about["signers"] == ["x"]
    # What a run may be said to know comes from the training split alone.
    assert corpus.about["words"] == {"ase": ["0", "1", "text"], "gsg": ["nur", "text"]}
    assert corpus.about["glosses"] == {"ase": ["A", "B-C"], "gsg": ["NÜR"]}
    assert corpus.texts("train")[2].glosses == ("NÜR",)
    same(corpus.motions("train")[1], sample(1))
    texts = corpus.texts("train")
    assert [texts[i].text for i in range(3)] == ["Text, 0!", "Text, 1!", "Nur Text"]
    assert texts[0].pose is None and texts[0].video is None
    with pytest.raises(SignerError, match="split 'tset'"):
        corpus.texts("tset")


def test_words_of_a_text():
    text = "How do you sign 'My name'? don't \N{PARTY POPPER} „Ju\u0308rgen“ – 3,5 \u6211\u7684\u3002 house,door"
    assert [word.written for word in records.words_of(text)] == [
        "How", "do", "you", "sign", "My", "name", "don't", "\N{PARTY POPPER}", "J\u00fcrgen", "3", "5", "\u6211",
        "\u7684", "house", "door",
    ]  # fmt: skip
    assert [word.key for word in records.words_of("I don\u2019t, I don\u00b4t")] == ["i", "don't"] * 2
    first = records.words_of("(Ada)")[0]
    assert (first.key, first.start, first.end) == ("ada", 1, 4)


def test_a_corpus_has_one_frame_rate_and_its_videos_their_poses_frames(tmp_path):
    odd = replace(sample(1), pose=replace(sample(1).pose, fps=30.0))
    with pytest.raises(SignerError, match="sample 's1': 30 frames a second where the samples before it have 16"):
        records.write(tmp_path / "a", {"train": lambda: [sample(0)], "dev": lambda: [odd]}, {"languages": {}})
    film = replace(sample(1, True), pose=sample(1).pose)
    with pytest.raises(SignerError, match="sample 's1': 6 frames of video beside 7 of pose"):
        records.write(tmp_path / "a", {"train": lambda: [replace(film, video=film.video[:6])]}, {"languages": {}})
    assert not (tmp_path / "a").exists()
    near = replace(sample(1), pose=replace(sample(1).pose, fps=16000 / 1001))
    assert records.write(tmp_path / "a", {"train": lambda: [sample(0), near]}, {"languages": {}}).about["fps"] == 16


def test_a_failed_preparation_leaves_nothing_under_the_name(tmp_path):
    def broken():
        yield sample(0)
        raise SignerError("the source ends")

    with pytest.raises(SignerError, match="the source ends"):
        records.write(tmp_path / "data", {"train": broken}, {"languages": {}})
    assert not (tmp_path / "data").exists()
    with pytest.raises(SignerError, match="no prepared corpus here"):
        records.Corpus(tmp_path / "data")


def test_a_damaged_corpus_is_one_line(tmp_path):
    def message() -> str:
        with pytest.raises(SignerError) as error:
            corpus = records.Corpus(tmp_path / "data")
            _ = [shard[i] for shard in (corpus.texts("train"), corpus.motions("train")) for i in range(len(shard))]
        assert "\n" not in str(error.value) and "run the same `signer train`" in str(error.value)
        return str(error.value)

    def put(name: str, data: bytes) -> None:
        """A file of another content, of which the manifest knows."""
        (tmp_path / "data" / name).write_bytes(data)
        manifest = json.loads((tmp_path / "data" / "manifest.json").read_text())
        manifest["files"][name] = len(data)
        (tmp_path / "data" / "manifest.json").write_text(json.dumps(manifest))

    records.write(tmp_path / "data", {"train": lambda: [sample(0, True), sample(1)]}, {"languages": {}})
    about = json.loads((tmp_path / "data" / "corpus.json").read_text())
    for bad in (
        [], None, {}, {**about, "counts": []}, {**about, "motions": {"train": [[0, True, "x"]]}},
        {**about, "fps": "many"}, {**about, "fps": float("nan")}, {**about, "words": 3},
        {name: value for name, value in about.items() if name != "glosses"},
        {**about, "counts": {"train": {"text": -1}}}, {**about, "counts": {"train": {"text": 10**10}}},
        {**about, "motions": {"train": [[10**15, True, "x"]] * 2}}, {**about, "size": "8"}, {**about, "size": 0},
        {**about, "sizes": [[8, 8], [8, 0]]}, {**about, "sizes": [[8, 8], [8, 4]]},
        {**about, "motions": {"train": [[7, True, "x", 0]] * 2}},
        {**about, "sizes": [[8, 8], [8, 4]], "motions": {"train": [[7, True, "x", 2]] * 2}},
    ):  # fmt: skip
        put("corpus.json", json.dumps(bad).encode())
        assert "corpus.json: is damaged" in message()
    put("corpus.json", json.dumps({**about, "motions": {"train": about["motions"]["train"] * 2}}).encode())
    assert "lists 4 motions of 'train', 2 are there" in message()
    put("corpus.json", json.dumps(about).encode())
    shard = tmp_path / "data" / "train.motion.arrayrecord"
    whole = shard.read_bytes()
    shard.write_bytes(whole[:-1])
    assert "train.motion.arrayrecord has" in message()
    put(shard.name, whole[: len(whole) // 2])
    assert "is damaged" in message()
    put(shard.name, bytes(len(whole)))
    assert "is damaged" in message()


def test_a_video_of_a_size_that_the_corpus_has_not_is_refused(tmp_path):
    sizes = {"languages": {}, "size": [8, 8], "sizes": [(8, 8), (4, 8)]}
    corpus = records.write(tmp_path / "data", {"train": lambda: [sample(0, True), sample(1)]}, sizes)
    assert corpus.sizes_of("train") == [(8, 8), (8, 8)]  # what has no video has the first
    with pytest.raises(SignerError, match=r"sample 's0': its video of 8x8 .* has none of the corpus's sizes 8x4, 4x8"):
        records.write(tmp_path / "other", {"train": lambda: [sample(0, True)]}, sizes | {"sizes": [(8, 4), (4, 8)]})


@pytest.mark.parametrize("cut", [1, 10, 100, 1000])
def test_a_record_that_is_not_whole_is_one_line(tmp_path, cut):
    record = records.encode(sample(0, True))
    with shards.new_shard(tmp_path / "x") as write:
        write(record)
        write(record[:-cut])
        write(record + b"more")
        write(record[:40] + b"\xff" + record[41:])
    shard = records.Records(tmp_path / "x")
    same(shard[0], sample(0, True))
    for i in (1, 2):
        with pytest.raises(SignerError, match=f"record {i} is damaged"):
            shard[i]


@pytest.mark.parametrize(
    "change",
    [
        lambda s: replace(s, pose=Pose(np.full_like(s.pose.coordinates, np.nan), s.pose.confidence, 16.0)),
        lambda s: replace(s, pose=Pose(s.pose.coordinates * 1e5, s.pose.confidence, 16.0)),
        lambda s: replace(s, pose=Pose(s.pose.coordinates, s.pose.confidence * 2, 16.0)),
        lambda s: replace(s, pose=Pose(s.pose.coordinates, s.pose.confidence, 1e9)),
        lambda s: replace(s, pose=Pose(s.pose.coordinates[:, :5], s.pose.confidence[:, :5], 16.0)),
        lambda s: replace(s, spans=np.array([[3, 0]])),
        lambda s: replace(s, spans=np.array([[0, 8]])),
        lambda s: replace(s, spans=np.array([0, 3])),
        lambda s: replace(s, video=np.zeros((7, 8, 8))),
        lambda s: replace(s, video=np.zeros((7, 8, 8), np.uint8)),
        lambda s: replace(s, name=3),
        lambda s: replace(s, signer=None),
    ],
)
def test_a_record_of_what_cannot_be_is_refused(change):
    with pytest.raises(ValueError):
        records.decode(records.encode(change(sample(0))))


def test_a_record_without_glosses():
    none = replace(sample(0), glosses=(), spans=np.zeros((0, 2), np.int32))
    same(records.decode(records.encode(none)), none)


def test_spans_are_those_of_the_glosses(tmp_path):
    with shards.new_shard(tmp_path / "x") as write:
        write(records.encode(replace(sample(0), glosses=("A",))))
    with pytest.raises(SignerError, match=r"record 0 is damaged \(2 spans of 1 glosses\)"):
        records.Records(tmp_path / "x")[0]
    with pytest.raises(SignerError, match="sample 's0': 2 spans of 1 glosses"):
        records.write(tmp_path / "a", {"train": lambda: [replace(sample(0), glosses=("A",))]}, {"languages": {}})
