"""Doors of the published fork, `python -m ws.scripts.NAME`: each is one of our commands under the name it had there."""
