"""Will it fit? The memory of a recipe before it runs, from shapes alone."""
