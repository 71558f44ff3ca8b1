"""Where the rows come from and how they are dealt out: sources, splits and batches. Nothing here imports torch."""
