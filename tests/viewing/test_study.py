"""`signer study`: the page is blind and keeps votes, in a browser; what the votes say, and those that are refused."""

import base64
import json
import re
from collections import Counter
from itertools import combinations
from pathlib import Path
from random import Random

import av
import numpy as np
import pytest
from filmed import even, film

from signer_jax.cli.main import main
from signer_jax.data import video
from signer_jax.viewing import study, votes

CLIPS = [f"clip{i}" for i in range(7)]


@pytest.fixture(scope="module")
def systems(tmp_path_factory) -> Path:
    """Three systems, whose films have a grey level each; one has a clip more."""
    folder = tmp_path_factory.mktemp("systems")
    for at, system in enumerate(("nearest", "ours", "zéro")):
        (folder / system).mkdir()
        for clip in CLIPS:
            film(folder / system / f"{clip}.mp4", even(5), corner=100 * at)
    film(folder / "ours" / "alone.mp4", even(5))
    (folder / "ours" / "notes.txt").write_text("no video")
    return folder


def made(systems: Path, out: Path, *more: str) -> study.Key:
    words = ["study", "--videos", *(str(systems / name) for name in ("nearest", "ours", "zéro"))]
    assert main([*words, "--out", str(out), *more]) == 0
    return votes.read_key(out)


@pytest.fixture(scope="module")
def asked(systems, tmp_path_factory) -> tuple[Path, study.Key]:
    out = tmp_path_factory.mktemp("study") / "study"
    return out, made(systems, out, "--seed", "3")


def fails(capsys, *arguments: object) -> str:
    capsys.readouterr()
    assert main(["study", *map(str, arguments)]) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    return said


def voted(folder: Path, key: study.Key, name: str, choose, **changes) -> Path:
    """A rater's file: `choose` has the systems at the left and at the right."""
    rows = []
    for trial in key.trials:
        left, right = (key.videos[number].system for number in (trial.left, trial.right))
        choice = choose(left, right)
        if choice:
            rows.append({"trial": trial.name, "left": trial.left, "right": trial.right, "choice": choice, "seconds": 1})
    path = folder / f"{name}.json"
    path.write_text(json.dumps({"study": key.study, "rater": name, "votes": rows, **changes}))
    return path


# ---- The page --------------------------------------------------------------------------------------------------------


def test_every_pair_of_every_common_clip_and_nothing_names_a_system(asked, systems):
    out, key = asked
    two = [(key.videos[trial.left], key.videos[trial.right]) for trial in key.trials]
    assert all(a.clip == b.clip for a, b in two)
    found = Counter((a.clip, *sorted((a.system, b.system))) for a, b in two)
    assert set(found) == {(clip, *pair) for clip in CLIPS for pair in combinations(key.systems, 2)}
    assert set(found.values()) == {1}
    assert 4 < sum(a.system < b.system for a, b in two) < 17  # on both sides
    assert [one.clip for one, _ in two] != sorted(one.clip for one, _ in two)
    files = sorted(str(path.relative_to(out)) for path in out.rglob("*") if path.is_file())
    assert files == ["key.json", "manifest.json", "page/study.html"]
    page = (out / "page" / "study.html").read_text()
    data = re.search(r'id="data">(.*?)</script>', page)[1]
    held = [base64.b64decode(one) for one in re.findall(r"base64,([^\"]+)\"", data)]
    for name in (*key.systems, *CLIPS, str(systems), "key.json", "Lavc"):
        assert name not in page and not any(name.encode() in one for one in held[:1] if name != "Lavc")
    assert len(held) == 21 and not re.search(r"https?:|src=", page)
    number, one = next(iter(key.videos.items()))
    shown = base64.b64decode(json.loads(data)["videos"][number].partition(",")[2])
    level = next(frame for _, frame in video.frames_of("x", shown))[:8, :8].mean()
    assert level == pytest.approx(100 * key.systems.index(one.system), abs=6)


def test_a_seed_makes_the_same_study_and_another_one_another(asked, systems, tmp_path):
    again, other = made(systems, tmp_path / "a", "--seed", "3"), made(systems, tmp_path / "b")
    assert again == asked[1] and other.study != again.study and other.trials != again.trials
    page = (asked[0] / "page" / "study.html").read_bytes()
    assert page == (tmp_path / "a" / "page" / "study.html").read_bytes()


