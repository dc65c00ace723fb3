"""The cohort of a bundle is embedded by the very graph that a door runs."""

# ruff: noqa: E402 - what follows the skips needs the packages

from __future__ import annotations

import csv
import io
import json
import tarfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

for _package in ("torch", "onnx", "onnxruntime"):
    pytest.importorskip(_package)

from foreign_network import RAW, foreign

from limen.archive import write_archive
from limen.bundle import Bundle, open_bundle, parse_bundle
from limen.calibration.rates import threshold_at_fmr
from limen.errors import BundleError
from limen.export.exporter import default_graph
from limen.export.graphs import BuiltGraph
from limen.export.pack import pack_bundle
from limen.export.recipe import ExportRecipe, load_export_recipe
from limen.train.pictures import COHORT, open_pictures

PEOPLE = {"fit": 8, "report": 50, "cohort": 12}
TAKES = 3


@pytest.fixture(scope="module")
def folder(
    tmp_path_factory: pytest.TempPathFactory, draw_picture: Callable[[int, int], np.ndarray]
) -> Path:
    """Enough people to report on that int8 can be proved, and a cohort."""
    place = tmp_path_factory.mktemp("crops")
    rows, number = [], 0
    with tarfile.open(place / "crops-00.tar", "w") as tar:
        for part, people in PEOPLE.items():
            for _ in range(people):
                rows.append({"identity": f"p{number}", "part": part})
                for take in range(TAKES):
                    bgr = cv2.cvtColor(draw_picture(number, take), cv2.COLOR_RGB2BGR)
                    content = cv2.imencode(".png", bgr)[1].tobytes()
                    entry = tarfile.TarInfo(f"p{number}/{take}.png")
                    entry.size = len(content)
                    tar.addfile(entry, io.BytesIO(content))
                number += 1
    with (place / "splits.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, ["identity", "part"])
        writer.writeheader()
        writer.writerows(rows)
    return place


@pytest.fixture(scope="module")
def packed(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    place = tmp_path_factory.mktemp("packed")
    return open_bundle(pack(folder, place, load_export_recipe("board")))


def pack(folder: Path, place: Path, recipe: ExportRecipe, **arguments: Any) -> Path:
    values = recipe.model_dump(mode="json")
    values["limits"]["int8"]["latency_ratio"] = None
    values |= {"resamples": 20, "latency_runs": 1, "threads": [1]}
    pack_bundle(
        foreign(place / "net.onnx", batch="n"),
        place / "own.limen",
        name="own",
        licence="CC0-1.0",
        terms="Any.",
        preprocessing=RAW,
        data_folder=folder,
        int8=True,
        recipe=ExportRecipe.model_validate(values),
        **arguments,
    )
    return place / "own.limen"


def stranger_scores(rows: np.ndarray, subject: np.ndarray) -> np.ndarray:
    first, second = np.triu_indices(len(rows), 1)
    strangers = subject[first] != subject[second]
    return np.einsum("nd,nd->n", rows[first[strangers]], rows[second[strangers]])


def test_proved_int8_is_the_default_and_embeds_the_cohort_and_the_floor(
    packed: Bundle, folder: Path
) -> None:
    manifest = packed.manifest
    assert manifest.default_precision == "int8"
    assert manifest.cohort is not None
    assert (manifest.cohort.precision, manifest.cohort.graph) == ("int8", "embedder.int8.onnx")
    assert "embedded by `embedder.int8.onnx`" in manifest.card
    pictures = open_pictures(folder, COHORT)
    crops = np.stack([pictures.decode(index, 32) for index in range(len(pictures))])
    cohort = packed.cohort()
    at_the_door = packed.embedder("onnx").embed(crops)  # as `limen run` opens it
    in_float = packed.embedder("onnx", "float32").embed(crops)
    nearest = cohort.embeddings @ at_the_door.T
    assert nearest.max(1).min() > 0.9995  # but for the 8 bits that a cohort is stored at
    assert (cohort.embeddings @ in_float.T).max(1).mean() < nearest.max(1).mean() - 1e-5
    floor = threshold_at_fmr(stranger_scores(at_the_door, pictures.identity), 1e-2)
    in_float_floor = threshold_at_fmr(stranger_scores(in_float, pictures.identity), 1e-2)
    assert floor != pytest.approx(in_float_floor, abs=1e-6)
    assert manifest.threshold_floor == pytest.approx(floor, abs=1e-6)


def test_int8_that_breaks_a_limit_but_was_allowed_does_not_embed_the_cohort(
    folder: Path, tmp_path: Path
) -> None:
    recipe = load_export_recipe("board")
    int8 = recipe.limits.int8.model_copy(update={"mean_cosine": 0.999999})
    strict = recipe.model_copy(update={"limits": recipe.limits.model_copy(update={"int8": int8})})
    allow = ["embedder.int8.onnx:mean_cosine"]
    manifest = open_bundle(pack(folder, tmp_path, strict, allow=allow)).manifest
    assert manifest.default_precision == "float32"
    assert manifest.cohort is not None
    assert (manifest.cohort.precision, manifest.cohort.graph) == (
        "float32",
        "embedder.float32.onnx",
    )


def test_default_graph_is_the_one_that_a_door_opens() -> None:
    graphs = [
        BuiltGraph("a.onnx", "onnx", "int8", b"a"),
        BuiltGraph("b.tflite", "tflite", "float16", b"b"),
        BuiltGraph("c.tflite", "tflite", "int8", b"c"),
        BuiltGraph("d.tflite", "tflite", "int8", b"d"),
    ]
    assert default_graph(graphs, "int8").path == "c.tflite"
    assert default_graph(graphs, "float16").path == "b.tflite"
    assert default_graph([replace(graphs[0], precision="float32")], "float32").path == "a.onnx"


def test_cohort_of_a_graph_knows_which_graphs_embed_alike(packed: Bundle) -> None:
    manifest = packed.manifest
    float32, int8 = manifest.graphs
    cohort = manifest.cohort
    assert cohort is not None
    assert cohort.is_of(int8, manifest.graphs)
    assert not cohort.is_of(float32, manifest.graphs)
    twin = float32.model_copy(update={"sha256": "ab" * 32, "path": "twin.onnx"})
    equal = float32.model_copy(update={"equivalents": (float32.sha256, twin.sha256)})
    in_float = cohort.model_copy(update={"graph": equal.path, "precision": "float32"})
    assert in_float.is_of(twin, (equal, twin))
    assert not in_float.is_of(twin, (float32, twin))
    # A bundle that was sealed before the graph was written down says its precision only.
    old = cohort.model_copy(update={"graph": None, "precision": "float32"})
    assert old.is_of(float32, manifest.graphs)
    assert not old.is_of(int8, manifest.graphs)


def test_cohort_that_names_no_graph_is_refused(packed: Bundle) -> None:
    values = packed.manifest.model_dump(mode="json")
    values["cohort"]["graph"] = "none.onnx"
    parts = [(p.path, bytes(packed.part(p.path))) for p in packed.manifest.parts()]
    content = write_archive([("manifest.json", json.dumps(values).encode()), *sorted(parts)])
    with pytest.raises(BundleError, match=r"'cohort\.graph' is 'none\.onnx'"):
        parse_bundle(content, "x")
