"""A recipe made ready: checked against data and model, loaded, and rehearsed before training."""