@pytest.mark.parametrize("count", [1, 5, 9, 20])
def test_a_sample_is_balanced(count):
    found = study.chosen(["a", "b", "c"], CLIPS, count, Random(0))
    assert len(found) == len({(clip, *sorted(pair)) for clip, *pair in found}) == count
    pairs = Counter(tuple(sorted(pair)) for _, *pair in found)
    clips = Counter(clip for clip, *_ in found)
    for counts, kinds in ((pairs, 3), (clips, 7)):
        assert max(counts.values()) - (min(counts.values()) if len(counts) == kinds else 0) <= 1
    assert len(study.chosen(["a", "b", "c"], CLIPS, 99, Random(0))) == 21


def test_large_videos_lie_beside_the_page(systems, tmp_path, monkeypatch, tab):
    monkeypatch.setattr(study, "HELD", 1000)
    key = made(systems, tmp_path / "s", "--pairs", "4", "--question", "Which </script> & signs?")
    assert len(key.trials) == 4
    files = {path.name for path in (tmp_path / "s" / "page" / "videos").iterdir()}
    assert files == {f"{number}.mp4" for number in key.videos}
    tab.open(tmp_path / "s" / "page" / "study.html")
    assert tab.text("h1") == ["Which </script> & signs?"] and not tab.errors
    started(tab, "x")
    tab.until("document.querySelector('#left').readyState > 1 && document.querySelector('#right').readyState > 1")
    assert tab.ask("document.querySelector('#trouble').hidden")
    # Without the videos it says so.
    (tmp_path / "s" / "page" / "study.html").rename(tmp_path / "study.html")
    tab.open(tmp_path / "study.html")
    started(tab, "x")
    tab.until("!document.querySelector('#trouble').hidden")
    tab.press("1", "1")
    tab.click("#after")  # passed over, and not voted on
    assert tab.text("#place") == ["pair 2 of 4"] and tab.ask("document.querySelector('#keep').hidden")
    tab.until("!document.querySelector('#trouble').hidden")
    tab.errors.clear()


def test_sound_titles_and_other_codecs_are_left_behind(tmp_path):
    with av.open(str(tmp_path / "a.mkv"), "w") as container:
        container.metadata["title"] = "made by ours"
        stream = container.add_stream("mpeg4", rate=10)
        stream.height, stream.width, stream.pix_fmt = 32, 48, "yuv420p"
        for _ in range(4):
            container.mux(stream.encode(av.VideoFrame(48, 32, "rgb24")))
        container.mux(stream.encode())
    with av.open(str(tmp_path / "b.mp4"), "w") as container:
        container.metadata["title"] = "made by ours"
        stream, sound = container.add_stream("libx264", rate=10), container.add_stream("aac", 16000, layout="mono")
        stream.height, stream.width, stream.pix_fmt = 32, 48, "yuv420p"
        for _ in range(4):
            container.mux(stream.encode(av.VideoFrame(48, 32, "rgb24")))
        silence = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
        silence.sample_rate = 16000
        container.mux([*stream.encode(), *sound.encode(silence), *sound.encode()])
    for name in ("a.mkv", "b.mp4"):
        (tmp_path / "out.mp4").write_bytes(video.for_browsers(tmp_path / name))
        with av.open(str(tmp_path / "out.mp4")) as container:
            assert "title" not in container.metadata and [one.type for one in container.streams] == ["video"]
        facts = video.facts(tmp_path / "out.mp4")
        assert facts.plain and len(facts.stamps) == 4 and (facts.height, facts.width) == (32, 48)


# ---- In a browser ----------------------------------------------------------------------------------------------------

# What a click on the button would save.
SAVED = """new Promise(done => { const old = URL.createObjectURL; URL.createObjectURL = blob => {
  blob.text().then(text => done({text, name: document.querySelector('a') })); URL.createObjectURL = old;
  return old.call(URL, blob); }; document.querySelector('.save').click(); })"""


def started(tab, rater: str) -> None:
    tab.ask(f"(() => {{ const r = document.querySelector('#rater'); r.value = {json.dumps(rater)}; r.oninput(); }})()")
    tab.click("#begin")


