"""What an embedding is used for besides a door: search, grouping, what does not belong, classes.

Every use takes an `EmbeddingSet`, from pictures of any kind through a bundle or from elsewhere.
"""
