"""Which source code a model was trained with, or a tomogram simulated."""

import shutil
import subprocess
from pathlib import Path


def source_commit() -> str | None:
    """The commit of the source tree, if the package runs from one."""
    root = Path(__file__).parent.parent
    if not (root / ".git").exists() or shutil.which("git") is None:
        return None
    found = subprocess.run(["git", "-C", str(root), "rev-parse", "HEAD"], capture_output=True, text=True, check=False)
    return found.stdout.strip() or None