def seen_to_the_end(tab) -> None:
    """As if both videos had played: a fifth of a second each, forty times."""
    tab.ask("document.querySelectorAll('video').forEach(one => one.dispatchEvent(new Event('ended')))")


def saved(tab) -> dict:
    return json.loads(tab.ask(SAVED)["text"])


def test_a_rater_votes_goes_back_stops_and_goes_on(asked, tmp_path, capsys, tab):
    out, key = asked
    page = out / "page" / "study.html"
    tab.call("Browser.setDownloadBehavior", behavior="deny")
    tab.asked.clear()
    tab.open(page)
    assert tab.text("h1") == ["Which of the two is better?"] and tab.text(".count")[0] == "21"
    assert tab.ask("document.querySelector('#begin').disabled && document.querySelector('#trial').hidden")
    started(tab, "Ana <b>")
    tab.until("document.querySelector('#right').readyState > 1 && document.querySelector('#right').videoWidth === 64")
    assert tab.text("#place") == ["pair 1 of 21"] and tab.ask("document.querySelector('#keep').hidden")
    # Nobody votes before both have been shown, by no key and no button.
    tab.ask("document.querySelectorAll('video').forEach(one => one.play = () => Promise.resolve())")
    started(tab, "Ana <b>")
    tab.press("1", "1")
    tab.click("[data-choice=left]")
    assert tab.text("#place") == ["pair 1 of 21"] and tab.text(".taken") == []
    tab.ask("document.querySelectorAll('video').forEach(one => delete one.play)")
    tab.click("#replay")
    tab.until("!document.querySelector('[data-choice=left]').disabled")
    assert tab.ask("document.querySelector('#wait').hidden")
    tab.press("1", "1")
    assert tab.ask("document.querySelector('[data-choice=left]').disabled")
    for choose in (lambda: tab.press("2", "2"), lambda: tab.click("[data-choice=right]")):
        seen_to_the_end(tab)
        choose()
    assert tab.text("#place") == ["pair 4 of 21"] and "3 of 21 votes, kept" in tab.text("#kept")[0]
    tab.click("#before")
    assert tab.text(".taken") == ["Right is better"]
    seen_to_the_end(tab)
    tab.press("1", "1")  # another opinion
    first = saved(tab)
    assert [vote["choice"] for vote in first["votes"]] == ["left", "same", "left"]
    assert first["votes"][0]["clip"] <= first["votes"][0]["seconds"] and first["votes"][0]["clip"] == 0.2
    assert first["rater"] == "Ana <b>" and first["study"] == key.study
    # Closed and opened again: the same order, the votes are there.
    tab.open(page)
    started(tab, "Ana <b>")
    assert tab.text("#place") == ["pair 4 of 21"] and saved(tab) == first
    for _ in range(18):
        assert tab.ask("document.querySelector('#end').hidden")
        seen_to_the_end(tab)
        tab.press("3", "3")
    assert "Thank you" in tab.text("#end")[0] and not tab.errors
    assert all(url.startswith(("file:", "data:", "blob:", "about:")) for url in tab.asked)
    ana = saved(tab)
    # Another rater has another order and other sides.
    tab.open(page)
    started(tab, "Ben")
    for _ in range(21):
        seen_to_the_end(tab)
        tab.press("3", "3")
    ben = saved(tab)
    assert [vote["trial"] for vote in ana["votes"]] != [vote["trial"] for vote in ben["votes"]]
    sides = [{(vote["trial"], vote["left"]) for vote in one["votes"]} for one in (ana, ben)]
    assert 4 <= len(sides[0] & sides[1]) <= 17
    files = []
    for one in (ana, ben):
        files.append(tmp_path / f"{len(files)}.json")
        files[-1].write_text(json.dumps(one))
    assert len(votes.read_votes(key, files)) == 42
    assert main(["study", "--votes", *map(str, files), "--study", str(out)]) == 0
    assert "42 votes of 2 raters on 21 of 21 pairs" in capsys.readouterr().out


# ---- The votes -------------------------------------------------------------------------------------------------------


