"""From a checkpoint to one sealed bundle: convert, measure, refuse or seal."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from dataclasses import asdict
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from limen.alignment import TEMPLATE_XY
from limen.bundle import CohortEmbeddings, encode_cohort
from limen.errors import RuntimeUnavailableError
from limen.export.errors import ExportError
from limen.export.finder import export_finder
from limen.export.parity import (
    DEFAULT_LIMITS,
    BuiltGraph,
    ParityLimits,
    ParityReport,
    check_parity,
    measure_parity,
)
from limen.export.seal import digest, graph_entries, write_bundle
from limen.manifest import (
    Alignment,
    Cohort,
    HaarFinder,
    InputSpec,
    Licence,
    Manifest,
    Precision,
    ScalingSpec,
)
from limen.scaling import SCALING

if TYPE_CHECKING:
    from limen.train.checkpoint import Checkpoint
    from limen.train.networks.embedder import EmbedderNetwork
    from limen.train.pictures import Pictures

DEFAULT_LICENCE = "LicenseRef-non-commercial-research"
DEFAULT_TERMS = (
    "For non-commercial research and education only, as the terms of the training pictures demand. "
    "The weights come as they are, without any warranty; whoever uses them answers for doing so "
    "lawfully, data protection law on biometric data included."
)
COHORT_FILE = "cohort.npz"
FLOOR_FMR = 1e-2
MAX_FLOOR_PAIRS = 5_000_000
MAX_PARITY_CROPS = 5_000  # all pairs are compared, so time and memory grow with the square
INT8_MAX_FNMR_LOSS = 0.01
PACKAGES = (
    "limen",
    "torch",
    "numpy",
    "onnx",
    "onnxscript",
    "onnxruntime",
    "litert-torch",
    "ai-edge-quantizer",
    "ai-edge-litert",
)

Say = Callable[[str], None]


def export_bundle(
    checkpoint_path: Path,
    data_folder: Path,
    out: Path,
    *,
    name: str,
    licence: str = DEFAULT_LICENCE,
    terms: str = DEFAULT_TERMS,
    pictures: str = "",
    calibration_crops: int = 512,
    seed: int = 0,
    limits: ParityLimits = DEFAULT_LIMITS,
    finder: tuple[Path, Path] | None = None,
    report: Say = lambda _: None,
    clock: Callable[[], datetime] = lambda: datetime.now(UTC),
) -> Manifest:
    """Export a checkpoint's averaged network into the bundle `out` and return its manifest.

    data_folder: as for training. int8 ranges come from `calibration_crops` pictures of 'fit',
    drawn by `seed`; parity and error rates from 'report', or 'choose', or 'fit', the first that
    the folder has (the card says which); a cohort from 'cohort' where there is one. `pictures`
    says in the card where they come from. finder: a finder's checkpoint and its labels, see
    `limen.export.finder`; without it the bundle's finder is OpenCV's cascades. `report` is told
    each step.
    ExportError where a graph breaks `limits`; CheckpointError, PicturesError and
    RuntimeUnavailableError as their causes raise them. Nothing is written then.
    """
    try:
        from limen.export.card import model_card
        from limen.export.fold import fold
        from limen.train.checkpoint import load_checkpoint
        from limen.train.pictures import FIT, open_pictures
    except ImportError as error:
        raise RuntimeUnavailableError(
            f"an export needs {error.name}, which is not installed: pip install 'limen[export]'"
        ) from error
    if calibration_crops < 1:
        raise ExportError(f"calibration_crops: expected 1 or more, found {calibration_crops}")

    checkpoint = load_checkpoint(checkpoint_path)
    network, input_px = checkpoint.network(), checkpoint.recipe.input_px
    folded = fold(network)
    fit = open_pictures(data_folder, FIT)
    ranges = _draw(fit, calibration_crops, input_px, np.random.default_rng([seed, 0]))
    graphs = _build(folded, ranges, input_px, report)

    held_out = _held_out(data_folder, fit)
    report(f"comparing {len(graphs)} graphs with torch on part '{held_out.part}'")
    parity = _measure(graphs, network, held_out, input_px, np.random.default_rng([seed, 1]))
    check_parity(parity, limits)

    found = None if finder is None else export_finder(*finder, seed=seed, report=report)
    default_precision = choose_precision(parity)
    content, cohort, floor = _cohort(network, data_folder, input_px, seed, report)
    weights_licence = Licence(weights=licence, terms=terms)
    manifest = Manifest(
        name=name,
        created_at=clock().isoformat(timespec="seconds"),
        embedding_size=network.embedding_size,
        input=InputSpec(
            px=input_px, scaling=ScalingSpec(mean=SCALING.mean, divisor=SCALING.divisor)
        ),
        alignment=_alignment(input_px),
        finder=HaarFinder() if found is None else found.entry,
        default_precision=default_precision,
        graphs=graph_entries(graphs),
        cohort=cohort,
        threshold_floor=floor,
        licence=weights_licence,
        card=model_card(
            name=name,
            checkpoint=checkpoint,
            parity=parity,
            default_precision=default_precision,
            cohort=cohort,
            threshold_floor=floor,
            licence=weights_licence,
            pictures=pictures,
            finder=found,
        ),
        provenance={
            **_provenance(checkpoint, parity, len(ranges), seed),
            **({} if found is None else {"finder": found.provenance}),
        },
        parity=parity.entries(),
    )
    parts = {graph.path: graph.content for graph in graphs}
    if found is not None:
        parts |= found.parts
    if cohort is not None:
        parts[cohort.path] = content
    write_bundle(out, manifest, parts)
    report(f"sealed {out}")
    return manifest


def choose_precision(parity: ParityReport) -> Precision:
    """int8 where every int8 graph keeps the network's FNMR at FMR 1e-3 to within 0.01."""
    trained = parity.trained
    rates = [row.rates for row in parity.graphs if row.graph.precision == "int8"]
    if trained is None or not rates:
        return "float32"
    kept = all(
        r is not None and r.fnmr_at_fmr_1e_3 - trained.fnmr_at_fmr_1e_3 <= INT8_MAX_FNMR_LOSS
        for r in rates
    )
    return "int8" if kept else "float32"


