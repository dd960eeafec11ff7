"""How candidates are evaluated: in this process, in batches, in worker processes."""
