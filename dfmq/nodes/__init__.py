"""Machines with hands: broker, peer, get."""
