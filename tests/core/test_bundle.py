"""The shipped bundle, and bundles that were cut, edited or come from the future."""

import hashlib
import io
import json
import zipfile
from importlib import resources

import numpy as np
import pytest

import limen
from limen.bundle import decode_cohort, encode_cohort, open_bundle, parse_bundle
from limen.errors import BundleError, PictureError, RuntimeUnavailableError

CONTENT = (resources.files("limen.models") / "default.limen").read_bytes()


def rebuilt(change=None, drop=(), add=(), method=zipfile.ZIP_STORED) -> bytes:
    """The shipped bundle with its manifest changed, parts dropped or added."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(CONTENT)) as old, zipfile.ZipFile(buffer, "w", method) as new:
        for name in old.namelist():
            content = old.read(name)
            if name == "manifest.json" and change is not None:
                manifest = json.loads(content)
                change(manifest)
                content = json.dumps(manifest).encode()
            if name not in drop:
                new.writestr(name, content)
        for name, content in add:
            new.writestr(name, content)
    return buffer.getvalue()


def test_the_shipped_bundle_opens_and_rebuilding_it_unchanged_opens_too() -> None:
    assert open_bundle().manifest == parse_bundle(rebuilt(), "copy").manifest


def test_its_licence_is_apart_from_the_codes_and_its_card_names_teachers() -> None:
    manifest = open_bundle().manifest
    assert "non-commercial" in manifest.licence.weights
    assert "sface" in manifest.card
    assert "liveness" in manifest.card


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.999])
def test_a_bundle_cut_short_is_refused(share: float) -> None:
    with pytest.raises(BundleError, match="copy it again"):
        parse_bundle(CONTENT[: int(len(CONTENT) * share)], "cut")


def test_every_single_changed_byte_that_is_tried_is_refused() -> None:
    rng = np.random.default_rng(0)
    with zipfile.ZipFile(io.BytesIO(CONTENT)) as archive:
        manifest_end = archive.infolist()[1].header_offset
        central = archive.start_dir
    for position in rng.integers(manifest_end + 100, central, 12):
        damaged = bytearray(CONTENT)
        damaged[position] ^= 0x10
        with pytest.raises(BundleError):
            parse_bundle(bytes(damaged), "edited")


def test_a_newer_schema_says_to_update() -> None:
    with pytest.raises(BundleError, match=r"newer than 2.*update limen"):
        parse_bundle(rebuilt(lambda m: m.update(schema_version=3)), "new")


def test_an_unknown_key_names_the_nearest() -> None:
    with pytest.raises(BundleError, match="did you mean 'default_precision'"):
        parse_bundle(rebuilt(lambda m: m.update(default_precisoin="int8")), "typo")


def test_a_missing_part_is_named() -> None:
    with pytest.raises(BundleError, match=r"cohort.npz' is missing"):
        parse_bundle(rebuilt(drop={"cohort.npz"}), "less")


def test_a_part_that_nobody_announced_is_refused() -> None:
    with pytest.raises(BundleError, match="not in manifest"):
        parse_bundle(rebuilt(add=[("evil.py", b"x")]), "more")


def test_a_part_that_is_there_twice_is_refused() -> None:
    with pytest.warns(UserWarning, match="Duplicate"):
        twice = rebuilt(add=[("cohort.npz", b"other")])
    with pytest.raises(BundleError, match="twice"):
        parse_bundle(twice, "twice")


def test_compressed_parts_are_refused_so_that_none_can_swell() -> None:
    with pytest.raises(BundleError, match="compressed"):
        parse_bundle(rebuilt(method=zipfile.ZIP_DEFLATED), "bomb")


def test_another_graph_in_its_place_is_refused() -> None:
    def swap(manifest):
        manifest["graphs"][0]["sha256"] = hashlib.sha256(b"other").hexdigest()
        manifest["graphs"][0]["equivalents"] = [manifest["graphs"][0]["sha256"]]

    with pytest.raises(BundleError, match="changed after sealing"):
        parse_bundle(rebuilt(swap), "swapped")


def test_int8_on_both_runtimes_agrees_under_a_model_id_of_each() -> None:
    bundle = open_bundle()
    crop = np.random.default_rng(1).integers(0, 256, (3, 112, 112, 3), dtype=np.uint8)
    tflite = bundle.embedder("tflite", "int8")
    onnx = bundle.embedder("onnx", "int8")
    assert tflite.model_id != onnx.model_id
    assert (tflite.embed(crop) * onnx.embed(crop)).sum(axis=1).min() > 0.99
    assert np.allclose(np.linalg.norm(onnx.embed(crop), axis=1), 1, atol=1e-5)


def test_another_precision_or_finder_is_another_model() -> None:
    bundle = open_bundle()

    class OtherFinder:
        detector_id = "another"

        def detect(self, image):
            return []

    ids = {bundle.embedder("tflite", precision).model_id for precision in ("float16", "int8")}
    ids.add(bundle.embedder("tflite", "int8", OtherFinder()).model_id)
    ids.add(bundle.embedder("onnx", "int8").model_id)
    assert len(ids) == 4


def test_an_unknown_runtime_and_a_missing_graph_say_what_there_is() -> None:
    with pytest.raises(RuntimeUnavailableError, match="expected one of tflite, onnx"):
        open_bundle().embedder("tensorrt")
    with pytest.raises(RuntimeUnavailableError, match=r"it has .*tflite int8"):
        open_bundle().embedder("onnx", "float16")


def test_crops_of_another_shape_are_refused() -> None:
    with pytest.raises(PictureError, match="expected aligned crops"):
        open_bundle().embedder().embed(np.zeros((1, 96, 96, 3), np.uint8))


def test_the_cohort_survives_its_encoding() -> None:
    cohort = open_bundle().cohort()
    again = decode_cohort(encode_cohort(cohort), cohort.embeddings.shape[1])
    assert (again.embeddings * cohort.embeddings).sum(1).min() > 0.9999
    assert np.array_equal(again.subject, cohort.subject)
    with pytest.raises(BundleError, match="copy the bundle again"):
        decode_cohort(b"nothing", 128)


def test_the_public_face_is_what_it_says() -> None:
    assert {name for name in limen.__all__ if not hasattr(limen, name)} == set()
