"""What is wrong with a text in the form of an ini file, in words of our own: Python's are for programmers. Pure."""

from __future__ import annotations

import configparser


def ini_problem(error: configparser.Error) -> str:
    """What configparser could not read, by the number of its line; no value is repeated, for it may be a secret."""
    if isinstance(error, configparser.MissingSectionHeaderError):
        return f"line {error.lineno} stands before any section; the first line that counts is one like [program]"
    if isinstance(error, configparser.DuplicateSectionError):
        return f"{_at(error.lineno)}section [{error.section}] is there twice"
    if isinstance(error, configparser.DuplicateOptionError):
        return f"{_at(error.lineno)}{error.option} is set twice in [{error.section}]"
    if isinstance(error, configparser.ParsingError) and error.errors:
        return f"line {error.errors[0][0]} is neither a section nor an option (name=value)"
    return " ".join(error.message.split())


def _at(line: int | None) -> str:
    return "" if line is None else f"line {line}: "
