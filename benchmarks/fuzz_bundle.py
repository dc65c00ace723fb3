"""Fuzz the readers of bundles, graphs and arrays, guided by coverage, for as long as one likes.

    pip install atheris                                  # Linux, CPython up to 3.13
    python benchmarks/fuzz_bundle.py [TARGET] CORPUS_FOLDER [-max_total_time=600]

TARGET is bundle, onnx, tflite or arrays; the folder holds files to start from (the shipped bundle,
a graph) and receives what was found. Anything but BundleError is a finding; so is more than 2 GB or
25 seconds for one input. CI runs the hypothesis tests instead (tests/core/test_bundle_fuzz.py).
"""

from __future__ import annotations

import sys
from collections.abc import Callable

import atheris

with atheris.instrument_imports(include=["limen"]):
    from limen.arrays import unpack_arrays
    from limen.bundle import parse_bundle
    from limen.errors import BundleError
    from limen.onnx_check import check_onnx
    from limen.tflite_check import check_tflite

TARGETS: dict[str, Callable[[bytes], object]] = {
    "bundle": lambda content: parse_bundle(content, "fuzz"),
    "onnx": lambda content: check_onnx(content, "fuzz"),
    "tflite": lambda content: check_tflite(content, "fuzz"),
    "arrays": lambda content: unpack_arrays(content, "fuzz"),
}


def main() -> None:
    name = sys.argv.pop(1) if len(sys.argv) > 1 and sys.argv[1] in TARGETS else "bundle"
    target = TARGETS[name]

    def one_input(content: bytes) -> None:
        try:
            target(content)
        except BundleError:
            return

    atheris.Setup([*sys.argv, "-timeout=25", "-rss_limit_mb=2048"], one_input)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
