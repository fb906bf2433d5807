"""What the sync decides and in which order: plan, walk, normalise, commit; and the faces it shows (Dagster, command line)."""
