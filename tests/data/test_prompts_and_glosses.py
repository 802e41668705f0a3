"""Prompts by templates and glosses by programs: what they are made of, and that they are told from people's."""

import hashlib
import json
import re
from pathlib import Path

import pytest
from filmed import even, film

from signer_jax.cli.main import main
from signer_jax.data import glossing, prompts
from signer_jax.data.datasets.item import Item, Left
from signer_jax.data.prepared import layout, reading, sharing, work
from signer_jax.data.prepared.taking import How
from signer_jax.errors import SignerError
from signer_jax.evaluation.figures import Evaluation
from signer_jax.evaluation.glosses import evaluate_glosses
from signer_jax.types import Sample


def test_templates_are_questions_and_requests_in_several_languages():
    assert len(prompts.TEMPLATES) >= 4 and prompts.MOST == 8
    for templates in prompts.TEMPLATES.values():
        assert len(set(templates)) == len(templates) and all(one.count("{}") == 1 for one in templates)
        asks = [one for one in templates if re.search(r"[??]$", one)]
        assert 3 <= len(asks) <= len(templates) - 3


def test_a_name_and_a_seed_decide_the_prompts():
    made = prompts.prompts_of("The door is open.", "en", "a", 3)
    assert len(set(made)) == 3 and all('"The door is open."' in one for one in made)
    assert made == prompts.prompts_of("The door is open.", "en", "a", 3)
    others = [prompts.prompts_of("The door is open.", "en", name, 3, seed) for name, seed in (("b", 0), ("a", 1))]
    assert made not in others and len(prompts.prompts_of("x", "en-US", "a", 99)) == 8
    assert prompts.prompts_of('say "hi"', "en", "a", 1)[0].count("'say \"hi\"'") == 1
    assert prompts.prompts_of("hello {}", "en", "a", 1)[0].count('"hello {}"') == 1
    assert prompts.prompts_of("今天下雨", "zh", "a", 2)[0].count('"今天下雨"') == 1
    assert prompts.prompts_of("hello", "xx", "a", 2) == prompts.prompts_of(" ", "en", "a", 2) == []


def test_a_prompt_is_a_sample_without_what_is_filmed():
    item = Item("a", "train", "hello", "", "ase", "en", ("HELLO",), "human", video=Path("a.mp4"), seconds=(0, 1))
    asked = Item("b", "train", "hello", "how?", "ase", "en")
    found = prompts.of_item(item, 2)
    assert [one.name for one in found] == ["a~prompt1", "a~prompt2"]
    own, *others = prompts.of_item(asked, 2)
    assert (own.name, own.text, own.prompt, own.prompt_by) == ("b~prompt", "hello", "how?", "dataset")
    assert [one.name for one in others] == ["b~prompt1", "b~prompt2"] and prompts.of_item(asked, 0) == [own]
    assert prompts.of_item(Item("c", "train", prompt="how?", spoken="en"), 2) == [], "it is its prompt itself"
    one = found[0]
    assert (one.text, one.prompt_by, one.glosses) == ("hello", "templates", ("HELLO",))
    assert one.video is None and one.seconds is None and '"hello"' in one.prompt and prompts.of_item(item, 0) == []


@pytest.mark.parametrize(
    ("text", "glosses"),
    [
        ("The children are running to the houses.", "child run house"),
        ("I don't know what she's making.", "i not know what she make"),
        ("My mother's car stopped.", "my mother car stop"),
        ("We liked it, and tried 3 boxes.", "we like it and try 3 box"),
        ("He was eating, washing, dancing and visiting.", "he eat wash dance and visit"),
        ("This is nothing; yes, his bus needed us.", "this nothing yes his bus need us"),
        ("The a an.", ""),
        ("", ""),
    ],
)
def test_rules_by_hand(text, glosses):
    assert glossing.english(text) == tuple(glosses.split())


def test_only_what_lacks_glosses_gets_some():
    items = [
        Item("a", "train", "It rains.", language="ase", spoken="en"),
        Item("b", "train", "Es regnet.", language="gsg", spoken="de"),
        Item("c", "train", "It rains.", language="ase", spoken="en", glosses=("RAIN",), glosses_by="human"),
        Item("d", "train", "the", language="ase", spoken="en"),
        Left("e", "train", "no text", "row 3"),
    ]
    made = glossing.glossed(items, glossing.by_rules, "rules")
    assert made[0].glosses == ("it", "rain") and made[0].glosses_by == "rules"
    assert made[1:] == items[1:]
    all_of_them = glossing.glossed(items, glossing.by_rules, "rules", every=True)
    assert all_of_them[2].glosses == ("it", "rain") and all_of_them[2].glosses_by == "rules"
    assert [all_of_them[i] for i in (0, 1, 3, 4)] == [made[i] for i in (0, 1, 3, 4)]


