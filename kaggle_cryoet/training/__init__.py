"""From labelled tomograms to a model folder."""
