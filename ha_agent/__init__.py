"""ha-agent: makes supervisord's programs follow keepalived's virtual address on a pair of machines."""

__version__ = "0.1.0"
