"""A recogniser that opens the door and then ends in the way that it is told.

recogniser.py WAY WITNESS LOG: says `open PID` once the door is let go of, PID the lock process's.
"""

import sys
import time

from limen.device.lock_process.client import ProcessLock
from limen.device.lock_process.settings import LockSettings

way, witness, log = sys.argv[1:4]
settings = LockSettings(pin=17, max_pulse_s=30.0)
with ProcessLock.start(settings, (sys.executable, witness, log)) as lock:
    lock.open_for(25.0)
    print("open", lock.process_id, flush=True)
    end_s = time.monotonic() + 1.2  # longer than the lease: heartbeats hold it
    while way == "beat" or time.monotonic() < end_s:
        lock.beat()
        time.sleep(0.05)
    print("working", time.monotonic(), flush=True)
    if way == "exception":
        raise ZeroDivisionError
    while way == "hang":
        pass
