"""How long commands take as whole processes: `huiyan --help`, and `huiyan predict` beside `transformers`.

Run: python benchmarks/startup.py [--runs 7] [--peers PYTHON] [--json benchmarks/results/startup.json]

The commands take turns in one run; the figure is the median, in seconds. `predict` and its peers load the same folder
(all-MiniLM-L6-v2 with a head drawn from a seed) and answer one text. PYTHON is that of an environment made from
`peers.txt`; without it the peers are left out.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch
from speed import make_folder, versions

from huiyan.core.devices import describe_machine

TEXT = "Lovely fabric and it fits perfectly."
OURS = {
    "huiyan --help": "import sys; sys.argv[1:] = ['--help']; from huiyan.cli.main import main; main()",
    "import huiyan": "import huiyan",
    "import torch": "import torch",
    "python": "pass",
    "huiyan predict": f"""
import sys
sys.argv[1:] = ["predict", FOLDER, {TEXT!r}]
from huiyan.cli.main import main
main()""",
}
PEERS = {
    "transformers": f"""
import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer
tokenizer = AutoTokenizer.from_pretrained(FOLDER)
model = AutoModelForSequenceClassification.from_pretrained(FOLDER).eval()
with torch.inference_mode():
    print(model(**tokenizer({TEXT!r}, return_tensors="pt")).logits.softmax(-1))""",
    "transformers, its pipeline": f"""
from transformers import pipeline
print(pipeline("text-classification", FOLDER, device="cpu")({TEXT!r}))""",
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--runs", type=int, default=7)
    parser.add_argument("--peers", default=os.environ.get("HUIYAN_PEERS"))
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    programs = {name: (sys.executable, program) for name, program in OURS.items()}
    if arguments.peers:
        programs |= {name: (arguments.peers, program) for name, program in PEERS.items()}
    seconds: dict[str, list[float]] = {name: [] for name in programs}
    with tempfile.TemporaryDirectory() as work:
        make_folder("minilm", Path(work))
        for run in range(arguments.runs + 1):
            for name, (python, program) in programs.items():
                began = time.perf_counter()
                command = [python, "-c", f"FOLDER = {work!r}\n{program}"]
                subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
                if run > 0:  # the first fills the file cache
                    seconds[name].append(time.perf_counter() - began)
    medians = {name: round(statistics.median(values), 3) for name, values in seconds.items()}
    for name, median in medians.items():
        print(f"{name:28} {median:.3f} s")
    result: dict[str, Any] = {
        "date": datetime.now(UTC).date().isoformat(),
        "machine": describe_machine(torch.device("cpu")),
        "median_s": medians,
    }
    if arguments.peers:
        result["versions"] = versions(arguments.peers)
        ratios = zip(seconds["huiyan predict"], seconds["transformers"], strict=True)
        result["predict_over_transformers"] = round(statistics.median(own / theirs for own, theirs in ratios), 3)
        print(f"huiyan predict takes {result['predict_over_transformers']} of the time of transformers")
    if arguments.json:
        arguments.json.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
