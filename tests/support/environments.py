"""Environments of their own for packages that are too large, or too particular, to stand beside the others."""

import os
import subprocess
import sys
from hashlib import sha256
from pathlib import Path
from tempfile import gettempdir
from typing import Final

ROOT: Final = Path(__file__).parents[2]


def environment(name: str) -> Path:
    """The interpreter of an environment with what `requirements/NAME.lock` pins; made at its first use.

    It is kept in the folder that TIERWISE_TEST_CACHE names, else in the system's folder of temporary files,
    under the digest of the lock: an edited lock makes a new one.
    """
    lock = ROOT / "requirements" / f"{name}.lock"
    cache = Path(os.environ.get("TIERWISE_TEST_CACHE") or Path(gettempdir(), "tierwise-test-cache"))
    folder = cache / f"{name}-{sha256(lock.read_bytes()).hexdigest()[:12]}"
    python = folder / "bin" / "python"
    if not (folder / "ready").exists():
        _run(sys.executable, "-m", "venv", "--clear", str(folder))
        pip = (str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check")
        _run(*pip, "--require-hashes", "--no-deps", "-r", str(lock))
        (folder / "ready").touch()
    return python


def clean_environment(home: Path, base_url: str, **more: str) -> dict[str, str]:
    """Variables for a program that is to know nothing of this machine but the gateway."""
    home.mkdir(exist_ok=True)
    return {
        "PATH": os.environ["PATH"],
        "HOME": str(home),
        "ANTHROPIC_BASE_URL": base_url,
        "ANTHROPIC_API_KEY": "any",
        **more,
    }


def _run(*command: str) -> None:
    subprocess.run(command, check=True)
