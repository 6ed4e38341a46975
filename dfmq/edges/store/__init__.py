"""The disk: content, journal, write-behind, space."""
