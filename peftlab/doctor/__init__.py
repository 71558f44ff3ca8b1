"""``peftlab doctor``: what this machine can do, and what that means."""
