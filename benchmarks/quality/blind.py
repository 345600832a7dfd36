"""A page on which people judge: two clips of the same edit side by side, and nobody is told which method made which.

As in the paper's user study, three questions: which shows the edit, which is steadier, which is the better picture.
The page is one file with everything in it and needs no network; votes stay in the browser until they are downloaded.
"""

from __future__ import annotations

import base64
import io
import json
from pathlib import Path

import numpy as np
from PIL import Image

from .baselines import METHOD
from .pairs import pair, truth
from .report import Results

TEMPLATE = Path(__file__).with_name("blind.html")


def write(results: Results, path: Path) -> None:
    """The method against each baseline, over all pairs that both have edited and that differ."""
    clips: dict[str, str] = {}
    rounds = []
    method = {edit.number: edit for edit in results.of(METHOD)}
    for number, mine in method.items():
        known = truth(pair(number), results.job.world, results.job.frames)
        clips[f"{number}"] = _strip(known.source)
        for theirs in (edit for edit in results.edits if edit.number == number and edit.folder != mine.folder):
            for edit in (mine, theirs):
                clips.setdefault(f"{number} {edit.strategy}", _strip(edit.frames))
            source, target = pair(number).prompts
            rounds.append({"pair": number, "source": source, "target": target, "methods": [METHOD, theirs.strategy]})
    data = {"frames": results.job.frames, "clips": clips, "rounds": rounds, "model": results.job.model}
    page = TEMPLATE.read_text(encoding="utf-8").replace("/*DATA*/null", json.dumps(data))
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(page, encoding="utf-8")


def _strip(clip: np.ndarray) -> str:
    """A clip (F, side, side, 3) as one picture of frames beside each other, as a data address."""
    file = io.BytesIO()
    Image.fromarray(np.concatenate(list(clip), axis=1)).save(file, "WEBP", quality=92)
    return "data:image/webp;base64," + base64.b64encode(file.getvalue()).decode()
