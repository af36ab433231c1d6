"""The lab: the pair on one machine, in namespaces, with the real neighbours. Imports the product, never the reverse."""
