"""The published data sets: facts from their publishers' pages and MPEG's common test conditions.

Point counts are those of the published files; a frame whose count no public source states is not checked.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from .base import CloudFile, PublishedSet
from .modelnet import MeshCloud
from .voxelised import VoxelisedCloud

#: Peak that papers on LiDAR geometry use for KITTI, in metres (MPEG's value for Ford is 30000 at 1 mm).
KITTI_PEAK_M = 59.70
#: Step at which they voxelise it for codecs of voxels.
KITTI_STEP_M = 0.02


def published_sets(root: Path | None) -> list[PublishedSet]:
    """Every published set, below a root."""
    kitti = PublishedSet(
        "semantickitti",
        "SemanticKITTI (Behley et al., ICCV 2019) on KITTI odometry (Geiger et al., CVPR 2012), velodyne sweeps",
        "http://www.semantic-kitti.org/dataset.html and https://www.cvlibs.net/datasets/kitti/eval_odometry.php",
        "CC BY-NC-SA: non-commercial, share alike, cite the authors",
        "SemanticKITTI/sequences/NN/velodyne/NNNNNN.bin",
        root=root,
        folder="SemanticKITTI",
        pattern="sequences/*/velodyne/*.bin",
        prototype=CloudFile("", "", Path(), peak=KITTI_PEAK_M, columns=4),
        naming="1,3",
        one_of_each=True,
    )
    return [
        PublishedSet(
            "8ivfb",
            "8i Voxelized Full Bodies v2 (d'Eon, Harrison, Myers, Chou; WG11M40059/WG1M74006, 2017)",
            "https://plenodb.jpeg.org/pc/8ilabs (JPEG Pleno database)",
            "8i's agreement (license.pdf there): MPEG and JPEG standardisation and non-commercial use, cite it",
            "8iVFBv2/SEQ/Ply/SEQ_vox10_NNNN.ply",
            root=root,
            folder="8iVFBv2",
            pattern="*/[Pp]ly/*_vox10_*.ply",
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
            "Microsoft's agreement (license.pdf there): MPEG and JPEG standardisation and non-commercial use",
            "MVUB/SEQ/ply/frameNNNN.ply (SEQ: andrew, david, phil, ricardo or sarah with 9 or 10, its bit depth)",
            root=root,
            folder="MVUB",
            pattern="*/[Pp]ly/frame*.ply",
            frames={
                "andrew10_frame0000": None,
                "david10_frame0000": None,
                "phil10_frame0000": None,
                "ricardo10_frame0000": 960_703,
                "sarah10_frame0000": None,
            },
            naming="0,2",
            depth_in_sequence=True,
        ),
        PublishedSet(
            "owlii",
            "Owlii Dynamic Human Mesh Sequences (Xu, Lu, Wen; m41658, 2017), voxelised at 11 bits",
            "https://mpeg-pcc.org/index.php/pcc-content-database/owlii-dynamic-human-textured-mesh-sequence-dataset",
            "Owlii's, stated on that page; cite the authors",
            "Owlii/SEQ_vox11/SEQ_vox11_NNNNNNNN.ply, or in any other folder below Owlii",
            root=root,
            folder="Owlii",
            pattern="**/*_vox11_*.ply",
            frames={
                "basketball_player_vox11_00000200": 2_925_514,
                "dancer_vox11_00000001": 2_592_758,
            },
            prototype=CloudFile("", "", Path(), bit_depth=11),
        ),
        kitti,
        replace(
            kitti,
            name="semantickitti-2cm",
            title="SemanticKITTI sweeps voxelised at 2 cm, points of one voxel merged; peak 59.70 m",
            prototype=VoxelisedCloud("", "", Path(), peak=KITTI_PEAK_M / KITTI_STEP_M, columns=4, step=KITTI_STEP_M),
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
            one_of_each=True,
        ),
    ]
