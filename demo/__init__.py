"""A door to try without a board: two people, a simulated camera, a report."""
