"""What counts as a URL that may be asked over http or https. Pure."""

from __future__ import annotations

import urllib.parse


def split_web_url(url: str) -> urllib.parse.SplitResult | None:
    """The parts of ``url``; None where it is no http or https URL with a host, or holds what no request line can."""
    try:
        parts = urllib.parse.urlsplit(url)
        good = parts.scheme in ("http", "https") and parts.hostname is not None and (parts.port or 1) > 0
    except ValueError:
        return None
    return parts if good and url.isascii() and url.isprintable() and " " not in url else None
