"""The augmentations that come with peftlab, a file each."""
