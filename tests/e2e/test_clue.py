"""Every command of docs/clue.md, on tiny files in the layout of its task."""

import json
import re
import shlex
from pathlib import Path
from random import Random
from typing import Any

import pytest

from huiyan.cli.main import main

PAGE = Path(__file__).parents[2] / "docs" / "clue.md"
COMMANDS = {
    command.split()[2].split("/")[0]: command
    for command in re.findall(r"```bash\n(.*?)\n```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
}
WORDS = ["质量", "很好", "太差", "衣服", "价格", "颜色", "尺码", "物流", "客服", "今天", "手机", "贷款", "还款"]


def sentence(random: Random) -> str:
    return "，".join(random.choices(WORDS, k=8)) + f"第{random.randrange(10**6)}次。"


def row(layout: str, number: int, random: Random) -> dict[str, Any]:
    """A row as CLUE has it, other keys included."""
    one, two, half = sentence(random), sentence(random), number % 2
    nli = ["entailment", "neutral", "contradiction", "-"][number % 4]
    return {
        "tnews": {"label": ["108", "104"][half], "label_desc": ["news_edu", "news_finance"][half], "sentence": one,
                  "keywords": "质量,价格"},
        "iflytek": {"label": str(half), "label_des": ["打车", "地图"][half], "sentence": one * 20},
        "afqmc": {"sentence1": one, "sentence2": two, "label": str(half)},
        "ocnli": {"level": "easy", "sentence1": one, "sentence2": two, "label": nli, "label0": nli, "label1": None,
                  "genre": "gov", "prem_id": f"gov_{number}", "id": number},
        "cmnli": {"sentence1": one, "sentence2": two, "label": nli},
        "cluewsc2020": {"target": {"span2_index": 9, "span1_index": 0, "span1_text": "衣服", "span2_text": "它"},
                        "idx": number, "label": ["true", "false"][half], "text": one},
        "csl": {"id": number, "abst": one + two, "keyword": ["质量", "价格", "物流"], "label": str(half)},
    }[layout]  # fmt: skip


def run(words: list[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(words)
    assert ended.value.code == 0


def test_every_task_has_its_command() -> None:
    assert set(COMMANDS) == {"tnews", "iflytek", "afqmc", "ocnli", "cmnli", "cluewsc2020", "csl"}


@pytest.mark.parametrize("layout", COMMANDS)
def test_the_command_reads_the_layout(
    layout: str, tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    words = shlex.split(COMMANDS[layout].replace("\\\n", " "))
    random = Random(0)
    (tmp_path / layout).mkdir()
    for name, n in ((words[2], 120), (words[words.index("--test") + 1], 40)):
        lines = [json.dumps(row(layout, number, random), ensure_ascii=False) for number in range(n)]
        (tmp_path / name).write_text("\n".join(lines) + "\n", encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    quick = [
        "--model",
        str(tiny_model),
        "--epochs",
        "1",
        "--max-length",
        "48",
        "--precision",
        "fp32",
        "--device",
        "cpu",
    ]
    given = [word for place, word in enumerate(words[1:], 1) if "--max-length" not in words[place - 1 : place + 1]]
    run([*given, *quick])
    out = Path(words[words.index("--out") + 1])
    report = json.loads((out / "report.json").read_text(encoding="utf-8"))
    is_pair = layout not in ("tnews", "iflytek")
    assert bool(report["data"]["text_pair_columns"]) == is_pair
    assert report["test"]["rows"] == (30 if layout in ("ocnli", "cmnli") else 40)
    assert len(report["classes"]) == (3 if layout in ("ocnli", "cmnli") else 2)
    # What was trained on these columns answers a file in the same layout.
    capsys.readouterr()
    run(["predict", str(out), "--file", words[2], "--out", "answers.jsonl", "--device", "cpu"])
    answers = [json.loads(line) for line in Path("answers.jsonl").read_text(encoding="utf-8").splitlines()]
    assert len(answers) == 120 and all(answer["prediction"] for answer in answers)
