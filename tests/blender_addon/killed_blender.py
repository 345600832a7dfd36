"""A Blender of its own that edits and will be killed, and the next one, which goes on.

killed_blender.py -- begin|go-on PACKAGES PROJECT.blend CHECKPOINT
"""

import os
import sys
import time

import bpy

# isort: split
import addon_utils  # a module of Blender's, there once bpy is

MODULE = "bl_ext.user_default.fatezero_vse"
what, packages, blend, checkpoint = sys.argv[-4:]
sys.path += packages.split(os.pathsep)
addon_utils.extensions_refresh()
addon_utils.enable(MODULE, default_set=True)
bpy.ops.wm.open_mainfile(filepath=blend)
addon = sys.modules[MODULE + ".operators.edit"]
session = addon.jobs.session
if what == "begin":
    settings = bpy.data.scenes["Scene"].fatezero
    settings.source, settings.target, settings.steps = "a red ball", "a blue ball", 25
    settings.model, settings.model_folder = "FOLDER", checkpoint
    job = addon.begin(bpy.context)
else:
    session.tick()
    job = session.job
while session.carries_on(job):
    if not session.tick():
        time.sleep(0.02)
    if what == "begin" and job.state == "running" and job.stage == "invert":
        print("RUNNING", flush=True)
        time.sleep(600)
bpy.ops.wm.save_mainfile()
while job.record():  # until the engine knows that the result is taken
    if not session.tick():
        time.sleep(0.02)
print("ENDED", job.state, job.trouble, flush=True)
