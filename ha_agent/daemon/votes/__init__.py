"""The votes of a node: asking for them and answering."""
