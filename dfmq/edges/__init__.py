"""Hands: sockets, disk, HTTP, probes. They know wire and model, and no machine."""
