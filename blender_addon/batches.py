"""Many edits at once: each goes its way, and in the end there is one account of them all."""

from __future__ import annotations

from dataclasses import dataclass, field

from bpy.app.translations import pgettext_iface as iface_

from .job import Job
from .plans import Plan
from .trouble import Trouble


@dataclass
class Batch:
    """The edits of a plan, begun."""

    jobs: list[Job] = field(default_factory=list)
    failed: list[tuple[str, Trouble]] = field(default_factory=list)
    """Strips whose edits could not even begin."""
    skipped: list[tuple[str, Trouble]] = field(default_factory=list)

    @property
    def under_way(self) -> bool:
        """Whether any of it has yet to end or to come to rest."""
        return any(job.under_way for job in self.jobs)

    @property
    def done(self) -> int:
        """How many have ended well."""
        return sum(job.state == "done" and job.trouble is None for job in self.jobs)

    @property
    def troubles(self) -> list[tuple[str, Trouble]]:
        """For each strip that something went wrong with, what."""
        return self.failed + [(job.source.name, job.trouble) for job in self.jobs if job.trouble and not job.under_way]

    @property
    def pictures(self) -> tuple[float, int]:
        """Frames that are done, as far as that can be told, and frames in all."""
        weights = [(job.source.pictures, 1.0 if not job.under_way else job.fraction) for job in self.jobs]
        return sum(frames * part for frames, part in weights), sum(frames for frames, _ in weights)

    def summary(self) -> str:
        """How it stands, in a line."""
        text = iface_("{done} of {count} done").format(done=self.done, count=len(self.jobs) + len(self.failed))
        cancelled = sum(job.state == "cancelled" for job in self.jobs)
        for number, words in (
            (len(self.troubles), "{number} failed"),
            (cancelled, "{number} cancelled"),
            (len(self.skipped), "{number} skipped"),
        ):
            if number:
                text += ", " + iface_(words).format(number=number)
        return text


current: Batch | None = None
"""The newest one."""


def begin(plan: Plan) -> Batch:
    """Begin all that the plan has; what cannot begin does not keep the others from it."""
    global current
    batch = Batch(skipped=plan.skipped)
    for making in plan.todo:
        try:
            batch.jobs.append(making.begin())
        except Trouble as trouble:
            batch.failed.append((making.source.name, trouble))
    current = batch
    return batch
