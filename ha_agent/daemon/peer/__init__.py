"""The other node: signs of life, and the interlock."""
