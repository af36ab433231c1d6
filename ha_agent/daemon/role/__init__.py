"""The role of this node: sensing, deciding, taking over, releasing."""
