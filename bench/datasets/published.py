"""The published data sets: facts from their publishers' pages and MPEG's common test conditions."""

from __future__ import annotations

from pathlib import Path

from .base import CloudFile, PublishedSet
from .modelnet import MeshCloud

#: Peak that papers on LiDAR geometry use for KITTI, in metres (MPEG's value for Ford is 30000 at 1 mm).
KITTI_PEAK_M = 59.70


def published_sets(root: Path | None) -> list[PublishedSet]:
    """Every published set, below a root."""
    voxelised = CloudFile("", "", Path())
    return [
        PublishedSet(
            "8ivfb",
            "8i Voxelized Full Bodies v2 (d'Eon, Harrison, Myers, Chou; WG11M40059/WG1M74006, 2017)",
            "https://plenodb.jpeg.org/pc/8ilabs (JPEG Pleno database)",
            "8i's: research and standardisation, non-commercial, cite the authors",
            "8iVFBv2/SEQ/Ply/SEQ_vox10_NNNN.ply",
            root=root,
            folder="8iVFBv2",
            pattern="*/[Pp]ly/*.ply",
            frames={
                "longdress_vox10_1300": 857_966,
                "loot_vox10_1200": 805_285,
                "redandblack_vox10_1550": 757_691,
                "soldier_vox10_0690": 1_089_091,
            },
            prototype=CloudFile("", "", Path(), bit_depth=10),
        ),
        PublishedSet(
            "mvub",
            "Microsoft Voxelized Upper Bodies (Loop, Cai, Escolano, Chou; m38673/M72012, 2016)",
            "https://plenodb.jpeg.org/pc/microsoft (JPEG Pleno database)",
            "Microsoft's: research, cite the authors",
            "MVUB/SEQ/ply/frameNNNN.ply (SEQ as andrew10, phil9, ricardo10)",
            root=root,
            folder="MVUB",
            pattern="*/[Pp]ly/frame*.ply",
            frames={
                "andrew10_frame0000": None,
                "david10_frame0000": None,
                "phil10_frame0000": None,
                "ricardo10_frame0000": None,
                "sarah10_frame0000": None,
            },
            prototype=voxelised,
            naming="0,2",
        ),
        PublishedSet(
            "owlii",
            "Owlii Dynamic Human Mesh Sequences (Xu, Lu, Wen; m41658, 2017), voxelised at 11 bits",
            "https://mpeg-pcc.org (MPEG content, dynamic objects)",
            "Owlii's: research and standardisation, cite the authors",
            "Owlii/SEQ/SEQ_vox11_NNNNNNNN.ply",
            root=root,
            folder="Owlii",
            pattern="**/*_vox11_*.ply",
            frames={
                "basketball_player_vox11_00000200": 2_925_514,
                "dancer_vox11_00000001": 2_592_758,
            },
            prototype=CloudFile("", "", Path(), bit_depth=11),
        ),
        PublishedSet(
            "semantickitti",
            "SemanticKITTI (Behley et al., ICCV 2019) on KITTI odometry (Geiger et al., CVPR 2012), velodyne sweeps",
            "https://www.semantic-kitti.org and https://www.cvlibs.net/datasets/kitti",
            "CC BY-NC-SA, non-commercial",
            "SemanticKITTI/sequences/NN/velodyne/NNNNNN.bin",
            root=root,
            folder="SemanticKITTI",
            pattern="sequences/*/velodyne/*.bin",
            prototype=CloudFile("", "", Path(), peak=KITTI_PEAK_M, merges_duplicates=False),
            naming="1,3",
        ),
        PublishedSet(
            "modelnet40",
            "ModelNet40 (Wu et al., CVPR 2015): meshes, sampled by area and voxelised at 10 bits",
            "https://modelnet.cs.princeton.edu",
            "research; the models belong to their authors",
            "ModelNet40/CATEGORY/{train,test}/CATEGORY_NNNN.off",
            root=root,
            folder="ModelNet40",
            pattern="*/t*/*.off",
            prototype=MeshCloud("", "", Path(), bit_depth=10),
        ),
    ]
