"""How long `huiyan --help` and `import huiyan` take as whole processes, beside importing torch.

Run: python benchmarks/startup.py [--runs 7] [--json benchmarks/results/startup.json]
The commands take turns in one run; the figure is the median, in seconds.
"""

import argparse
import json
import statistics
import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path

import torch

from huiyan.core.devices import describe_machine

COMMANDS = {
    "huiyan --help": "import sys; sys.argv[1:] = ['--help']; from huiyan.cli.main import main; main()",
    "import huiyan": "import huiyan",
    "import torch": "import torch",
    "python": "pass",
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=7)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    seconds: dict[str, list[float]] = {name: [] for name in COMMANDS}
    for run in range(arguments.runs + 1):
        for name, program in COMMANDS.items():
            began = time.perf_counter()
            subprocess.run([sys.executable, "-c", program], check=True, stdout=subprocess.DEVNULL)
            if run > 0:  # the first fills the file cache
                seconds[name].append(time.perf_counter() - began)
    medians = {name: round(statistics.median(values), 3) for name, values in seconds.items()}
    for name, median in medians.items():
        print(f"{name:16} {median:.3f} s")
    if arguments.json:
        machine = describe_machine(torch.device("cpu"))
        result = {"date": datetime.now(UTC).date().isoformat(), "machine": machine, "median_s": medians}
        arguments.json.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
