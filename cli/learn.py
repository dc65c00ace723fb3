"""The verbs learn, classify and few-shot: classes from a handful of examples."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from limen.cli.embedding_options import (
    CohortOption,
    Domain,
    DomainOption,
    EmbeddingsOption,
    IndexOption,
    Material,
    RebuildOption,
    RegionOption,
    SheetOption,
    SightOptions,
    look_at,
    open_material,
    row_named,
)
from limen.cli.options import BundleOption, JsonOption, PrecisionOption, RuntimeOption, YuNetOption
from limen.cli.output import EXIT_NO, note, print_table, say, say_json

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from limen.uses.classes import Answer, Classes, Rejection, Rule
    from limen.uses.embedding_set import EmbeddingSet

ClassesOption = Annotated[
    Path, typer.Option("--classes", help="The file of classes; 'limen learn' makes it.")
]
RuleOption = Annotated[str, typer.Option("--rule", help="prototype or nearest.")]


def register(app: typer.Typer) -> None:
    """Add this module's verbs."""
    app.command()(learn)
    app.command()(classify)
    app.command(name="few-shot")(few_shot)


def learn(
    name: Annotated[str, typer.Argument(metavar="CLASS", help="What the examples show.")],
    examples: Annotated[
        list[str] | None, typer.Argument(help="Pictures; with --embeddings names or rows.")
    ] = None,
    classes: ClassesOption = Path("classes.npz"),
    forget: Annotated[bool, typer.Option("--forget", help="Forget the class instead.")] = False,
    embeddings: EmbeddingsOption = None,
    domain: DomainOption = Domain.FACES,
    region: RegionOption = None,
    bundle: BundleOption = None,
    runtime: RuntimeOption = None,
    precision: PrecisionOption = None,
    yunet: YuNetOption = None,
    json: JsonOption = False,
) -> None:
    """Learn a class from one to ten examples, without training."""
    from limen.errors import ConfigError, ModelMismatchError
    from limen.uses.classes import Classes
    from limen.uses.classes_file import read_classes, write_classes

    if forget == bool(examples):
        raise ConfigError("name examples to learn, or --forget without any")
    if forget:
        kept = read_classes(classes).forget(name)
    else:
        options = SightOptions(domain, region, bundle, runtime, precision, yunet)
        rows, model_id, _ = _looked_at(examples or [], embeddings, options)
        before = (
            read_classes(classes) if classes.exists() else Classes.none(rows.shape[1], model_id)
        )
        if before.model_id != model_id:
            raise ModelMismatchError(
                f"{classes} is of model {before.model_id[:8] or 'unknown'}, this is "
                f"{model_id[:8] or 'unknown'}: give the bundle and domain it was made with, or "
                "another --classes"
            )
        kept = before.learn(name, rows)
    write_classes(classes, kept)
    counts = kept.counts()
    if json:
        say_json({"classes": counts, "file": str(classes), "model_id": kept.model_id})
    else:
        say(", ".join(f"{one} ({count})" for one, count in counts.items()) or "no class")


def classify(
    probes: Annotated[list[str], typer.Argument(help="Pictures; with --embeddings names or rows.")],
    classes: ClassesOption = Path("classes.npz"),
    rule: RuleOption = "prototype",
    threshold: Annotated[
        float | None, typer.Option(help="Below this score it is none of them.")
    ] = None,
    max_fpir: Annotated[
        float, typer.Option(help="Else: the share of strangers taken for any class, at most.")
    ] = 0.01,
    confidence: Annotated[float, typer.Option(help="How sure that share is kept to.")] = 0.95,
    cohort: CohortOption = None,
    sheet: SheetOption = None,
    embeddings: EmbeddingsOption = None,
    domain: DomainOption = Domain.FACES,
    region: RegionOption = None,
    bundle: BundleOption = None,
    runtime: RuntimeOption = None,
    precision: PrecisionOption = None,
    yunet: YuNetOption = None,
    json: JsonOption = False,
) -> None:
    """Which of the learnt classes is this, if any? Exit 1 where one is none of them."""
    from limen.errors import ConfigError, ModelMismatchError
    from limen.uses.classes import classify as answer
    from limen.uses.classes_file import read_classes

    ready = read_classes(classes)
    options = SightOptions(domain, region, bundle, runtime, precision, yunet)
    rows, model_id, material = _looked_at(probes, embeddings, options)
    if model_id != ready.model_id:
        raise ModelMismatchError(
            f"{classes} is of model {ready.model_id[:8] or 'unknown'}, the probes of "
            f"{model_id[:8] or 'unknown'}: give the bundle and domain it was made with"
        )
    if not ready.names:
        raise ConfigError(f"{classes} holds no class; 'limen learn CLASS PICTURE…' adds one")
    chosen = _rule(rule)
    rejection = _rejection(
        ready, chosen, threshold, max_fpir, confidence, cohort, material, options
    )
    answers = answer(ready, rows, chosen, rejection.threshold)
    if sheet is not None:
        if embeddings is not None:
            raise ConfigError("--sheet shows pictures: it does not go with --embeddings")
        _sheet(sheet, probes, answers, rejection.threshold)
    if json:
        told = [
            {"probe": probe, "class": one.name, "ranked": [list(pair) for pair in one.ranked[:10]]}
            for probe, one in zip(probes, answers, strict=True)
        ]
        say_json(
            {
                "answers": told,
                "threshold": rejection.threshold,
                "basis": rejection.basis,
                "bound": rejection.bound,
            }
        )
    else:
        for probe, one in zip(probes, answers, strict=True):
            best, score = one.ranked[0]
            nearest = "" if one.name else f", nearest {best}"
            say(f"{probe}: {one.name or 'none of them'} ({score:.3f}{nearest})")
        note(f"threshold {rejection.threshold:.3f}: {rejection.basis}")
    if any(one.name is None for one in answers):
        raise typer.Exit(EXIT_NO)


