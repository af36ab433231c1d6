"""The daemon: the only place that wires the pure middle to the edges."""
