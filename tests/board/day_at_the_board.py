"""A board's first day, run on the board: enrol, verify, calibrate, conform, by the verbs themselves.

day_at_the_board.py FOLDER: FOLDER holds person-0.jpg … person-3.jpg and other.jpg. One process, since
importing costs most of an emulated minute. Prints one JSON object.
"""

import contextlib
import io
import json
import os
import platform
import sys
from pathlib import Path
from typing import Any

from limen.cli.main import main

folder = Path(sys.argv[1])
os.environ["LIMEN_GALLERY"] = str(folder / "gallery.db")
person = [str(folder / f"person-{number}.jpg") for number in range(4)]
other = str(folder / "other.jpg")


def limen(*arguments: str) -> dict[str, Any]:
    """The exit code of a verb, and what it said."""
    sys.argv = ["limen", *arguments, "--json"]
    code: object = 0
    with contextlib.redirect_stdout(io.StringIO()) as said:
        try:
            main()
        except SystemExit as end:
            code = end.code or 0
    return {"code": code, "said": json.loads(said.getvalue() or "null")}


told = {
    "machine": platform.machine(),
    "python": platform.python_version(),
    "enrol": limen("enrol", "ann", *person[:3]),
    "calibrate": limen("calibrate", "--max-fmr", "1e-2"),
    "same": limen("verify", person[3], "--claim", "ann"),
    "other": limen("verify", other, "--claim", "ann"),
    "conform": limen("bundle", "conform"),
}
print(json.dumps(told))
