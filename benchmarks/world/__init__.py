"""A small rendered world in which the right answer to an edit is known (see ``spec`` and ``compose``)."""
