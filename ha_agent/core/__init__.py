"""The pure middle: values, rules and plans. Nothing here reads a clock, a file or a socket."""
