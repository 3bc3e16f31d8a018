"""A run that looks like a real one, made from rate-distortion models; every trap of a report is in it."""

import hashlib
import math

import numpy as np
import pandas as pd
import pytest

PASSPORT = {
    "peak": 1023.0,
    "peak_rule": "given",
    "psnr_factor": 3.0,
    "normals": {"source": "estimated", "neighbours": 12, "decoded": "averaged from the input's"},
    "duplicates": "counted once",
    "ties": "neighbours at one distance averaged",
}

CLOUDS = {"longdress_vox10_1300": 857_966, "loot_vox10_1200": 805_285}

# (rate, bits a point, D1 PSNR in dB, points out / points in) on longdress; tmc3's are measured, the others alike.
MODELS = {
    "gpcc-octree": [
        ("r01", 0.0220, 52.78, 0.018),
        ("r02", 0.0689, 58.44, 0.072),
        ("r03", 0.2165, 63.21, 0.278),
        ("r04", 0.4805, 67.98, 0.593),
        ("r05", 0.6146, 69.68, 0.786),
        ("r06", 0.6790, 70.38, 0.891),
        ("lossless", 0.7403, None, 1),
    ],
    "gpcc-trisoup": [
        ("r01", 0.0072, 56.13, 1.10),
        ("r02", 0.0245, 63.27, 1.04),
        ("r03", 0.0836, 68.80, 1.01),
        ("r04", 0.2568, 71.21, 1.02),
    ],
    "octree": [
        ("r01", 0.0214, 52.78, 0.018),
        ("r02", 0.0661, 58.44, 0.072),
        ("r03", 0.2090, 63.21, 0.278),
        ("r04", 0.4655, 67.98, 0.593),
        ("r05", 0.5990, 69.68, 0.786),
        ("r06", 0.6601, 70.38, 0.891),
        ("lossless", 0.7120, None, 1),
    ],
    "draco": [
        ("q06", 0.09, 51.9, 0.018),
        ("q07", 0.31, 58.0, 0.07),
        ("q08", 0.95, 63.2, 0.27),
        ("q09", 2.1, 69.1, 0.75),
        ("q10", 2.9, None, 1),
    ],
    "raw": [("lossless", 96.0, None, 1)],
    "voxel-net": [
        ("r01", 0.0290, 64.06, 1.0),
        ("r02", 0.0390, 67.34, 1.0),
        ("r03", 0.0729, 69.61, 1.0),
        ("r04", 0.1082, 71.67, 1.0),
        ("r05", 0.1509, 72.84, 1.0),
        ("r06", 0.2633, 74.10, 1.0),
    ],
}
TITLES = {
    "gpcc-octree": "G-PCC octree",
    "gpcc-trisoup": "G-PCC trisoup",
    "octree": "Octree",
    "draco": "Draco",
    "raw": "Raw",
    "voxel-net": "Voxel net",
}
SECONDS = {
    "raw": (0.01, 0.01),
    "octree": (1.1, 1.0),
    "draco": (0.9, 0.3),
    "gpcc-octree": (2.1, 1.2),
    "gpcc-trisoup": (6.0, 3.0),
    "voxel-net": (9.0, 7.0),
}


def _sha(*parts):
    return hashlib.sha256("|".join(map(str, parts)).encode()).hexdigest()


