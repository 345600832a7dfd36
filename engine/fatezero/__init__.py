"""FateZero (arXiv 2303.09535) over tensors: no files, no sockets, no threads, no globals.

Read in this order: `schedule` (DDIM), `prompts` (words and tokens), `attention` (what is done inside the UNet), `masks`
(where), `unet` (the doors into diffusers' modules), `temporal` (layers of tuned checkpoints), `frames` (how frames meet),
`method` (inversion and editing).
"""
