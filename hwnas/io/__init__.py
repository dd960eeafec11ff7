"""Files: append-only logs, atomic writes, locks, YAML from strangers, checksummed tensors."""