def make_row(codec, rate, cloud, *, bpp, d1, out, points, dataset="8ivfb", seed=0, repeats=3, **changes):
    """One row as the harness writes it."""
    rng = np.random.default_rng([seed, int(_sha(codec, rate, cloud)[:8], 16)])
    size = round(bpp * points / 8)
    encode, decode = SECONDS.get(codec, (1.0, 1.0))
    scale = (0.5 + bpp / (bpp + 0.3)) * points / 857_966
    encode_samples = (encode * scale * rng.lognormal(0, 0.02, repeats)).tolist()
    decode_samples = (decode * scale * rng.lognormal(0, 0.02, repeats)).tolist()
    lossless = d1 is None
    mse = 0.0 if lossless else 3 * 1023**2 / 10 ** (d1 / 10)
    d2 = None if lossless else d1 + 3.6 + 0.05 * math.log10(bpp)
    no_psnr = "the distortion is zero: the points are the input's"
    row = {
        "job_key": _sha("key", codec, rate, cloud, dataset, seed),
        "codec": codec,
        "rate": rate,
        "dataset": dataset,
        "cloud": cloud,
        "status": "ok",
        "phase": "",
        "reason": "",
        "stderr_tail": "",
        "points_in": points,
        "points_out": round(points * out),
        "point_ratio": out,
        "size_bytes": size,
        "rate_bpp": 8 * size / points,
        "estimated_bits": None,
        "sections": {"header": 16, "payload": size - 16},
        "d1_mse": mse,
        "d1_psnr_db": d1,
        "d2_mse": 0.0 if lossless else mse * 0.43,
        "d2_psnr_db": d2,
        "hausdorff_d1_sq": 0.0 if lossless else mse * 9,
        "hausdorff_d1_psnr_db": None if lossless else d1 - 9.5,
        "hausdorff_d2_sq": 0.0 if lossless else mse * 6,
        "hausdorff_d2_psnr_db": None if lossless else d1 - 7.8,
        "chamfer_sq_mean_sum": 2 * mse,
        "chamfer_mean_sum": 2 * math.sqrt(mse),
        "missing": dict.fromkeys(["d1_psnr_db", "d2_psnr_db"], no_psnr) if lossless else {},
        "passport": {**PASSPORT, "normals": {**PASSPORT["normals"], "sha256": _sha("normals", cloud)}},
        "encode_s": float(np.median(encode_samples)),
        "decode_s": float(np.median(decode_samples)),
        "encode_s_samples": encode_samples,
        "decode_s_samples": decode_samples,
        "encode_cpu_s": encode * scale,
        "decode_cpu_s": decode * scale,
        "encode_peak_mb": 90 + 60 * encode,
        "decode_peak_mb": 80 + 40 * decode,
        "metric_s": 0.4,
        "shares_cores": False,
        "threads": 2,
        "parameters": {"scale": bpp},
        "lossless": lossless,
        "codec_title": TITLES.get(codec, codec),
        "codec_version": "1.0",
        "weights_sha256": None,
        "trained": True,
        "contaminated": False,
        "notes": {},
        "ingredients": {},
        "limits": {"timeout_s": 3600.0, "memory_limit_gb": None},
        "cloud_sha256": _sha("cloud", cloud),
        "stream_sha256": _sha("stream", codec, rate, cloud, size),
        "reconstruction_sha256": _sha("out", codec, rate, cloud),
        "started_at": "2026-11-21T01:00:00+00:00",
        "seal": "landlock+userns",
        "repeats_dropped": 0,
        "schema_version": 2,
    }
    return {**row, **changes}


FAILED = dict.fromkeys(
    [
        *("points_out", "point_ratio", "d1_mse", "d1_psnr_db", "d2_mse", "d2_psnr_db", "decode_s", "decode_peak_mb"),
        *("hausdorff_d1_sq", "hausdorff_d1_psnr_db", "hausdorff_d2_sq", "hausdorff_d2_psnr_db"),
        *("chamfer_sq_mean_sum", "chamfer_mean_sum", "metric_s", "decode_cpu_s"),
    ]
) | {"passport": {}, "missing": {}, "decode_s_samples": []}


def make_rows(codecs=tuple(MODELS), clouds=CLOUDS, **options):
    """Rows of a whole run without failures; on clouds after the first all rates are 6 % lower, 0.05 dB better."""
    rows = [
        make_row(
            codec,
            rate,
            cloud,
            bpp=bpp * 0.94**number,
            d1=None if d1 is None else d1 + 0.05 * number,
            out=out,
            points=points,
            **options,
        )
        for codec in codecs
        for number, (cloud, points) in enumerate(clouds.items())
        for rate, bpp, d1, out in MODELS[codec]
    ]
    return pd.DataFrame(rows)


def change(frame, condition, **values):
    """The frame with columns of the rows of a condition replaced."""
    frame = frame.copy()
    for index in frame.index[condition(frame)]:
        for column, value in values.items():
            frame[column] = frame[column].astype(object)
            frame.at[index, column] = value
    return frame


