"""Clustering of people nobody was trained on: the shipped bundle beside SFace, by one procedure.

    python benchmarks/clustering_faces.py FOLDER

FOLDER holds crops-*.tar with splits.csv and teachers.npz (docs/training.md). For each embedder the cut
is the best one for its own embeddings of the part `cohort`; nothing is chosen on `report`.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np

from limen.bundle import open_bundle
from limen.train.pictures import open_pictures
from limen.uses.cluster_figures import cluster_figures
from limen.uses.clustering import Method, best_cut, cluster
from limen.uses.strangers import Strangers


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--part", default="report")
    options = parser.parse_args()
    bundle = open_bundle()
    embedder = bundle.embedder()
    pictures = open_pictures(options.folder, options.part)
    strangers = open_pictures(options.folder, "cohort")
    ours = np.concatenate(
        [embedder.embed(pictures.decode(row, 112)[None]) for row in range(len(pictures))]
    )
    sets = {
        bundle.manifest.name: (ours, Strangers.of_bundle(bundle)),
        "SFace": (
            pictures.teachers["sface"],
            Strangers(strangers.teachers["sface"], strangers.identity, "the cohort"),
        ),
    }
    print("| embedder | method | cut | B-cubed F | precision | recall | pairwise F | NMI | AMI |")
    print("|---|---|---|---|---|---|---|---|---|")
    found: dict[tuple[str, Method], float] = {}
    for name, (unit, cohort) in sets.items():
        for method in Method:
            cut = best_cut(cohort, method)
            figures = cluster_figures(cluster(unit, cut.score, method), pictures.identity)
            both = figures.b_cubed
            found[name, method] = both.f
            print(
                f"| {name} | {method} | {cut.score:.3f} | {both.f:.4f} | {both.precision:.4f} | "
                f"{both.recall:.4f} | {figures.pairwise.f:.4f} | {figures.nmi:.4f} | "
                f"{figures.ami:.4f} |",
                flush=True,
            )
    for method in Method:
        ratio = found[bundle.manifest.name, method] / found["SFace", method]
        print(f"{method}: {ratio:.3f} of SFace's B-cubed F", file=sys.stderr)


if __name__ == "__main__":
    main()
