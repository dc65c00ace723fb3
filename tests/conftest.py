"""What all tests share."""

from hypothesis import settings

# A loaded machine must not fail a property; time is measured in benchmarks/.
settings.register_profile("limen", deadline=None)
settings.load_profile("limen")