PROVENANCE = {
    "pccbench": "0.1.0",
    "started_at": "2026-11-21T00:58:12+00:00",
    "command": "bench run --codecs all --dataset 8ivfb --data-root data",
    "python": "3.11.7",
    "packages": {"numpy": "2.4.6", "scipy": "1.17.1", "numba": "0.62.0", "torch": None},
    "system": "Linux-6.1-x86_64",
    "machine": "x86_64",
    "cpu": "Example CPU @ 2.7 GHz",
    "cores": 2,
    "usable_cores": 2,
    "memory_gb": 23.5,
    "load_1min": 0.31,
    "git_commit": "0123456789abcdef0123456789abcdef01234567",
    "git_clean": True,
    "unavailable": {"pcgcv2": "needs MinkowskiEngine; install it with pip install MinkowskiEngine"},
    "missing_clouds": {"8ivfb": ["redandblack_vox10_1550", "soldier_vox10_0690"]},
    "spec": {"datasets": ["8ivfb"], "data_root": "data", "repeats": 3},
}


def make_troubled_rows():
    """The run with what goes wrong in real ones: a timeout, a crash, untrained and contaminated codecs."""
    frame = make_rows()
    loot = "loot_vox10_1200"
    frame = change(
        frame,
        lambda f: (f["codec"] == "draco") & (f["rate"] == "q09") & (f["cloud"] == loot),
        **FAILED,
        status="timeout",
        phase="decode",
        reason="decode took longer than 60 s",
    )
    frame = change(
        frame,
        lambda f: (f["codec"] == "gpcc-trisoup") & (f["rate"] == "r04") & (f["cloud"] == loot),
        **FAILED,
        status="encode_failed",
        phase="encode",
        reason="tmc3 was killed by signal 11 (SIGSEGV)",
        stderr_tail="Slice number: 0\n<segmentation fault>",
        size_bytes=None,
        rate_bpp=None,
        encode_s=None,
        encode_peak_mb=None,
        stream_sha256="",
        encode_s_samples=[],
    )
    untrained = pd.DataFrame(
        [
            make_row("untrained-net", rate, cloud, bpp=bpp, d1=d1, out=1, points=points, trained=False)
            for cloud, points in CLOUDS.items()
            for rate, bpp, d1 in [("r01", 0.05, 54.0), ("r02", 0.11, 57.0), ("r03", 0.3, 59.5), ("r04", 0.7, 61.0)]
        ]
    )
    frame = pd.concat([frame, untrained], ignore_index=True)
    return change(
        frame,
        lambda f: (f["codec"] == "voxel-net") & (f["cloud"] == loot),
        contaminated=True,
        weights_sha256="ab" * 32,
    )


@pytest.fixture(scope="session")
def rows():
    return make_rows()


@pytest.fixture(scope="session")
def troubled_rows():
    return make_troubled_rows()


@pytest.fixture
def provenance():
    return dict(PROVENANCE)


@pytest.fixture(scope="session")
def certify():
    from pccbench.metrics.bjontegaard import certified_bd

    return certified_bd


@pytest.fixture(scope="session")
def bd(rows, certify):
    """BD figures of the run without trouble against G-PCC octree."""
    from pccbench.reports.bd import bd_table
    from pccbench.reports.frame import prepare

    return bd_table(prepare(rows), ["gpcc-octree"], certify)


@pytest.fixture(scope="session")
def troubled_bd(troubled_rows, certify):
    """The same of the run with trouble."""
    from pccbench.reports.bd import bd_table
    from pccbench.reports.frame import prepare

    return bd_table(prepare(troubled_rows), ["gpcc-octree"], certify)


@pytest.fixture(scope="session")
def report(troubled_rows, certify, tmp_path_factory):
    """Folder of a whole report, of the run with trouble."""
    from pccbench.reports import write_report

    return write_report(troubled_rows, PROVENANCE, tmp_path_factory.mktemp("report"), certify=certify).parent


@pytest.fixture(name="change")
def change_fixture():
    return change


@pytest.fixture(name="make_row")
def make_row_fixture():
    return make_row


@pytest.fixture
def passport():
    """The passport of a cloud's rows."""
    return lambda cloud: {**PASSPORT, "normals": {**PASSPORT["normals"], "sha256": _sha("normals", cloud)}}


@pytest.fixture(name="make_rows", scope="session")
def make_rows_fixture():
    return make_rows
