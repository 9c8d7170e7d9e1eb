"""The room's door."""

import subprocess
import sys

from huiyan.attention import positions


def test_every_public_name_is_there() -> None:
    for name in positions.__all__:
        assert getattr(positions, name).__name__ == name
        assert getattr(positions, name).__doc__, name


def test_entering_loads_no_torch() -> None:
    script = "import sys, huiyan.attention.positions; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0
