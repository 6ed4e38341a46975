"""The production machines on a virtual clock."""
