"""Starting, stopping and reaching the engine."""

from __future__ import annotations

import bpy

from .. import chosen, jobs, trial
from ..places import Remote
from ..protocol.errors import ProtocolError
from ..trouble import Trouble, as_is
from .base import refuse, report_trouble


class FATEZERO_OT_start_engine(bpy.types.Operator):
    """Start the engine now; Edit Strip does so too, when it is needed"""

    bl_idname = "fatezero.start_engine"
    bl_label = "Start Engine"

    @classmethod
    def poll(cls, _context) -> bool:
        return jobs.session.engine == "off"

    def execute(self, _context) -> set[str]:
        try:
            jobs.session.start_engine()
        except Trouble as trouble:
            return refuse(self, trouble)
        jobs.watch()
        jobs.redraw()
        return {"FINISHED"}


class FATEZERO_OT_stop_engine(bpy.types.Operator):
    """End the engine, and free the memory that it holds; its jobs go on when it is started again"""

    bl_idname = "fatezero.stop_engine"
    bl_label = "Stop Engine"

    @classmethod
    def poll(cls, _context) -> bool:
        return jobs.session.engine != "off"

    def execute(self, _context) -> set[str]:
        jobs.session.stop_engine()
        jobs.redraw()
        return {"FINISHED"}


class FATEZERO_OT_free_memory(bpy.types.Operator):
    """Have the engine drop its model and free the memory that it holds, on the GPU too; the next edit loads it again"""

    bl_idname = "fatezero.free_memory"
    bl_label = "Free Memory Now"

    @classmethod
    def poll(cls, _context) -> bool:
        if jobs.session.engine != "ready":
            return False
        if any(job.state == "running" and jobs.session.has(job) for job in jobs.session.jobs):
            cls.poll_message_set("An edit is running: pause or cancel it first")
            return False
        return True

    def execute(self, _context) -> set[str]:
        jobs.session.free_memory()
        jobs.watch()
        return {"FINISHED"}


class FATEZERO_OT_test_connection(bpy.types.Operator):
    """Find out whether the engine on the other computer can be reached, and what is in the way if not"""

    bl_idname = "fatezero.test_connection"
    bl_label = "Test Connection"

    @classmethod
    def poll(cls, _context) -> bool:
        return isinstance(chosen.place(), Remote)

    def invoke(self, _context, _event) -> set[str]:
        """Begin; the preferences show the answer when it is there."""
        return self._begin()

    def execute(self, _context) -> set[str]:
        """Try, and return when it is known: for scripts."""
        if self._begin() == {"CANCELLED"}:
            return {"CANCELLED"}
        trial.current.wait()
        if trial.current.trouble:
            return report_trouble(self, trial.current.trouble)
        return {"FINISHED"}

    def _begin(self) -> set[str]:
        place = chosen.place()
        try:
            chosen.check(place)
        except Trouble as trouble:
            return report_trouble(self, trouble)
        trial.start(place)
        jobs.watch()
        return {"FINISHED"}


class FATEZERO_OT_copy_key(bpy.types.Operator):
    """Copy this computer's public key, for whoever runs the engine to add: `python -m engine keys add NAME KEY`"""

    bl_idname = "fatezero.copy_key"
    bl_label = "Copy Key"

    def execute(self, context) -> set[str]:
        try:
            context.window_manager.clipboard = chosen.own_key()
        except ProtocolError as error:
            return report_trouble(self, as_is(error.sentence, error.remedy))
        return {"FINISHED"}


CLASSES = (
    FATEZERO_OT_start_engine,
    FATEZERO_OT_stop_engine,
    FATEZERO_OT_free_memory,
    FATEZERO_OT_test_connection,
    FATEZERO_OT_copy_key,
)
