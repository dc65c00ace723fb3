"""What a batch is asked for: one loss an objective of the recipe (`limen.train.objectives.build`)."""
