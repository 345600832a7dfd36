"""Writes what a run came to: ``quality.json``, ``quality.md`` and the sheets of pictures beside them."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from .bars import SUCCESS, Bar, bars
from .baselines import METHOD
from .figures import by_kind, summary
from .pairs import KINDS, pair, truth
from .pictures import sheet
from .runs import Job, Kept

KIND_KEYS = ("success", "truth_psnr", "background_psnr", "ceiling_psnr", "mask_iou", "mask_ratio", "warp_ratio")


_NOTE = """Success: over the edited region the edit is nearer (PSNR) to the right clip than to the source and to every other
value's clip; of two objects the other one must also have kept its colour. Ceilings are the autoencoder's own. A style or
another time of day changes the whole picture: such edits have no background. Of a floor, no edit can know where in the
world the pattern starts, so a right pattern in another place may be judged wrong."""


@dataclass(frozen=True)
class Results:
    """All edits of a run."""

    job: Job
    command: str
    edits: list[Kept]

    @property
    def strategies(self) -> list[str]:
        return list(dict.fromkeys(edit.strategy for edit in self.edits))

    def of(self, strategy: str) -> list[Kept]:
        return [edit for edit in self.edits if edit.strategy == strategy]

    def kinds(self, strategy: str) -> dict[str, dict[str, float | None]]:
        return by_kind((pair(edit.number).kind, edit.figures) for edit in self.of(strategy))

    @property
    def reconstruction(self) -> dict[str, float | None]:
        rows = [edit.figures for edit in self.of(METHOD) if "reconstruction_psnr" in edit.figures]
        if not rows:
            return {"psnr": None, "ceiling_psnr": None}
        means = summary(rows)
        return {"psnr": means["reconstruction_psnr"], "ceiling_psnr": means["reconstruction_ceiling"]}

    @property
    def bars(self) -> list[Bar]:
        return bars(self.kinds(METHOD), self.reconstruction)


def as_json(results: Results) -> dict:
    """What ``quality.json`` holds; PSNR in dB, success as a fraction."""

    def kinds(strategy: str) -> dict:
        measured = results.kinds(strategy)
        return {
            kind: {key: _rounded(measured[kind].get(key)) for key in KIND_KEYS} for kind in KINDS if kind in measured
        }

    return {
        "model": results.job.model,
        "command": results.command,
        "count": len(results.of(METHOD)),
        "kinds": kinds(METHOD),
        "reconstruction": {name: _rounded(value) for name, value in results.reconstruction.items()},
        "bars": {
            bar.name: {"bar": bar.bound, "measured": _rounded(bar.measured), "met": bar.met} for bar in results.bars
        },
        "baselines": {name: kinds(name) for name in results.strategies if name != METHOD},
    }


def write(results: Results, out: Path) -> None:
    """Everything into the folder ``out``."""
    out.mkdir(parents=True, exist_ok=True)
    (out / "quality.json").write_text(json.dumps(as_json(results), indent=1) + "\n", encoding="utf-8")
    sheets = _sheets(results, out)
    (out / "quality.md").write_text(_page(results, sheets), encoding="utf-8")


def _page(results: Results, sheets: dict[str, str]) -> str:
    job, method = results.job, results.kinds(METHOD)
    counts = ", ".join(f"{values['count']} {kind}" for kind, values in method.items() if kind != "all")
    again = "Reconstruction (target = source): {} dB; the autoencoder alone {} dB.".format(
        *(decibels(results.reconstruction[key]) for key in ("psnr", "ceiling_psnr"))
    )
    about = (
        f"`{results.command}`: model `{job.model}`, {method['all']['count']} held-out pairs ({counts}), "
        f"{job.frames} frames of 128², {job.steps} steps, precision {job.precision}. Written by the command alone; "
        "`benchmarks/quality/` says how each figure is measured."
    )
    parts = [
        "# Quality on the rendered world",
        about,
        "## The method",
        table(
            ["kind", "pairs", "success", "bar", "truth dB", "ceiling", "truth SSIM", "background dB", "ceiling"]
            + ["preview mask IoU", "paper's mask, share of the best", "warp ratio"],
            [
                [
                    kind,
                    str(values["count"]),
                    percent(values["success"]),
                    percent(SUCCESS.get(kind)),
                    decibels(values["truth_psnr"]),
                    decibels(values["truth_ceiling"]),
                    ratio(values["truth_ssim"]),
                    decibels(values["background_psnr"]),
                    decibels(values["ceiling_psnr"]),
                    ratio(values["mask_iou"]),
                    ratio(values["mask_ratio"]),
                    ratio(values["warp_ratio"]),
                ]
                for kind, values in method.items()
            ],
        ),
        again,
        _NOTE,
        "## Bars",
        _bar_table(results.bars),
    ]
    if len(results.strategies) > 1:
        parts += ["## Against the engine with parts off", _baseline_table(results)]
        parts.append("Success in %, background in dB; each baseline over the same pairs.")
    parts += [f"## {title}\n\n![{title}]({name})" for title, name in sheets.items()]
    return "\n\n".join(parts) + "\n"


def _bar_table(rows: list[Bar]) -> str:
    missed = [bar for bar in rows if not bar.met]
    told = f"{len(rows) - len(missed)} of {len(rows)} bars are met."
    bound = {True: "at most", False: "at least"}
    lines = [
        [bar.name, f"{bound[bar.most]} {bar.bound:g}", ratio(bar.measured), "met" if bar.met else "**missed**"]
        for bar in rows
    ]
    return told + "\n\n" + table(["", "bar", "measured", ""], lines)


def _baseline_table(results: Results) -> str:
    """Each strategy over the pairs that all strategies have edited."""
    common = set.intersection(*({edit.number for edit in results.of(name)} for name in results.strategies))
    rows = []
    for name in results.strategies:
        measured = by_kind((pair(edit.number).kind, edit.figures) for edit in results.of(name) if edit.number in common)
        success = [percent(measured[kind]["success"]) if kind in measured else "" for kind in (*KINDS, "all")]
        overall = measured["all"]
        rows.append(
            [name, *success, decibels(overall["truth_psnr"]), decibels(overall["background_psnr"])]
            + [ratio(overall["warp_ratio"])]
        )
    heads = [f"over {len(common)} pairs", *KINDS, "all", "truth dB", "background dB", "warp ratio"]
    return table(heads, rows)


def _sheets(results: Results, out: Path) -> dict[str, str]:
    """Title to file name: best, median and worst of each kind, and one pair as every strategy edits it."""
    job, sheets = results.job, {}
    frames = tuple(sorted({0, job.frames // 2, job.frames - 1}))
    for kind in KINDS:
        edits = sorted(
            (edit for edit in results.of(METHOD) if pair(edit.number).kind == kind),
            key=lambda edit: edit.figures["region_psnr"],
            reverse=True,
        )
        if not edits:
            continue
        chosen = {"best": edits[0], "median": edits[len(edits) // 2], "worst": edits[-1]}
        rows = []
        for rank, edit in chosen.items():
            known = truth(pair(edit.number), job.world, job.frames)
            rows.append((f"{rank}: {_said(edit)}", [known.source, edit.frames, known.target]))
        name = f"quality-{kind}.png"
        sheet(out / name, rows, frames)
        sheets[f"{kind}: source, edit, right answer"] = name
    if len(results.strategies) > 1:
        number = results.of(results.strategies[-1])[0].number
        known = truth(pair(number), job.world, job.frames)
        edits = [edit for edit in results.edits if edit.number == number]
        rows = [("source and right answer: " + " to ".join(pair(number).prompts), [known.source, known.target])]
        for left, right in zip(edits[::2], [*edits[1::2], None], strict=False):
            both = [edit for edit in (left, right) if edit]
            rows.append((" | ".join(edit.strategy for edit in both), [edit.frames for edit in both]))
        sheet(out / "quality-baselines.png", rows, frames)
        sheets["One pair, every strategy"] = "quality-baselines.png"
    return sheets


def _said(edit: Kept) -> str:
    verdict = "right" if edit.figures["success"] else "wrong"
    return f"{' to '.join(pair(edit.number).prompts)} ({verdict}, {edit.figures['region_psnr']:.1f} dB)"


def table(heads: list[str], rows: list[list[str]]) -> str:
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _rounded(value: float | None) -> float | None:
    return None if value is None or not np.isfinite(value) else round(float(value), 4)


def percent(value: float | None) -> str:
    return "" if value is None else f"{100 * value:.0f} %"


def decibels(value: float | None) -> str:
    return "" if value is None else f"{value:.1f}"


def ratio(value: float | None) -> str:
    return "" if value is None else f"{value:.2f}"
