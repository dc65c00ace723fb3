"""The face finder: labels from public detectors that agree, composed scenes, a small network."""
