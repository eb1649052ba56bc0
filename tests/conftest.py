"""Settings that hold for all tests."""

import os

from hypothesis import settings

# a failure that continuous integration finds must be there for everybody; at home, hypothesis explores
settings.register_profile("ci", derandomize=True, deadline=None)
settings.register_profile("here", deadline=None)
settings.load_profile("ci" if os.environ.get("CI") else "here")
