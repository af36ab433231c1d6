"""`make bench`: ha-agent side by side with what one would use instead, in the lab, in one run."""
