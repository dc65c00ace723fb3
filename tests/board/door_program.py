"""`limen run` as its owner starts it, which says at its end what it took.

door_program.py arguments-of-limen-run…: one JSON object on stderr's last line: peak_mb, and the
packages that no board should have loaded.
"""

import atexit
import json
import re
import sys
from pathlib import Path

from limen.cli.main import main


def tell() -> None:
    status = Path("/proc/self/status").read_text()
    kilobytes = {key: int(kb) for key, kb in re.findall(r"(\w+):\s+(\d+) kB", status)}
    told = {
        "peak_mb": kilobytes["VmHWM"] / 1024,
        "now_mb": kilobytes["VmRSS"] / 1024,
        "file_mb": kilobytes["RssFile"] / 1024,
        "heavy": sorted({"torch", "scipy", "onnxruntime", "matplotlib"} & set(sys.modules)),
    }
    sys.stderr.write(json.dumps(told) + "\n")


atexit.register(tell)
sys.argv = ["limen", "run", *sys.argv[1:]]
main()
