"""Training with the int8 of the runtimes in view."""
