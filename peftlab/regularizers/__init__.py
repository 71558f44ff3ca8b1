"""The regularisers that come with peftlab, a file each; which one fits a task and a method, each says itself."""
