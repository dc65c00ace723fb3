"""From pictures by identity to crops in shards, checked: what `limen prepare` does."""