def test_all_is_the_programs_glosses_or_none():
    """A set beside the one with people's glosses repeats none of these."""
    own = {"glosses": ("REGEN",), "glosses_by": "human"}
    items = [
        Item("a", "train", "Es regnet.", language="gsg", spoken="de", **own),
        Item("b", "train", "the", language="ase", spoken="en", **own),
        Item("c", "train", language="gsg", spoken="de", **own),  # a sign: no text to make glosses of
    ]
    made = glossing.glossed(items, glossing.by_rules, "rules", every=True)
    assert [(one.glosses, one.glosses_by) for one in made] == [(None, ""), (None, ""), (("REGEN",), "human")]
    assert [glossing.unglossed(*pair) for pair in zip(items, made, strict=True)] == [True, True, False]
    assert glossing.glossed(items, glossing.by_rules, "rules") == items


def test_a_long_text_has_glosses_to_its_end():
    numbers = [f"number{i}" for i in range(90)]
    assert glossing.english(" ".join(numbers)) == tuple(numbers)


# ---- The command -----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def source(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("texts") / "source"
    folder.mkdir()
    rows = ["name,split,text,gloss,glosses_by,language,spoken"]
    rows += [f"r{i},train,The mother opens {i} doors.,,,ase,en" for i in range(3)]
    rows += ["h0,train,The dog is old.,DOG OLD,human,ase,en", "h1,dev,The cat is old.,CAT OLD,human,ase,en"]
    rows += ["r9,dev,The mother opens 9 doors.,,,ase,en", "z,train,早上好,,,csl,zh"]
    (folder / "samples.csv").write_text("\n".join(rows) + "\n")
    return folder


