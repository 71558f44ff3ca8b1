"""An HTTP service that holds one base model and any number of tuned adapters."""