def few_shot(
    folder: Annotated[
        Path | None, typer.Argument(help="A folder of CLASS/PICTURE, or its index.")
    ] = None,
    embeddings: EmbeddingsOption = None,
    ways: Annotated[int, typer.Option(min=2, help="Classes an episode.")] = 5,
    shots: Annotated[int, typer.Option(min=1, max=100, help="Examples a class.")] = 1,
    queries: Annotated[int, typer.Option(min=1, help="Queries a class.")] = 5,
    episodes: Annotated[int, typer.Option(min=2, max=100_000, help="How many.")] = 600,
    within: Annotated[
        bool, typer.Option("--within", help="Classes of one folder above, as of one alphabet.")
    ] = False,
    rule: RuleOption = "prototype",
    seed: Annotated[int, typer.Option(min=0, help="Which episodes are drawn.")] = 1,
    index: IndexOption = None,
    rebuild: RebuildOption = False,
    domain: DomainOption = Domain.FACES,
    region: RegionOption = None,
    bundle: BundleOption = None,
    runtime: RuntimeOption = None,
    precision: PrecisionOption = None,
    yunet: YuNetOption = None,
    json: JsonOption = False,
) -> None:
    """How often is the right one of N classes named after K examples of each?"""
    from dataclasses import asdict

    import numpy as np

    from limen.uses.episodes import few_shot as evaluated

    chosen = _rule(rule)
    options = SightOptions(domain, region, bundle, runtime, precision, yunet)
    material = open_material(folder, embeddings, options, index, rebuild)
    figures = evaluated(
        material.found,
        ways=ways,
        shots=shots,
        queries=queries,
        episodes=episodes,
        rule=chosen,
        rng=np.random.default_rng(seed),
        within=within,
    )
    if json:
        say_json({"rule": rule, "within": within, **asdict(figures)})
        return
    rows = [
        ["accuracy", f"{figures.accuracy:.4f}"],
        ["95 % over episodes", _range(figures.episode_interval)],
        ["95 % over classes", _range(figures.class_interval)],
        ["classes", str(figures.classes)],
    ]
    title = f"{ways}-way {shots}-shot by {rule}, {episodes} episodes"
    print_table(title, ["figure", "value"], rows)


def _looked_at(
    words: list[str], embeddings: Path | None, options: SightOptions
) -> tuple[NDArray[np.float32], str, Material | None]:
    """Embeddings (k, D) of unit norm and their model; the material where pictures were looked at."""
    import numpy as np

    from limen.uses.embedding_file import read_embeddings

    if embeddings is not None:
        found = read_embeddings(embeddings)
        rows = np.array([row_named(word, found.name) for word in words])
        return found.take(rows).unit(), found.model_id, Material(found)
    bundle, sight = options.open()
    looked = np.stack([look_at(Path(word), sight) for word in words])
    return looked, sight.model_id, Material(_nothing(looked, sight.model_id), bundle, sight)


def _nothing(rows: NDArray[np.float32], model_id: str) -> EmbeddingSet:
    import numpy as np

    from limen.uses.embedding_set import EmbeddingSet

    names = tuple(str(row) for row in range(len(rows)))
    return EmbeddingSet(names, rows, np.full(len(rows), -1, np.int64), (), model_id)


def _rejection(
    ready: Classes,
    rule: Rule,
    threshold: float | None,
    max_fpir: float,
    confidence: float,
    cohort: Path | None,
    material: Material | None,
    options: SightOptions,
) -> Rejection:
    from limen.uses.classes import Rejection, rejection_by_each_other, rejection_by_strangers

    if threshold is not None:
        return Rejection(threshold, "as named")
    strangers = material.strangers(cohort, options) if material is not None else None
    if strangers is None:
        return rejection_by_each_other(ready, rule)
    return rejection_by_strangers(ready, rule, strangers, max_fpir, confidence)


def _sheet(path: Path, probes: list[str], answers: Sequence[Answer], threshold: float) -> None:
    from limen.uses.contact_sheet import Cell, write_contact_sheet

    cells = [
        Cell(
            Path(probe),
            (f"{one.name or 'none of them'} {one.ranked[0][1]:.3f}", probe),
            marked=one.name is not None,
        )
        for probe, one in zip(probes, answers, strict=True)
    ]
    write_contact_sheet(path, f"A class from {threshold:.3f} on (green)", cells)


def _rule(text: str) -> Rule:
    from limen.errors import ConfigError
    from limen.uses.classes import Rule

    if text not in list(Rule):
        raise ConfigError(f"rule '{text}': expected one of {', '.join(Rule)}")
    return Rule(text)


def _range(interval: tuple[float, float]) -> str:
    return f"{interval[0]:.4f} to {interval[1]:.4f}"
