"""What `make quickstart` does after the installation: how long it takes, and what it reports.

Run: python benchmarks/quickstart.py [--json benchmarks/results/quickstart.json]
One whole run of scripts/quickstart.sh, the fetching of the encoder left out when it is in the cache already.
"""

import argparse
import json
import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path

ROOT = Path(__file__).parent.parent


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    began = time.monotonic()
    subprocess.run(["sh", "scripts/quickstart.sh", str(Path(sys.executable).parent)], cwd=ROOT, check=True)
    seconds = time.monotonic() - began
    report = json.loads((ROOT / "runs" / "quickstart" / "report.json").read_text(encoding="utf-8"))
    baseline = next(one for one in report["baselines"] if "TF-IDF" in one["name"])
    result = {
        "date": datetime.now(UTC).date().isoformat(),
        "machine": report["run"]["machine"],
        "seconds": round(seconds, 1),
        "training_s": round(report["training"]["seconds"], 1),
        "precision": report["training"]["precision"],
        "accuracy": report["test"]["metrics"]["accuracy"],
        "macro_f1": report["test"]["metrics"]["macro_f1"],
        "tfidf_accuracy": baseline["metrics"]["accuracy"],
        "tfidf_macro_f1": baseline["metrics"]["macro_f1"],
        "comparison": baseline["comparison"],
    }
    print(json.dumps(result, indent=2))
    if arguments.json:
        arguments.json.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
