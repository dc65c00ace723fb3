"""The command `limen`: verbs, one error policy, one way of speaking.

Exit codes: 0 done or yes, 1 answered no, 2 could not be done. Results go to stdout, logs and
progress to stderr. Each verb imports what it needs when it is used.
"""

from __future__ import annotations

import logging
import sys
from typing import Annotated

import typer

from limen.cli import (
    adaptation,
    anomaly,
    audit,
    bundle,
    calibration,
    cluster,
    demo,
    doctor,
    door,
    enrolment,
    export,
    factor,
    finder,
    gallery,
    learn,
    matching,
    moving,
    opening,
    owner,
    pictures,
    preparation,
    replay,
    search,
    service,
    subjects,
    tuning,
    workstation,
)
from limen.cli.output import EXIT_FAILED, say_error
from limen.errors import LimenError

app = typer.Typer(
    name="limen",
    help="Recognise the people a door was taught, offline, with honest error rates.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _show_version(wanted: bool) -> None:
    if wanted:
        import limen

        typer.echo(f"limen {limen.__version__}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True)
    ] = False,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Log more, to stderr.")] = False,
) -> None:
    """Recognise the people a door was taught, offline, with honest error rates."""
    logging.basicConfig(
        level=logging.INFO if verbose else logging.WARNING,
        stream=sys.stderr,
        format="%(levelname)s %(name)s: %(message)s",
    )


for part in (
    *(demo, enrolment, subjects, moving, adaptation, calibration, matching),
    *(door, opening, gallery, audit, owner, doctor, tuning, factor, replay, service),
    *(pictures, search, cluster, anomaly, learn),
    *(bundle, preparation, workstation, export, finder),
):
    part.register(app)


def main() -> None:
    """Run the command line; every LimenError becomes one sentence and exit code 2."""
    try:
        app()
    except LimenError as error:
        say_error(str(error))
        sys.exit(EXIT_FAILED)
    except KeyboardInterrupt:
        say_error("interrupted")
        sys.exit(130)
    except BrokenPipeError:
        sys.stderr.close()
        sys.exit(EXIT_FAILED)


if __name__ == "__main__":
    main()
