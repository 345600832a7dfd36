"""What the operators share: saying what is wrong, and finding the job that is meant."""

from __future__ import annotations

import bpy
from bpy.app.translations import pgettext_rpt as rpt_
from bpy.props import StringProperty

from .. import jobs
from ..job import Job
from ..trouble import Trouble


def refuse(operator: bpy.types.Operator, trouble: Trouble) -> set[str]:
    """Say what is wrong: in the panel, and where operators report."""
    jobs.session.trouble = trouble
    return report_trouble(operator, trouble)


def report_trouble(operator: bpy.types.Operator, trouble: Trouble) -> set[str]:
    jobs.redraw()
    operator.report({"ERROR"}, " ".join(trouble.told(rpt_)))
    return {"CANCELLED"}


def see_through(operator: bpy.types.Operator, job: Job) -> set[str]:
    """Return when the job has ended or come to rest, with what an operator returns then: for scripts."""
    jobs.wait(job=job)
    if job.trouble:
        return refuse(operator, job.trouble)
    return {"FINISHED"} if job.state == "done" else {"CANCELLED"}


class OfJob:
    """An operator on one job: the one whose id is given, or else the newest that it can do something with."""

    job: StringProperty(name="Job", description="Empty: the newest one", options={"SKIP_SAVE", "HIDDEN"})

    @classmethod
    def suits(cls, job: Job) -> bool:
        """Whether there is something to do with the job."""
        raise NotImplementedError

    @classmethod
    def poll(cls, _context) -> bool:
        return any(cls.suits(job) for job in jobs.session.jobs)

    def chosen_jobs(self) -> list[Job]:
        """The job, in a list that is empty where it has gone meanwhile."""
        suited = [job for job in jobs.session.jobs if self.suits(job)]
        return [job for job in suited if job.id == self.job] if self.job else suited[-1:]

    def execute(self, _context) -> set[str]:
        for job in self.chosen_jobs():
            self.do(job)
        jobs.watch()
        jobs.redraw()
        return {"FINISHED"}
