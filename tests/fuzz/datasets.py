"""Tiny copies of the datasets that are prepared, one folder each, and how their tables are harmed."""

import json
import pickle
from pathlib import Path
from random import Random

from fuzz.mutations import harmed, odd_json, odd_rows
from fuzz.reader import Changes
from signer_jax.data.datasets import aslg_pc12, csl_daily, folder, how2sign, openvid, phoenix14t, prompt2sign, wlasl
from signer_jax.data.datasets.item import Item, Left

_MODULES = {
    "aslg": aslg_pc12, "csl": csl_daily, "folder": folder, "how2sign": how2sign, "openvid": openvid,
    "phoenix": phoenix14t, "prompt2sign": prompt2sign, "wlasl": wlasl,
}  # fmt: skip
# The files that are harmed, and what parts their cells.
_TABLES = {
    "how2sign/how2sign_realigned_val.csv": "\t", "wlasl/WLASL_v0.3.json": "", "wlasl/nslt_2000.json": "",
    "phoenix/PHOENIX-2014-T.dev.corpus.csv": "|", "csl/csl2020ct_v2.pkl": "", "csl/split_1.txt": "|",
    "prompt2sign/train.text": " ", "prompt2sign/train.skels": " ", "aslg/a.en": " ", "aslg/a.asl": " ",
    "openvid/a.csv": ",", "folder/samples.csv": ",",
}  # fmt: skip


def make(where: Path) -> None:
    notes = [{"name": f"S{i}", "label_gloss": ["好"], "label_char": ["你", "好"], "signer": i} for i in range(4)]
    signs = [{"video_id": str(i), "split": "train", "frame_start": 1, "frame_end": -1, "url": "u"} for i in range(4)]
    counters = " ".join(["0.5 " * 150 + str((i + 1) / 3) for i in range(3)])
    texts: dict[str, str | bytes] = {
        "how2sign/how2sign_realigned_val.csv": "VIDEO_NAME\tSENTENCE_NAME\tSTART_REALIGNED\tEND_REALIGNED\tSENTENCE\n"
        + "".join(f'v-1-rgb_front\tv_{i}-1-rgb_front\t{i}.5\t{i + 2}\tsay "hi"\n' for i in range(4)),
        "wlasl/WLASL_v0.3.json": json.dumps([{"gloss": "book", "instances": signs}]),
        "wlasl/nslt_2000.json": json.dumps({"9": {"subset": "train", "action": [0, 1, 9]}}),
        "wlasl/wlasl_class_list.txt": "0\tbook\n",
        "phoenix/PHOENIX-2014-T.dev.corpus.csv": "name|video|start|end|speaker|orth|translation\n"
        + "".join(f"a{i}|a/*.png|-1|-1|S|SONNE|die sonne .\n" for i in range(4)),
        "csl/csl2020ct_v2.pkl": pickle.dumps({"info": notes}),
        "csl/split_1.txt": "name|split\n" + "".join(f"S{i}|train\n" for i in range(4)),
        "prompt2sign/train.text": "one two\nthree\n", "prompt2sign/train.skels": f"{counters}\n{counters}\n",
        "aslg/a.en": "the item\nnext\n", "aslg/a.asl": "ITEM\nNEXT\n",
        "openvid/a.csv": 'video,caption\na.mp4,"a dog, it runs"\nb.mp4,two\n',
        "folder/samples.csv": "name,video,text,gloss,start,end\n"
        + "".join(f'n{i},v.mp4,"a, text",A B,{i},{i + 1}\n' for i in range(4)),
    }  # fmt: skip
    for file in ("wlasl/videos/0.mp4", "openvid/video/a.mp4", "folder/v.mp4"):
        texts[file] = "x"
    for file, content in texts.items():
        (where / file).parent.mkdir(parents=True, exist_ok=True)
        (where / file).write_bytes(content if isinstance(content, bytes) else content.encode())


def harm(where: Path, case: int, rng: Random) -> Changes:
    file = list(_TABLES)[case % len(_TABLES)]
    data = (where / file).read_bytes()
    if rng.random() < 0.4 or file.endswith(".pkl"):
        return {file: harmed(data, case // len(_TABLES), rng)}
    return {file: odd_json(data, rng) if file.endswith(".json") else odd_rows(data, _TABLES[file], rng)}


def read(where: Path, changes: Changes) -> None:
    """Every item is printable and within its folder, every one left out has its reason."""
    name = next(iter(changes)).partition("/")[0]
    module, source = _MODULES[name], where / name
    names = set()
    for split in module.splits(source):
        for found in module.items(source, split):
            assert found.split == split and found.name
            if isinstance(found, Left):
                assert (
                    found.reason and found.where and "\n" not in found.name + found.reason + found.where + found.detail
                )
                found.name.encode(), found.detail.encode()
                continue
            assert isinstance(found, Item) and (split, found.name) not in names
            names.add((split, found.name))
            for text in (found.name, found.text, found.signer, *(found.glosses or ())):
                text.encode()
                assert len(text) <= 100_000 and "\x1b" not in text
            assert (found.glosses is None) == (found.glosses_by == "")
            for path in (found.video, found.pose):
                assert path is None or source.resolve() in path.resolve().parents
            if found.seconds:
                assert 0 <= found.seconds[0] < (found.seconds[1] or float("inf"))
