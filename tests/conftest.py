"""Settings that hold for all tests."""

import os
import signal

from hypothesis import settings

# a failure that continuous integration finds must be there for everybody; at home, hypothesis explores
settings.register_profile("ci", derandomize=True, deadline=None)
settings.register_profile("here", deadline=None)
settings.load_profile("ci" if os.environ.get("CI") else "here")

# a shell that starts the suite in the background has it ignore SIGINT, and so would what the tests send it to
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
