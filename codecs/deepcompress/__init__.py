"""DeepCompress: a learned voxel codec of 64**3 blocks, with six entropy models over one transform."""