def threshold_floor(cohort: CohortEmbeddings, rng: np.random.Generator) -> float | None:
    """The threshold at FMR 1e-2 among the cohort's strangers; None without two people.

    All pairs of different people, or a random five million of them where there are more.
    """
    from limen.calibration.rates import threshold_at_fmr

    count = len(cohort.embeddings)
    if count * (count - 1) // 2 <= MAX_FLOOR_PAIRS:
        left, right = np.triu_indices(count, 1)
    else:
        left, right = rng.integers(0, count, (2, MAX_FLOOR_PAIRS))
    strangers = cohort.subject[left] != cohort.subject[right]
    left, right = left[strangers], right[strangers]
    if len(left) == 0:
        return None
    scores = np.empty(len(left), np.float32)
    for start in range(0, len(left), 100_000):
        some = slice(start, start + 100_000)
        pairs = cohort.embeddings[left[some]], cohort.embeddings[right[some]]
        scores[some] = np.einsum("nd,nd->n", *pairs)
    return float(np.clip(threshold_at_fmr(scores, FLOOR_FMR), -1, 1))


def _build(folded: Any, crops: NDArray[np.uint8], input_px: int, report: Say) -> list[BuiltGraph]:
    from limen.export.onnx_graphs import float32_onnx, int8_onnx
    from limen.export.tflite_graphs import float16_tflite, float32_tflite, int8_tflite

    report("converting to ONNX, float32 and int8")
    onnx = float32_onnx(folded, input_px)
    onnx_int8 = int8_onnx(onnx, crops)
    report("converting to TFLite, float32, float16 and int8")
    tflite = float32_tflite(folded, input_px)
    return [
        BuiltGraph("embedder.float32.onnx", "onnx", "float32", onnx),
        BuiltGraph("embedder.int8.onnx", "onnx", "int8", onnx_int8),
        BuiltGraph("embedder.float32.tflite", "tflite", "float32", tflite),
        BuiltGraph("embedder.float16.tflite", "tflite", "float16", float16_tflite(tflite)),
        BuiltGraph("embedder.int8.tflite", "tflite", "int8", int8_tflite(tflite, crops)),
    ]


