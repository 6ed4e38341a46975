"""The message bus: ZeroMQ sockets, drained without copies."""