def test_votes_make_a_ranking(asked, tmp_path, capsys):
    out, key = asked
    better = {"ours": 2, "nearest": 1, "zéro": 1}

    def honest(left, right):
        return "same" if better[left] == better[right] else "left" if better[left] > better[right] else "right"

    files = [voted(tmp_path, key, rater, honest) for rater in ("a", "b", "c")]
    assert main(["study", "--votes", *map(str, files), "--study", str(out), "--json", str(tmp_path / "f.json")]) == 0
    said = capsys.readouterr().out
    assert re.search(r"^ours +\+\d\.\d\d ", said, re.M) and "two raters agree on a pair: 1.00 (by chance" in said
    assert "too few votes to tell nearest from zéro: the interval of their difference holds 0" in said
    found = json.loads((tmp_path / "f.json").read_text())
    first, second, third = found["systems"]
    assert first["system"] == "ours" and first["win_rate"] == 1 and first["votes"] == 42
    assert second["strength"] == pytest.approx(third["strength"], abs=1e-6)
    pairs = {frozenset((one["first"], one["second"])): one for one in found["pairs"]}
    tie = pairs[frozenset(("nearest", "zéro"))]
    assert (tie["win_rate"], tie["no_difference"], tie["votes"], tie["told_apart"]) == (0.5, 21, 21, False)
    assert pairs[frozenset(("ours", "zéro"))]["told_apart"] and found["krippendorff_alpha"] == 1
    assert found["no_difference"] == pytest.approx(1 / 3)


def test_a_vote_counts_for_the_side_that_its_rater_saw(asked, tmp_path):
    _, key = asked
    path = voted(tmp_path, key, "a", lambda left, right: "left")
    data = json.loads(path.read_text())
    for row in data["votes"]:
        row["left"], row["right"] = row["right"], row["left"]
    path.write_text(json.dumps(data))
    found = votes.read_votes(key, [path])
    assert [vote.winner() for vote in found] == [trial.right for trial in key.trials]
    shares = votes.columns(key, found).share
    assert shares.tolist() == [0.0] * 21


def test_how_long_the_votes_took(asked, tmp_path, capsys):
    out, key = asked
    path = voted(tmp_path, key, "a", lambda *_: "left")
    data = json.loads(path.read_text())
    for row, took in zip(data["votes"], (0.5, 9, 4.5, 3, "x", None, -1), strict=False):
        row |= {"seconds": took, "clip": 4}
    data["votes"] = data["votes"][:7]
    path.write_text(json.dumps(data))
    assert main(["study", "--votes", str(path), "--study", str(out)]) == 0
    said = capsys.readouterr().out
    assert "seconds to a vote: 3.8 (median); 2 of 4 timed votes in less than the longer clip takes" in said


def test_few_votes_tell_nothing(systems, tmp_path, capsys):
    key = made(systems, tmp_path / "s", "--pairs", "15")
    path = voted(
        tmp_path, key, "a", lambda left, right: "left" if left == "ours" else "right" if right == "ours" else None
    )
    assert main(["study", "--votes", str(path), "--study", str(tmp_path / "s")]) == 0
    said = capsys.readouterr().out
    assert "too few votes to tell ours from nearest: compared on 5 clips, 6 at least are needed" in said
    assert re.search("too few votes to tell (nearest from zéro|zéro from nearest): compared on 0 clips", said)
    assert "one rater alone" in said and "5 of 15 pairs have no vote yet" in said and "agree on a pair: - (" in said


def test_a_system_without_a_vote_has_no_rank(systems, tmp_path, capsys):
    key = made(systems, tmp_path / "s", "--pairs", "1")
    path = voted(tmp_path, key, "a", lambda *_: "same")
    assert main(["study", "--votes", str(path), "--study", str(tmp_path / "s"), "--json", str(tmp_path / "f")]) == 0
    (unseen,) = set(key.systems) - {video.system for video in key.videos.values()}
    assert f"no vote yet on {unseen}" in capsys.readouterr().out
    found = json.loads((tmp_path / "f").read_text())
    assert len(found["systems"]) == 2 and len(found["pairs"]) == 1 and found["left"] is None