def _held_out(folder: Path, fit: Pictures) -> Pictures:
    from limen.train.pictures import CHOOSE, REPORT

    for part in (REPORT, CHOOSE):
        found = _part_or_none(folder, part)
        if found is not None:
            return found
    return fit


def _part_or_none(folder: Path, part: str) -> Pictures | None:
    from limen.train.pictures import PicturesError, open_pictures

    try:
        return open_pictures(folder, part)
    except PicturesError:  # 'fit' was read from this folder, so it is this part that is not there
        return None


def _measure(
    graphs: list[BuiltGraph],
    network: EmbedderNetwork,
    pictures: Pictures,
    input_px: int,
    rng: np.random.Generator,
) -> ParityReport:
    from limen.train.validation import embed_pictures

    chosen = _indices(len(pictures), MAX_PARITY_CROPS, rng)
    crops = np.stack([pictures.decode(int(index), input_px) for index in chosen])
    trained = embed_pictures(network, pictures, input_px)[chosen]
    return measure_parity(graphs, crops, trained, pictures.identity[chosen], pictures.part)


def _draw(
    pictures: Pictures, count: int, input_px: int, rng: np.random.Generator
) -> NDArray[np.uint8]:
    chosen = _indices(len(pictures), count, rng)
    return np.stack([pictures.decode(int(index), input_px) for index in chosen])


def _indices(available: int, wanted: int, rng: np.random.Generator) -> NDArray[np.int64]:
    if available <= wanted:
        return np.arange(available)
    return np.sort(rng.choice(available, wanted, replace=False))


def _cohort(
    network: EmbedderNetwork, folder: Path, input_px: int, seed: int, report: Say
) -> tuple[bytes, Cohort | None, float | None]:
    from limen.train.pictures import COHORT
    from limen.train.validation import embed_pictures

    pictures = _part_or_none(folder, COHORT)
    if pictures is None:
        report("no part 'cohort' in the folder: the bundle carries none")
        return b"", None, None
    report(f"embedding a cohort of {len(pictures.names)} people")
    rng = np.random.default_rng([seed, 2])
    # Neither the order nor the numbers say which people of the folder these are.
    order, number = rng.permutation(len(pictures)), rng.permutation(len(pictures.names))
    embeddings = embed_pictures(network, pictures, input_px)[order]
    found = CohortEmbeddings(embeddings, number[pictures.identity][order].astype(np.int64))
    content = encode_cohort(found)
    entry = Cohort(
        path=COHORT_FILE,
        sha256=digest(content),
        bytes=len(content),
        subjects=len(pictures.names),
        embeddings=len(embeddings),
        precision="float32",
    )
    return content, entry, threshold_floor(found, np.random.default_rng([seed, 3]))


def _alignment(input_px: int) -> Alignment:
    points = [(round(float(x), 4), round(float(y), 4)) for x, y in TEMPLATE_XY]
    return Alignment(px=input_px, template_xy=tuple(points))


def _provenance(
    checkpoint: Checkpoint, parity: ParityReport, calibration_crops: int, seed: int
) -> dict[str, Any]:
    return {
        "training": checkpoint.provenance,
        "recipe": checkpoint.recipe.model_dump(mode="json"),
        "checkpoint": {
            "step": checkpoint.step,
            "channels": checkpoint.channels,
            "validation": checkpoint.validation,
        },
        "export": {
            "packages": {name: _version(name) for name in PACKAGES},
            "commit": _commit(),
            "seed": seed,
            "calibration_crops": calibration_crops,
            "parity_part": parity.part,
            "trained": None if parity.trained is None else asdict(parity.trained),
        },
    }


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _commit() -> str | None:
    """The commit of the folder that the export runs in, where it is a git checkout."""
    try:
        found = subprocess.run(
            ["git", "rev-parse", "HEAD"], capture_output=True, text=True, timeout=10, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return found.stdout.strip() or None
