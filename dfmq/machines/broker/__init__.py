"""The broker's decisions: who is here, who holds what, who takes which piece from whom."""