def test_too_many_pairs_are_refused(systems, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(study, "MOST_PAIRS", 6)
    words = ("--videos", systems / "ours", systems / "nearest", "--out", tmp_path / "s")
    assert "make 7 pairs, 6 at most; give --pairs N" in fails(capsys, *words)
    assert main(["study", *map(str, words), "--pairs", "6"]) == 0


def test_bad_votes_are_one_line_each(asked, systems, tmp_path, capsys):
    out, key = asked
    left = lambda *_: "left"  # noqa: E731
    good = voted(tmp_path, key, "good", left)
    rows = json.loads(good.read_text())["votes"]
    bad = {
        "has votes of the study x, not of": {"study": "x"},
        f"'bad' votes on {rows[0]['trial']} twice; remove one": {"votes": [*rows, rows[0]]},
        "the study has no pair t9999 of": {"votes": [{**rows[0], "trial": "t9999"}]},
        "the study has no pair t0001 of 0": {"votes": [{**rows[0], "left": "0000"}]},
        "the choice of t0001 is none of left, right, same": {"votes": [{**rows[0], "choice": "both"}]},
        "holds a vote without its trial": {"votes": [{"trial": "t0001"}]},
        "there is no vote in it": {"votes": []},
        "is no file of votes (no study, rater and votes)": {"votes": {}},
        "names no rater": {"rater": " "},
    }
    for message, changes in bad.items():
        path = voted(tmp_path, key, "bad", left, **changes)
        assert message in fails(capsys, "--votes", path, "--study", out)
    (tmp_path / "copy.json").write_bytes(good.read_bytes())
    said = fails(capsys, "--votes", good, tmp_path / "copy.json", "--study", out)
    assert "copy.json: 'good' votes on t0001 as in" in said and "give one file of each rater" in said
    (tmp_path / "text.json").write_text("left")
    assert "is no file of votes (" in fails(capsys, "--votes", tmp_path / "text.json", "--study", out)
    assert "no study here" in fails(capsys, "--votes", good, "--study", systems)
    key_file = tmp_path / "s"
    made(systems, key_file, "--pairs", "2")
    text = (key_file / "key.json").read_text()
    (key_file / "key.json").write_text(text.replace('"clip": "', '"clip": 1, "c": "', 1)[: len(text)])
    assert "is damaged" in fails(capsys, "--votes", good, "--study", key_file)


def test_mistakes_of_a_new_study(systems, tmp_path, capsys):
    ours, nearest, out = systems / "ours", systems / "nearest", tmp_path / "new"
    assert "gives 1 systems; give the folders of 2 to 50" in fails(capsys, "--videos", ours, "--out", out)
    assert "--seed -1: give 0 or more" in fails(capsys, "--videos", ours, nearest, "--out", out, "--seed", "-1")
    assert "a system named 'ours' is there already" in fails(capsys, "--videos", ours, ours, "--out", out)
    assert "is no folder" in fails(capsys, "--videos", ours, tmp_path / "none", "--out", out)
    (tmp_path / "empty").mkdir()
    assert "no clip is in all folders (ours 8, empty 0 videos)" in fails(
        capsys, "--videos", ours, tmp_path / "empty", "--out", out
    )
    (tmp_path / "empty" / "clip0.mp4").write_text("no video")
    assert "is no video" in fails(capsys, "--videos", ours, tmp_path / "empty", "--out", out)
    assert "--pairs 0" in fails(capsys, "--videos", ours, nearest, "--out", out, "--pairs", "0")
    assert "is no question" in fails(capsys, "--videos", ours, nearest, "--out", out, "--question", " ")
    assert "give --videos and --out" in fails(capsys, "--videos", ours, nearest)
    assert "give --videos and --out" in fails(capsys, "--videos", ours, nearest, "--out", out, "--votes", "x")
    assert "give --videos and --out" in fails(capsys)
    assert not out.exists()
    assert main(["study", "--videos", f"a={ours}", f"b={ours}", "--out", str(out), "--pairs", "1"]) == 0
    said = capsys.readouterr().out
    assert "8 clips that all 2 systems have" in said and "1 pairs of 2 videos, in the page" in said
    assert "holds a study already" in fails(capsys, "--videos", ours, nearest, "--out", out)
    film(tmp_path / "empty" / "clip0.mp4", even(5), size=(32, 32))
    words = ["study", "--videos", str(ours), str(tmp_path / "empty"), "--out", str(tmp_path / "other")]
    assert main(words) == 0
    said = capsys.readouterr().out
    assert "raters may know a system by its size or frame rate: ours 64x48 at 25; empty 32x32 at 25" in said
    assert "left out 7 clips that not all have, the first: alone" in said
