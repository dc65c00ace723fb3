"""Shipped export recipes."""
