"""The files that programs need, on this node and on the peer."""