@pytest.fixture(scope="module")
def prepared(source, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("set") / "own"
    words = ["prepare", "folder", "--source", str(source), "--out", str(out), "--prompts", "2", "--glosses", "rules"]
    assert main(words) == 0
    return out


def test_what_is_left_out_has_no_prompts(tmp_path):
    (tmp_path / "source").mkdir()
    film(tmp_path / "source" / "v.mp4", even(12))
    file = tmp_path / "source" / "v.mp4"
    file.write_bytes(file.read_bytes()[:-90])
    rows = "name,video,text,gloss,language,spoken\nv,v.mp4,hello,HELLO,ase,en\nw,,bye,BYE,ase,en\n"
    (tmp_path / "source" / "samples.csv").write_text(rows)
    words = ["prepare", "folder", "--source", str(tmp_path / "source"), "--out", str(tmp_path / "set")]
    assert main([*words, "--prompts", "1"]) == 0
    made = layout.PreparedSet(tmp_path / "set")
    kept = [row["name"] for _, table in made.tables("train") for row in table["kept"]]
    assert kept == ["w", "w~prompt1"] and made.counts["train"]["items"] == 2


def test_what_a_program_made_is_told_everywhere(prepared):
    report = json.loads((prepared / "report.json").read_text())
    train, dev = (report["counts"][split] for split in ("train", "dev"))
    assert (train["items"], train["kept"], train["texts"], train["glossed"], train["prompts"]) == (5, 5, 5, 4, 10)
    assert (dev["items"], dev["glossed"], dev["prompts"]) == (2, 2, 0)
    assert report["glosses_by"] == {"rules": 4, "human": 2, "none": 1}
    coverage = report["gloss_coverage"]["ase"]
    assert coverage["train"]["human"]["glosses"] == 2 and coverage["train"]["rules"]["glosses"] == 12
    # DOG and OLD are known from people; what the rules made of dev is compared with what they made of train.
    assert coverage["dev"]["human"]["seen_in_training"] == 0.5
    assert coverage["dev"]["rules"]["seen_in_training"] == 0.75
    page = (prepared / "report.html").read_text()
    assert "prompts a training text" in page and "glosses where there were none" in page


def test_a_run_learns_of_prompts_and_of_the_glosses_that_it_names(prepared, tmp_path):
    def texts(folder: str, split: str, *by: str) -> list[Sample]:
        reading.write(tmp_path / folder, str(prepared), fps=0, size=(16, 16), glosses_by=by)
        records = reading.opened(tmp_path / folder).texts(split)
        return [records[i] for i in range(len(records))]

    found = texts("all", "train", "human", "rules")
    assert len(found) == 4 * 3 and {sample.glosses_by for sample in found} == {"human", "rules"}
    asked = [sample for sample in found if "~prompt" in sample.name]
    assert len(asked) == 8 and all(re.search(r'"The .*\."', sample.text) for sample in asked)
    assert [sample.name for sample in texts("human", "train", "human")] == ["h0", "h0~prompt1", "h0~prompt2"]
    assert [sample.glosses_by for sample in texts("dev", "dev", "human", "unknown")] == ["human"]
    about = json.loads((tmp_path / "all" / "corpus.json").read_text())
    assert "sign" in about["words"]["ase"]  # of the prompts, which a run may be asked by


def test_a_datasets_own_prompts_are_read_by_a_run(tmp_path, capsys):
    """As samples beside their texts, in each split, with prompts by templates beside them; a row that has a prompt
    alone is its prompt.
    """
    (tmp_path / "source").mkdir()
    rows = ["name,split,text,prompt,gloss,glosses_by,language,spoken"]
    rows += [f"{split}{i},{split},door {i},how is door {i} signed?,DOOR,human,ase,en" for split in ("train", "dev")
             for i in range(2)]  # fmt: skip
    rows += ["plain,train,The dog is old.,,DOG OLD,human,ase,en", "alone,train,,show me a cat,CAT,human,ase,en",
             "tr0,train,kapı açık,,DOOR,human,tsm,tr", "none,train,text,,DOOR,human,ase,",
             ",train,,,DOOR,human,ase,en"]  # fmt: skip
    (tmp_path / "source/samples.csv").write_text("\n".join(rows) + "\n")
    words = ["prepare", "folder", "--source", str(tmp_path / "source"), "--out", str(tmp_path / "set")]
    assert main([*words, "--prompts", "1"]) == 0
    made = layout.PreparedSet(tmp_path / "set")
    train, dev = (made.counts[split] for split in ("train", "dev"))
    assert (train["items"], train["left_out"], train["kept"], train["texts"], train["prompts"]) == (7, 1, 6, 6, 5)
    assert (dev["kept"], dev["prompts"]) == (2, 2)
    said = ("2 of 6 training texts have no prompts by templates: 1 in tr, without templates (en, de, zh, fr, es, it "
            "have some); 1 in no language that is known: name it with --spoken")  # fmt: skip
    assert said in capsys.readouterr().err and said in json.loads((tmp_path / "set/report.json").read_text())["remarks"]
    reading.write(tmp_path / "run", str(made.directory), fps=0, size=(16, 16))
    corpus = reading.opened(tmp_path / "run")
    asked = {split: {one.name: one.text for one in (found[i] for i in range(len(found)))}
             for split, found in ((split, corpus.texts(split)) for split in ("train", "dev"))}  # fmt: skip
    assert asked["dev"] == {f"dev{i}{end}": text for i in range(2) for end, text in (
        ("", f"door {i}"), ("~prompt", f"how is door {i} signed?"))}  # fmt: skip
    assert {name for name in asked["train"] if not name.endswith("~prompt1")} == {
        "train0", "train0~prompt", "train1", "train1~prompt", "plain", "alone", "tr0", "none"
    }  # fmt: skip
    assert {name for name in asked["train"] if name.endswith("1") and '"' in asked["train"][name]} == {
        "train0~prompt1", "train1~prompt1", "plain~prompt1"
    }  # fmt: skip
    assert asked["train"]["alone"] == "show me a cat" and asked["train"]["train1~prompt"] == "how is door 1 signed?"
    assert {"signed", "cat"} <= set(json.loads((tmp_path / "run/corpus.json").read_text())["words"]["ase"])


def test_a_film_with_a_prompt_alone_says_its_prompt(tmp_path):
    (tmp_path / "source").mkdir()
    film(tmp_path / "source/v.mp4", even(12))
    (tmp_path / "source/samples.csv").write_text("name,video,prompt,spoken\nv,v.mp4,a dog runs,en\n")
    assert main(["prepare", "folder", "--source", str(tmp_path / "source"), "--out", str(tmp_path / "set")]) == 0
    reading.write(tmp_path / "run", str(tmp_path / "set"), fps=0, size=(16, 16))
    corpus = reading.opened(tmp_path / "run")
    assert corpus.motions("train")[0].text == "a dog runs" and list(corpus.captions("train")) == ["a dog runs"]


def test_texts_without_glosses_are_told_where_none_were_asked_for(tmp_path, capsys):
    (tmp_path / "source").mkdir()
    rows = "text,gloss,glosses_by,language,spoken\nIt rains.,,,ase,en\nIt snows.,SNOW,human,ase,en\n"
    (tmp_path / "source/samples.csv").write_text(rows)
    words = ["prepare", "folder", "--source", str(tmp_path / "source"), "--out"]
    assert main([*words, str(tmp_path / "set"), "--prompts", "2"]) == 0
    said = "1 of 2 texts have no glosses, so that no run learns glosses of them; --glosses rules or slul:RUN makes some"
    assert said in capsys.readouterr().err
    reading.write(tmp_path / "run", str(tmp_path / "set"), fps=0, size=(16, 16))
    assert "no glosses are learned of 1 of 2 texts: 1 without glosses" in capsys.readouterr().err, "prompts aside"
    assert main([*words, str(tmp_path / "rules"), "--glosses", "rules"]) == 0
    assert "no glosses" not in capsys.readouterr().err


def test_programs_glosses_mix_with_peoples_where_they_are_named_alone(prepared, tmp_path, capsys):
    says = r"sentences of ase have .* \(human 1, rules 3\); name those .* --config.data.glosses_by=human,rules for all"
    with pytest.raises(SignerError, match=says):
        reading.write(tmp_path / "a", str(prepared), fps=0, size=(16, 16))
    assert not (tmp_path / "a").exists()
    reading.write(tmp_path / "b", str(prepared), fps=0, size=(16, 16), glosses_by=("human", "rules"))
    assert "'train': glosses of ase are by human 1, rules 3" in capsys.readouterr().err
    reading.write(tmp_path / "c", str(prepared), fps=0, size=(16, 16), glosses_by=("rules",))
    assert "are by" not in capsys.readouterr().err


def test_programs_glosses_are_no_reference_beside_peoples(prepared, tmp_path, monkeypatch):
    from signer_jax.evaluation import glosses as evaluated

    seen = []

    def understand(texts, languages, linker):
        seen.append(texts)
        raise InterruptedError

    monkeypatch.setattr(evaluated, "understand_rows", understand)

    def scored(by: tuple[str, ...]) -> tuple[list[str], str]:
        reading.write(tmp_path / f"{by}", str(prepared), fps=0, size=(16, 16), glosses_by=by)
        result = Evaluation()
        signer = type("Signer", (), {"corpus": reading.opened(tmp_path / f"{by}"), "linker": None})
        with pytest.raises(InterruptedError):
            evaluate_glosses(signer, "dev", 10, result, noise=0.0)
        return seen[-1], result.facts["gloss/references_by"]

    assert scored(("human", "rules")) == (["The cat is old."], "human")
    assert scored(("rules",)) == (["The mother opens 9 doors."], "rules")


def test_glosses_of_a_trained_run(tiny_run, source, tmp_path):
    words = ["prepare", "folder", "--source", str(source), "--out", str(tmp_path / "set")]
    assert main([*words, "--glosses", f"slul:{tiny_run}"]) == 0
    report = json.loads((tmp_path / "set" / "report.json").read_text())
    made = dict(report["glosses_by"])
    assert made.pop("human") == 2 and set(made) <= {"slul", "none"} and made["none"] >= 1  # 早上好 has no such language
    assert re.fullmatch(rf"slul \({re.escape(str(tiny_run))}, parameters [0-9a-f]{{64}}\)", report["how"]["glosses"])
    (tmp_path / "mounted").symlink_to(tiny_run)
    for place in (f"{tiny_run}/", tmp_path / "mounted"):  # the same run
        assert main([*words, "--glosses", f"slul:{place}"]) == 0
    assert json.loads((tmp_path / "set" / "report.json").read_text()) == report
    folder = tmp_path / "annotated"
    folder.mkdir()
    rows = (source / "samples.csv").read_text().replace("doors.,,", "doors.,DOOR,human")
    (folder / "samples.csv").write_text(rows)
    words = ["prepare", "folder", "--source", str(folder), "--out", str(tmp_path / "again")]
    assert main([*words, "--glosses", f"slul:{tiny_run}", "--glosses-for", "all"]) == 0
    report = json.loads((tmp_path / "again" / "report.json").read_text())
    again = dict(report["glosses_by"])
    assert set(again) <= {"slul", "none"} and sum(again.values()) == 7, "people's are not repeated"
    assert report["how"]["glosses_for"] == "all"


def test_parts_that_were_made_by_other_rules_are_made_anew_and_no_others(tmp_path):
    """As of a set that was begun before `--glosses-for all` left texts without, or with folders of poses that began at
    frame 1.
    """
    text, frames = Item("a", "train", text="Es regnet.", language="gsg", glosses=("REGEN",)), tmp_path / "a_openpose"
    frames.mkdir()
    lacking, every = (
        work.Job("folder", tmp_path, tmp_path / "out", How(glosses_for=which), ("train",), lambda _: ())
        for which in ("lacking", "all")
    )

    def before(item: Item) -> str:
        return hashlib.sha256(str(layout.VERSION).encode() + sharing.told(item, tmp_path)).hexdigest()

    assert work._key([text], lacking) == before(text) != work._key([text], every)
    assert work._key([posed := Item("b", "train", pose=frames)], lacking) != before(posed)
    asking = Item("c", "train", text="Es regnet.", prompt="Wie gebärdet man Regen?")
    assert work._key([asking], lacking) != before(asking), "its prompt is a sample now"
    ruled = work.Job("folder", tmp_path, tmp_path / "out", How(glosses="rules"), ("train",), lambda _: ())
    long, short = (Item("d", "train", text=" ".join(f"n{i}" for i in range(count))) for count in (65, 64))
    assert work._key([short], ruled) == before(short) and work._key([long], lacking) == before(long)
    assert work._key([long], ruled) != before(long), "it had 64 glosses"


def test_texts_for_which_no_program_has_glosses_stand_without_and_are_told(tmp_path, capsys):
    folder = tmp_path / "source"
    folder.mkdir()
    rows = ["text,gloss,glosses_by,language,spoken", "Es regnet.,REGEN,human,gsg,de", "Es schneit.,SCHNEE,human,gsg,de",
            "It rains.,RAIN,human,ase,en"]  # fmt: skip
    (folder / "samples.csv").write_text("\n".join(rows) + "\n")
    words = ["prepare", "folder", "--source", str(folder), "--out", str(tmp_path / "set"), "--glosses", "rules"]
    assert main([*words, "--glosses-for", "all"]) == 0
    report = json.loads((tmp_path / "set/report.json").read_text())
    assert report["glosses_by"] == {"rules": 1, "none": 2}
    assert report["kept_otherwise"] == {glossing.UNGLOSSED: ["line 2", "line 3"]}
    said = "2 of 3 texts have glosses in the dataset, for which --glosses rules made none"
    assert said in capsys.readouterr().err and any(said in line for line in report["remarks"])


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--prompts", "9"], "--prompts 9: give 0 to 8, as many templates as there are"),
        (["--glosses", "slul"], "--glosses slul: give none, rules, or slul:RUN with a trained run's folder"),
        (["--glosses", "slul:/nowhere"], "/nowhere"),
        (["--glosses-for", "all"], "--glosses-for all: there are none to give; add --glosses slul:RUN"),
    ],
)
def test_what_is_refused(words, said, source, tmp_path, capsys):
    assert main(["prepare", "folder", "--source", str(source), "--out", str(tmp_path / "set"), *words]) == 2
    assert said in capsys.readouterr().err and not (tmp_path / "set").exists()


def test_a_set_of_before_is_read(prepared, tmp_path):
    """Records without `prompt_by` are texts as ever."""
    one = layout.PreparedSet(prepared)
    (name, _), *_ = one.tables("train")
    from signer_jax.data.shards import Shard, pack, unpack

    tree = Shard(one.file(name, layout.TEXT), unpack, "")[0]
    del tree["prompt_by"]
    assert layout.read_text(pack(tree | {"prompt": "asked"})).text == tree["text"]
