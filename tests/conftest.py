"""What all tests share."""

import signal

from hypothesis import settings

# A loaded machine must not fail a property; time is measured in benchmarks/.
settings.register_profile("limen", deadline=None)
settings.load_profile("limen")

# Where a shell started the tests in the background, Ctrl-C is ignored, and by every process that they
# start too; what a door does on SIGINT could not be seen.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
