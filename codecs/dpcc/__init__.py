"""D-PCC: a learned codec of points, after He, Ren, Tang, Zhang, Xue, Fu, "Density-preserving Deep Point Cloud
Compression", CVPR 2022.

A cloud is thinned three times by farthest points; the points that remain, on a grid, and a few numbers each are
coded, and the decoder grows one to eight children from each, three times.
"""  # noqa: D205
