"""Agents as files: written whole, read back, and read from the files of a Letta server."""
