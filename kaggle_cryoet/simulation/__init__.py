"""Labelled tomograms: a specimen of beads and membranes, seen by a tilting electron microscope."""
