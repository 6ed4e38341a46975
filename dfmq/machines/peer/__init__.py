"""The peer's decisions: what to ask for, what to keep, what to serve."""
