"""The model card: what the weights were made of, how good they are, and what they are not for."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from limen.export.card_fairness import fairness_section
from limen.export.card_table import table
from limen.export.evidence import cohort_section
from limen.export.fairness import Fairness
from limen.export.finder import ExportedFinder
from limen.export.gate_table import HEADING, gate_caption, gate_rows
from limen.gate_results import Gate
from limen.manifest import Cohort, Licence
from limen.train.checkpoint import Checkpoint
from limen.train.networks.family import count_multiply_adds, count_parameters
from limen.train.pictures import CHOOSE, FIT, REPORT

_PART_MEANING = {
    REPORT: "people kept apart for figures like these; nothing was trained or chosen on them",
    CHOOSE: "people who were not trained on, but the checkpoint was chosen on them",
    FIT: "people the network was trained on: these figures say nothing about new people",
}

_NOT_YET = """\
- **Nothing that must not be fooled.** There is no liveness detection: a printed picture or a
  screen held to the camera is taken for a face. Let a second factor guard what matters.
- **No commercial use**, where the licence below says so: it comes with the training pictures.
{carrying_over}
- **No watching of public places, no search for people who did not enrol, no guess at age, sex,
  origin or mood.** The embedder is made for a door whose users chose to be known by it.
{equal_treatment}
"""

_NOT_MEASURED = """\
- **Nobody's equal treatment is shown.** Error rates by skin tone, age or sex were not measured;
  whoever is rare among the training pictures must be expected to be recognised less well."""
_MEASURED = """\
- **Not everybody is told apart equally well.** See the rates by group above: where a group's rate is
  high, the threshold that a door calibrates among adults does not hold. How often a group's own
  people are turned away was not measured."""


_FOUND_BY_CASCADES = """\
- **No calibration elsewhere carries over.** Faces are found and aligned by an interim finder
  (OpenCV's Haar cascades), less exactly than the crops that these figures stand on. Calibrate on
  the board, with its camera, and expect more failures at the door than the table says."""
_FOUND_BY_GRAPH = """\
- **No calibration elsewhere carries over.** Faces at a door are found and aligned by the bundle's
  own finder, and the figures above stand on crops as the training folder has them. Calibrate on
  the board, with its camera."""


def model_card(
    *,
    name: str,
    checkpoint: Checkpoint,
    gate: Gate,
    sizes: Mapping[str, int],
    default_precision: str,
    cohort: Cohort | None,
    threshold_floor: float | None,
    licence: Licence,
    pictures: str = "",
    finder: ExportedFinder | None = None,
    fairness: Fairness | None = None,
) -> str:
    """Return the card as Markdown.

    pictures: a sentence on where the training pictures come from, as only the user knows; the
    counts come from the checkpoint's provenance. Figures are those of `gate` and the checkpoint's
    own validation; sizes: bytes of each graph; where there are none, the card says that nothing was measured.
    """
    sections = [
        f"# {name}\n\nA face embedder for a door, with the evidence that came with it.",
        _what(checkpoint),
        _made_of(checkpoint, pictures),
        _how_good(checkpoint, gate),
        _graphs(gate, sizes, default_precision),
        *([] if finder is None else [_finder(finder)]),
        cohort_section(cohort, threshold_floor),
        *([] if fairness is None else [fairness_section(fairness)]),
        "## What it must not be used for yet\n\n"
        + _NOT_YET.format(
            carrying_over=_FOUND_BY_CASCADES if finder is None else _FOUND_BY_GRAPH,
            equal_treatment=_NOT_MEASURED if fairness is None else _MEASURED,
        ).rstrip(),
        _licence(licence),
    ]
    return "\n\n".join(sections) + "\n"


def _licence(licence: Licence) -> str:
    return (
        f"## Licence of the weights: {licence.weights}\n\n{licence.terms}\n\n"
        "The code that made and runs them has a licence of its own (Apache-2.0); it does not "
        "extend to the weights."
    )


def _what(checkpoint: Checkpoint) -> str:
    network, recipe = checkpoint.network(), checkpoint.recipe
    return (
        "## What it is\n\n"
        f"A network of the family '{network.family}' (depthwise-separable convolutions, plain "
        f"ReLU or ReLU6): "
        f"{count_parameters(network):,} parameters, "
        f"{count_multiply_adds(network, recipe.input_px) / 1e6:.0f} million multiply-adds a face, "
        f"channels {', '.join(map(str, checkpoint.channels))}. It takes aligned RGB crops of "
        f"{recipe.input_px} x {recipe.input_px} px and gives {recipe.model.embedding_size} "
        "numbers, compared by their cosine."
    )


def _first_weights(made: dict[str, Any]) -> list[str]:
    """Where the weights began: every run that this one goes on from, back to the first."""
    earlier = made.get("initialised_from")
    if isinstance(earlier, dict):
        before = earlier.get("provenance")
        origin = _first_weights(before) if isinstance(before, dict) else ["- Not recorded."]
        return [
            (
                f"- First weights: those of step {_count(earlier.get('step'))} of an earlier run, "
                f"`{earlier.get('file', 'unnamed')}` (SHA-256 {earlier.get('sha256', 'not recorded')}). "
                "Of that run:"
            ),
            *(f"  {line}" for line in origin),
        ]
    slimmed = made.get("slimmed_from")
    if isinstance(slimmed, dict):
        return [
            (
                f"- First weights: slimmed from `{slimmed.get('file', 'unnamed')}` "
                f"(SHA-256 {slimmed.get('sha256', 'not recorded')})."
            )
        ]
    return ["- First weights: random."]


def _made_of(checkpoint: Checkpoint, pictures: str) -> str:
    made: dict[str, Any] = checkpoint.provenance
    lines = ["## What it was made of", ""]
    rows = [row for row in made.get("data", []) if isinstance(row, dict)]
    for row in rows:
        lines.append(
            f"- Pictures: {_count(row.get('pictures'))} of {_count(row.get('identities'))} "
            f"people, part '{row.get('part', 'unnamed')}'."
        )
    if not rows:
        lines.append("- Pictures: the checkpoint does not say.")
    if pictures:
        lines.append(f"- Where the pictures come from: {pictures}")
    teachers = [str(teacher) for teacher in made.get("teachers", [])]
    lines.append(
        f"- Teachers whose embeddings it was taught to imitate: {', '.join(teachers) or 'none'}."
    )
    lines += _first_weights(made)
    if "sface" in json.dumps(made, default=str).lower():
        lines.append(
            "- SFace (OpenCV Zoo, Apache-2.0) does not document its training set "
            "(opencv_zoo issue 313); whatever bias or claim lies in it may lie in these weights."
        )
    stages = "; ".join(
        f"{stage.name}, {stage.steps:,} steps ({', '.join(o.kind for o in stage.objectives)})"
        for stage in checkpoint.recipe.stages
    )
    lines.append(
        f"- Recipe: {stages}. This is step {checkpoint.step:,} of "
        f"{checkpoint.recipe.total_steps:,}. The whole recipe is in the manifest."
    )
    return "\n".join(lines)


def _how_good(checkpoint: Checkpoint, gate: Gate) -> str:
    lines = ["## How good it is", ""]
    rates = {change.fmr: change for change in gate.graphs[0].fnmr}
    carried = {fmr: change for fmr, change in rates.items() if change.reliable}
    if not rates:
        lines.append(
            "No error rates were measured: the pictures give no mated and non-mated pairs."
        )
    else:
        meaning = _PART_MEANING.get(gate.part, "")
        protocol = (
            f"Every picture of part '{gate.part}' ({meaning}) against every other, cosine, "
            f"aligned crops: {gate.mated_comparisons:,} mated and "
            f"{gate.non_mated_comparisons:,} non-mated comparisons of {gate.subjects:,} people."
        )
        caution = (
            "Pairs share pictures and people, so they are not independent, and the labels contain "
            "errors. These are rates of single comparisons, not of a door's transactions."
        )
        rows = [
            [
                f"at FMR {fmr:.0e}".replace("e-0", "e-"),
                f"{change.reference:.4f}"
                + ("" if fmr in carried else " (too few people or pairs for a claim)"),
            ]
            for fmr, change in rates.items()
        ]
        lines += [protocol, "", *table([f"network in {gate.reference}", "FNMR"], rows)]
        lines += ["", caution]
    if checkpoint.validation:
        found = checkpoint.validation
        chosen_by = (
            f"While training, on part '{CHOOSE}' ({found.get('identities', 0):,.0f} people): FNMR "
            f"{found.get('fnmr_at_fmr_1e-2', float('nan')):.4f} at FMR 1e-2, "
            f"{found.get('fnmr_at_fmr_1e-3', float('nan')):.4f} at 1e-3, EER "
            f"{found.get('eer', float('nan')):.4f}. The checkpoint was chosen by these, so they "
            "flatter it."
        )
        lines += ["", chosen_by]
    return "\n".join(lines)


def _graphs(gate: Gate, sizes: Mapping[str, int], default_precision: str) -> str:
    rows = [[f"`{row[0]}`", *row[1:]] for row in gate_rows(gate, sizes)]
    text = (
        f"## The graphs\n\nEach was run on its runtime: {gate_caption(gate)}. Drifts are mean, "
        "deviation and worst of the scores' differences; milliseconds are medians of one run on "
        f"the exporting machine ({gate.machine}), whatever else it did. The default precision is "
        f"{default_precision}.\n\n" + "\n".join(table(HEADING, rows))
    )
    if gate.allowed:
        text += (
            "\n\nLet through by name although they break the export's limits: "
            f"{', '.join(gate.allowed)}."
        )
    return text


def _finder(finder: ExportedFinder) -> str:
    entry, checkpoint = finder.entry, finder.checkpoint
    made = checkpoint.provenance.get("data")
    counts: dict[str, Any] = made if isinstance(made, dict) else {}
    rows = [
        [
            f"`{row.path}`",
            f"{len(finder.parts[row.path]) / 1e6:.2f}",
            f"{row.found:.4f}",
            f"{row.mean_overlap:.4f}",
            f"{row.mean_landmark_error:.4f}",
        ]
        for row in entry.parity
    ]
    first = entry.parity[0]
    return (
        "## The face finder\n\n"
        f"Single-shot, five landmarks, {count_parameters(checkpoint.network()):,} parameters, for "
        f"inputs of {entry.width_px} x {entry.height_px} px. Trained on {_count(counts.get('faces'))} "
        f"faces in {_count(counts.get('pictures'))} pictures; boxes and landmarks are labels that "
        "public detectors (YuNet, BlazeFace, and dlib's where it was there) agreed on, so it "
        "inherits what they all miss. Each graph was run on its runtime over "
        f"{first.pictures:,} scenes of pictures held out from training, and compared with the "
        f"network in torch on {first.faces:,} faces: found, overlap of the boxes, and landmarks' "
        f"distance by that of the eyes. The default precision is {entry.default_precision}.\n\n"
        + "\n".join(table(["graph", "MB", "found", "overlap", "landmarks off by"], rows))
    )


def _count(value: object) -> str:
    return f"{value:,}" if isinstance(value, int) else "an unknown number"
