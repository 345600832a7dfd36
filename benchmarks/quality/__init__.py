"""The quality benchmark: edits of the rendered world, measured against their right answers (see ``__main__``)."""
