"""Distortion, density, normals, rate and Bjøntegaard metrics: pure functions over arrays."""
