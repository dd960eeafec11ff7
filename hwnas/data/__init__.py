"""Images from folders, tar archives, shards and named sets: found, decoded, augmented, batched."""
