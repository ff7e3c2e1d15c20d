"""From tomograms to particles: normalise, segment or detect, localise, suppress."""
