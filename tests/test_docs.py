"""The documentation, built as `make docs` does."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]


def test_it_is_built_without_a_warning_or_a_broken_link(tmp_path: Path) -> None:
    built = subprocess.run(
        [sys.executable, str(ROOT / ".ci" / "docs.py"), str(tmp_path / "site")],
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
    )
    assert built.returncode == 0, built.stderr or built.stdout
    assert "0 broken links" in built.stdout
    assert "A second, deeper network" in (tmp_path / "site" / "index.html").read_text()
    assert "learn_targets" in (tmp_path / "site" / "decouple.html").read_text()
