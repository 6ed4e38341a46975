"""Decisions: events in, effects out. Pure; whoever performs the effects is in nodes and edges."""
