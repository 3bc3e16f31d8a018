"""Codecs behind one interface, the point cloud they work on, and the registry that finds them."""
