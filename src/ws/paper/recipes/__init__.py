"""The recipes, one file each or several that share their arms."""
