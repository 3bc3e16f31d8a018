"""Prepare: training blocks from meshes or procedural surfaces."""
