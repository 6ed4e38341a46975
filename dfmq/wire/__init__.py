"""Messages as frames and back. Pure; sockets are in edges/bus."""
