"""Verbs over pictures alone: embed and evaluate."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from limen.cli.options import (
    BundleOption,
    JsonOption,
    PrecisionOption,
    RuntimeOption,
    YuNetOption,
    open_recognition,
)
from limen.cli.output import percent, print_table, progress_bar, say, say_json


def register(app: typer.Typer) -> None:
    """Add this module's verbs."""
    app.command()(embed)
    app.command()(evaluate)


def embed(
    paths: Annotated[list[Path], typer.Argument(help="Pictures, or folders of them.")],
    out: Annotated[Path, typer.Option(help="The .npz to write.")],
    bundle: BundleOption = None,
    runtime: RuntimeOption = None,
    precision: PrecisionOption = None,
    yunet: YuNetOption = None,
    json: JsonOption = False,
) -> None:
    """Write the embedding of every picture's nearest face.

    Arrays: path, detected, embedding (unit norm; zeros where not detected), box_xyxy,
    landmarks_xy, quality. A picture without a face is a row with detected = False.
    """
    import numpy as np

    from limen.errors import PictureError
    from limen.files import write_atomically
    from limen.folder import embed_pictures, find_pictures

    if out.suffix != ".npz":
        raise PictureError(f"--out {out}: expected a name ending in .npz")
    found = find_pictures(paths)
    ready = open_recognition(bundle, runtime, precision, yunet)
    with progress_bar("embedding", len(found)) as bar:
        result = embed_pictures(
            found,
            ready.detector,
            ready.embedder,
            ready.bundle.manifest.embedding_size,
            lambda done: bar.update(0, completed=done),  # type: ignore[arg-type]
        )
    with write_atomically(out) as file:
        np.savez(file, **result.arrays())  # type: ignore[arg-type]
    acquired = int(result.detected.sum())
    if json:
        say_json(
            {
                "out": str(out),
                "pictures": len(found),
                "detected": acquired,
                "failures": [{"path": f.path, "reason": f.reason} for f in result.failures],
                "model_id": result.model_id,
            }
        )
        return
    say(f"{acquired} of {len(found)} pictures embedded into {out}")
    for failure in result.failures[:10]:
        say(f"  no embedding: {failure.path}: {failure.reason}")
    if len(result.failures) > 10:
        say(f"  and {len(result.failures) - 10} more; --json lists them all")


def evaluate(
    pairs: Annotated[Path, typer.Option(help="A list of pairs in LFW's format.")],
    images: Annotated[Path, typer.Option(help="Folder of NAME/NAME_0001.jpg pictures.")],
    bundle: BundleOption = None,
    runtime: RuntimeOption = None,
    precision: PrecisionOption = None,
    yunet: YuNetOption = None,
    leave_out: Annotated[
        Path | None,
        typer.Option(help="People the network may have met in training, one name a line."),
    ] = None,
    json: JsonOption = False,
) -> None:
    """Report accuracy on a public list of pairs (LFW, View 2).

    A pair with a failure to acquire counts as rejected, as a door would reject it.
    """
    from limen.calibration.evaluation import evaluate_pairs, read_people

    ready = open_recognition(bundle, runtime, precision, yunet)
    with progress_bar("embedding", 1) as bar:
        result = evaluate_pairs(
            pairs,
            images,
            ready.detector,
            ready.embedder,
            ready.bundle.manifest.embedding_size,
            lambda done, total: bar.update(0, completed=done, total=total),  # type: ignore[arg-type]
            leave_out=read_people(leave_out) if leave_out else (),
        )
    if json:
        say_json(result.as_dict())
        return
    rows = [
        ["ten-fold accuracy", f"{result.accuracy:.4f} ± {result.accuracy_deviation:.4f}"]
        if result.accuracy is not None
        else ["ten-fold accuracy", "– (one fold)"],
        ["… of the pairs that were acquired", _four(result.accuracy_acquired)],
        ["AUC", f"{result.auc:.4f}"],
        [
            "EER",
            f"{percent(result.eer)}, between {' and '.join(map(percent, result.eer_interval))}",
        ],
        ["TAR at FMR 1e-2", f"{result.tar_at_fmr_1e_2:.4f}"],
        [
            "TAR at FMR 1e-3",
            (
                f"{result.tar_at_fmr_1e_3:.4f}, between "
                f"{' and '.join(map(_four, result.tar_at_fmr_1e_3_interval))}"
            ),
        ],
        [
            "FMR100, FMR1000, ZeroFMR",
            ", ".join(_four(rate) for rate in (result.fmr100, result.fmr1000, result.zero_fmr)),
        ],
        ["d′, minimum Cllr", f"{_four(result.d_prime)}, {result.min_cllr:.4f} bits"],
        ["mated, non-mated pairs", f"{result.mated_pairs}, {result.non_mated_pairs}"],
        [
            "pictures, failures to acquire",
            f"{result.pictures}, {result.failures_to_acquire} ({percent(result.fta)})",
        ],
        ["pairs with a failure", str(result.pairs_not_acquired)],
        *([["pairs left out", str(result.pairs_left_out)]] if leave_out else []),
    ]
    print_table(f"{pairs.name} with model {result.model_id[:8]}", ["figure", "value"], rows)


def _four(value: float | None) -> str:
    return "–" if value is None else f"{value:.4f}"
