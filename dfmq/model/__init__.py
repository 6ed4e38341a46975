"""Values: what the other floors speak about. Pure; no I/O, no messages, no decisions."""
