"""Manifests of older schemas, read as the present one.

Nothing that shapes an embedding changes on the way, so galleries and operating points stay valid.
"""

from __future__ import annotations

from typing import Any


def upgraded(values: dict[str, Any]) -> dict[str, Any]:
    """The values of a manifest of any known schema, as of the newest. Unknown ones pass as they are.

    The result is still to be validated.
    """
    if values.get("schema_version") == 1:
        return _from_1(values)
    return values


def _from_1(values: dict[str, Any]) -> dict[str, Any]:
    """Schema 1 had cosines and one FNMR in place of the gate, no golden inputs, no sequence."""
    newer = {key: value for key, value in values.items() if key != "parity"}
    newer["schema_version"] = 2
    provenance = values.get("provenance", {})
    if "parity" in values and isinstance(provenance, dict):
        newer["provenance"] = {**provenance, "parity_of_schema_1": values["parity"]}
    return newer
