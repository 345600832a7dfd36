"""A Blender of its own that edits and will be killed: `killed_blender.py -- PACKAGES PROJECT.blend CHECKPOINT`."""

import os
import sys
import time

import bpy

# isort: split
import addon_utils  # a module of Blender's, there once bpy is

MODULE = "bl_ext.user_default.fatezero_vse"
packages, blend, checkpoint = sys.argv[-3:]
sys.path += packages.split(os.pathsep)
addon_utils.extensions_refresh()
addon_utils.enable(MODULE, default_set=True)
bpy.ops.wm.open_mainfile(filepath=blend)
settings = bpy.data.scenes["Scene"].fatezero
settings.source, settings.target, settings.steps = "a red ball", "a blue ball", 999
settings.model, settings.model_folder = "FOLDER", checkpoint
addon = sys.modules[MODULE + ".operators"]
job = addon.begin(bpy.context)
while not job.final:
    addon.jobs.session.tick()
    if job.state == "running" and job.stage == "invert":
        print("RUNNING", flush=True)
        time.sleep(600)
print("ENDED", job.state, job.trouble, flush=True)
