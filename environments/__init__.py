"""Where experiments happen and the world answers."""
