"""Verbs over bundles: inspect, verify, diff, conform; sign, keygen and pack are beside."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from limen.cli import bundle_keys, bundle_pack
from limen.cli.options import JsonOption
from limen.cli.output import EXIT_FAILED, EXIT_NO, print_table, say, say_json

if TYPE_CHECKING:
    from limen.bundle import Bundle
    from limen.manifest import FinderGraph, Graph, Manifest

bundle_app = typer.Typer(
    help="Look into bundles, check, compare, sign, replay and pack them.", no_args_is_help=True
)
BundleArgument = Annotated[Path | None, typer.Argument(help="A .limen file; the shipped one.")]


def register(app: typer.Typer) -> None:
    """Add this module's verbs."""
    bundle_keys.register(bundle_app)
    bundle_pack.register(bundle_app)
    app.add_typer(bundle_app, name="bundle")


@bundle_app.callback()
def _group() -> None:
    """Look into bundles, check, compare, sign, replay and pack them."""


@bundle_app.command()
def inspect(
    path: BundleArgument = None,
    card: Annotated[bool, typer.Option("--card", help="Print the model card.")] = False,
    json: JsonOption = False,
) -> None:
    """Show what is in a bundle, whoever signed it. Its parts are checked, not its maker."""
    from limen.bundle import open_bundle
    from limen.trust import NO_TRUST

    bundle = open_bundle(path, NO_TRUST)
    manifest = bundle.manifest
    if json:
        say_json(
            {
                **manifest.model_dump(mode="json"),
                "signatures": [s.model_dump(mode="json") for s in bundle.signatures],
            }
        )
        return
    if card:
        say(manifest.card)
        return
    gate = {row.path: row for row in manifest.gate.graphs} if manifest.gate else {}
    rows = []
    graphs: list[Graph | FinderGraph] = [*manifest.graphs, *manifest.finder_graphs]
    for graph in graphs:
        row = gate.get(graph.path)
        change = next((c for c in row.fnmr if c.fmr == 1e-3), None) if row else None
        default = graph.precision == manifest.default_precision and graph.role == "embedder"
        rows.append(
            [
                graph.path + (" *" if default else ""),
                "any" if graph.batch is None else str(graph.batch),
                f"{graph.bytes / 1e6:.2f}",
                f"{row.mean_cosine:.4f}" if row else "–",
                f"{change.change:+.4f} ({change.low:+.4f} … {change.high:+.4f})" if change else "–",
            ]
        )
    print_table(
        f"{manifest.name}, sealed {manifest.created_at}, sequence {manifest.sequence}, "
        f"weights: {manifest.licence.weights}",
        ["graph (* default)", "batch", "MB", "cosine", "ΔFNMR at FMR 1e-3"],
        rows,
    )
    signers = ", ".join(s.key_id for s in bundle.signatures)
    say(f"signed by: {signers} (unchecked; see 'limen bundle verify')" if signers else "not signed")
    if manifest.cohort:
        by = manifest.cohort.graph or f"a network at {manifest.cohort.precision}"
        say(
            f"cohort: {manifest.cohort.embeddings} embeddings of {manifest.cohort.subjects} people, "
            f"by {by}"
        )
    if manifest.golden:
        say(f"golden inputs: {manifest.golden.inputs} for {len(manifest.golden.expected)} graphs")
    if manifest.gate and manifest.gate.allowed:
        say(f"let through by name: {', '.join(manifest.gate.allowed)}")
    say(manifest.licence.terms)


@bundle_app.command()
def verify(
    path: Annotated[Path, typer.Argument(help="A .limen file.")],
    key: Annotated[
        list[Path] | None,
        typer.Option(help="A public key to trust; this board's trusted ones. May be repeated."),
    ] = None,
    json: JsonOption = False,
) -> None:
    """Is a bundle whole, harmless, and signed by a trusted key? Exit 1 where it is not.

    Nothing is remembered: a door that opens the bundle does that.
    """
    from limen.bundle import parse_bundle, read_bundle_file
    from limen.errors import BundleError, UntrustedBundleError
    from limen.signing import load_public_key
    from limen.trust import Trust, board_trust

    trust = Trust(tuple(load_public_key(file) for file in key)) if key else board_trust()
    content = read_bundle_file(path)
    result: dict[str, Any] = {"whole": False, "trusted": None, "key_id": None, "reason": ""}
    try:
        signer = parse_bundle(content, str(path), trust).signer
        result |= {"whole": True, "trusted": None if signer is None else True}
        result["key_id"] = signer.key_id if signer else None
    except UntrustedBundleError as error:
        result |= {"whole": None, "trusted": False, "reason": str(error)}
    except BundleError as error:
        result["reason"] = str(error)
    if json:
        say_json(result)
    elif result["reason"]:
        say(f"no: {result['reason']}")
    elif result["key_id"]:
        say(f"yes: whole, and signed by {result['key_id']}, which is trusted")
    else:
        say("whole; its maker was not checked: no key is trusted here (name one with --key)")
    if result["reason"]:
        raise typer.Exit(EXIT_NO)


