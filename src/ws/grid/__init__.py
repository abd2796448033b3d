"""Many studies at once: axes -> cells -> tasks -> look -> run. `sweep` and `compare` are two calls of it."""
