"""Bodies that ask for writes: decoded, checked, and turned into commands or records."""