@bundle_app.command()
def diff(
    first: Annotated[Path, typer.Argument(help="A .limen file.")],
    second: Annotated[Path, typer.Argument(help="Another.")],
    json: JsonOption = False,
) -> None:
    """What differs between two bundles, and whether galleries survive the step. Exit 1 if any."""
    from limen.bundle import open_bundle
    from limen.trust import NO_TRUST

    one, other = open_bundle(first, NO_TRUST), open_bundle(second, NO_TRUST)
    changes = _changes(one.manifest, other.manifest)
    galleries = _galleries(one, other)
    if json:
        say_json({"changes": changes, "galleries": galleries})
    elif not changes:
        say("the same in everything but signatures")
    else:
        print_table(
            f"from {first} to {second}",
            ["field", "before", "after"],
            [[c["field"], _short(c["before"]), _short(c["after"])] for c in changes],
        )
        for row in galleries:
            kept = "stays valid" if row["kept"] else "must be enrolled again"
            say(f"a gallery of {row['graph']} {kept}")
    if changes:
        raise typer.Exit(EXIT_NO)


@bundle_app.command()
def conform(
    path: BundleArgument = None,
    threads: Annotated[int, typer.Option(min=1, max=64, help="Of each graph.")] = 1,
    json: JsonOption = False,
) -> None:
    """Replay the golden inputs on this very board. Exit 1 where an embedding or decision differs."""
    import platform

    from limen.bundle import open_bundle
    from limen.conformance import replay

    results = replay(open_bundle(path), threads)
    ran = [result for result in results if result.outcome != "not run"]
    conforms = bool(ran) and all(result.outcome == "conforms" for result in ran)
    if json:
        say_json(
            {
                "conforms": conforms,
                "machine": platform.machine(),
                "graphs": [result.as_dict() for result in results],
            }
        )
    else:
        print_table(
            f"golden inputs on {platform.machine()}, {threads} thread(s)",
            ["graph", "outcome", "distance", "allowed", "decisions changed"],
            [
                [
                    result.path,
                    result.outcome,
                    "–" if result.distance is None else f"{result.distance:.1e}",
                    f"{result.max_distance:.0e}",
                    "–" if result.changed is None else f"{result.changed} of {result.decisions}",
                ]
                for result in results
            ],
        )
        for result in results:
            if result.reason:
                say(f"{result.path}: {result.reason}")
    if not ran:
        raise typer.Exit(EXIT_FAILED)
    if not conforms:
        raise typer.Exit(EXIT_NO)


def _changes(before: Manifest, after: Manifest) -> list[dict[str, Any]]:
    """Fields whose values differ, by dotted name; lists of parts are compared by path."""
    old, new = _flat(before.model_dump(mode="json")), _flat(after.model_dump(mode="json"))
    return [
        {"field": field, "before": old.get(field), "after": new.get(field)}
        for field in sorted(old.keys() | new.keys())
        if old.get(field) != new.get(field)
    ]


def _flat(value: Any, name: str = "") -> dict[str, Any]:
    if isinstance(value, dict):
        items = [(str(key), inner) for key, inner in value.items()]
    elif isinstance(value, list) and all(isinstance(v, dict) for v in value):
        items = [(str(v.get("path", i)), v) for i, v in enumerate(value)]
    else:
        return {name: value}
    flat: dict[str, Any] = {}
    for key, inner in items:
        flat |= _flat(inner, f"{name}.{key}" if name else key)
    return flat


def _galleries(before: Bundle, after: Bundle) -> list[dict[str, Any]]:
    """For each graph of `before`, whether `after` has one of the same model id."""
    found, promised = (
        [b.manifest.model_id(g, b.detector().detector_id) for g in b.manifest.graphs]
        for b in (before, after)
    )
    return [
        {"graph": graph.path, "model_id": model_id, "kept": model_id in promised}
        for graph, model_id in zip(before.manifest.graphs, found, strict=True)
    ]


def _short(value: Any) -> str:
    text = "–" if value is None else str(value)
    return text if len(text) <= 60 else f"{text[:57]}…"
