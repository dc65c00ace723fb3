"""The process that alone owns the lock's pin. It imports no picture and no model: it stays small."""
