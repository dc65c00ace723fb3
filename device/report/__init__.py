"""A door's threshold and its evidence, as a page or a picture that a person can read."""
