"""The metrics that come with peftlab, by what they measure. The scorers of the tasks compute them."""
