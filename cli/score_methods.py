"""The verb score-methods: would normalised scores or a learned metric do better than the cosine?"""

from __future__ import annotations

from typing import Annotated

import typer

from limen.cli.options import BundleOption, GalleryOption, JsonOption, open_gallery
from limen.cli.output import note, percent, print_table, say_json

SEED = 1


def register(app: typer.Typer) -> None:
    """Add this module's verb."""
    app.command("score-methods")(score_methods)


def score_methods(
    max_fmr: Annotated[float, typer.Option(help="FNMR is told at this false match rate.")] = 1e-2,
    own: Annotated[
        bool, typer.Option(help="On the gallery's own people, not the bundle's strangers.")
    ] = False,
    gallery: GalleryOption = None,
    bundle: BundleOption = None,
    json: JsonOption = False,
) -> None:
    """Try Z, T, S and adaptive S-norm, whitening and KISSME on people who served no fit.

    Changes nothing: a door takes the cosine. A method counts as better where it gains more than
    twice its standard error and more than .01 of FNMR.
    """
    import numpy as np

    from limen.bundle import open_bundle
    from limen.calibration.metric import metric_evidence
    from limen.calibration.normalisation import compare_normalisations

    if own:
        with open_gallery(gallery) as opened:
            found = opened.references()
            rows, subject = found.embeddings, found.subject
    else:
        cohort = open_bundle(bundle).cohort()
        rows, subject = cohort.embeddings, cohort.subject
    rng = np.random.default_rng(SEED)
    normalised = compare_normalisations(rows, subject, max_fmr=max_fmr, rng=rng)
    metrics = [
        metric_evidence("wccn", rows, subject, max_fmr=max_fmr, rng=rng),
        metric_evidence("kissme", rows, subject, max_fmr=max_fmr, rng=rng),
    ]
    chosen: list[str] = [normalised.chosen] if normalised.chosen != "none" else []
    chosen += [each.kind for each in metrics if each.kept]
    if json:
        say_json(
            {
                "max_fmr": max_fmr,
                "people": len(np.unique(subject)),
                "fnmr_normalised": normalised.fnmr,
                "fnmr_single_pictures": metrics[0].fnmr_before,
                "fnmr_metrics": {each.kind: each.fnmr_after for each in metrics},
                "better": chosen,
            }
        )
        return
    table = [[f"fused, {kind}", percent(rate, 1)] for kind, rate in normalised.fnmr.items()]
    table.append(["single pictures, cosine", percent(metrics[0].fnmr_before, 1)])
    table += [[f"single pictures, {each.kind}", percent(each.fnmr_after, 1)] for each in metrics]
    print_table(f"held-out people, at FMR {max_fmr:g}", ["scores", "FNMR"], table)
    note(f"better than the cosine: {', '.join(chosen) or 'none of them'}")
