"""Sparse: our own learned codec: a coarse grid coded losslessly, and a network that knows what surfaces look like."""
