"""Users and tokens of the dashboard, and the file that holds them.

Passwords are kept as PBKDF2-HMAC-SHA256 with 600,000 rounds (OWASP password storage cheat sheet): a memory-hard function
would double the memory of a process that is to stay below 40 MiB. Tokens are random, so a plain SHA-256 of one suffices.
"""

from __future__ import annotations

import base64
import contextlib
import grp
import hashlib
import hmac
import json
import os
import re
import secrets
from dataclasses import dataclass

from ha_agent.adapters.files import write_atomic
from ha_agent.core.guard import Access
from ha_agent.core.reasons import reason_of

ROUNDS = 600_000
LEAST_LENGTH = 8
GROUP = "ha-agent-web"
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@-]{0,62}")
_SCHEME = "pbkdf2-sha256"


class UsersDamaged(Exception):
    """The file cannot be used; the text says why and what to do."""


@dataclass(frozen=True, slots=True)
class Account:
    """Who may do what. ``stamp`` changes with the password: it ends what was begun with the old one."""

    name: str
    access: Access
    stamp: str


def hash_password(password: str, rounds: int = ROUNDS) -> str:
    """``password`` as it is kept. Takes about a fifth of a second."""
    salt = secrets.token_bytes(16)
    digest = hashlib.pbkdf2_hmac("sha256", password.encode(), salt, rounds)
    return "$".join((_SCHEME, str(rounds), base64.b64encode(salt).decode(), base64.b64encode(digest).decode()))


def is_password(password: str, kept: str) -> bool:
    """Whether ``password`` is the one that ``kept`` was made of. False for a text of another form."""
    try:
        scheme, rounds, salt, digest = kept.split("$")
        found = hashlib.pbkdf2_hmac("sha256", password.encode(), base64.b64decode(salt), int(rounds))
        return scheme == _SCHEME and hmac.compare_digest(found, base64.b64decode(digest))
    except ValueError:
        return False


NOBODY = hash_password(secrets.token_hex(16), 1).replace("$1$", f"${ROUNDS}$")
"""What the password of an unknown user is compared with: that takes as long, and never matches."""


class UserFile:
    """The file, read again whenever it has changed."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._seen: tuple[int, int, int] | None = None
        self._users: dict[str, dict[str, str]] = {}
        self._tokens: dict[str, dict[str, str]] = {}

    def load(self) -> None:
        """Reads the file where it has changed; a missing file means nobody. Raises ``UsersDamaged``."""
        try:
            with open(self._path, "rb") as file:
                info = os.fstat(file.fileno())
                seen = info.st_ino, info.st_mtime_ns, info.st_size
                if seen == self._seen:
                    return
                raw = file.read()
        except FileNotFoundError:
            self._seen, self._users, self._tokens = None, {}, {}
            return
        except OSError as error:
            raise UsersDamaged(f"{self._path}: {error.strerror}; it must be readable by group {GROUP}") from None
        try:
            content = json.loads(raw)
            users, tokens = dict(content["users"]), dict(content["tokens"])
            for entry in (*users.values(), *tokens.values()):
                Access(entry["access"])
                str(entry["hash"])
        except (ValueError, KeyError, TypeError) as error:
            raise UsersDamaged(
                f"{self._path} cannot be used ({reason_of(error)}); remove it and add the users again"
            ) from None
        self._users, self._tokens, self._seen = users, tokens, seen

    @property
    def is_empty(self) -> bool:
        """Whether nobody could log in."""
        return not self._users

    def users(self) -> dict[str, Access]:
        """Everybody who can log in."""
        return {name: Access(entry["access"]) for name, entry in sorted(self._users.items())}

    def tokens(self) -> dict[str, Access]:
        """The tokens, by the names that they were given."""
        return {name: Access(entry["access"]) for name, entry in sorted(self._tokens.items())}

    def account(self, name: str) -> Account | None:
        """The user ``name``; None where there is none."""
        entry = self._users.get(name)
        return Account(name, Access(entry["access"]), entry["hash"]) if entry else None

    def check_password(self, name: str, password: str) -> Account | None:
        """The user whose name and password these are. Takes about a fifth of a second, also for an unknown name."""
        account = self.account(name)
        good = is_password(password, account.stamp if account else NOBODY)
        return account if good else None

    def check_token(self, token: str) -> Account | None:
        """The owner of a token; None where there is none."""
        digest = hashlib.sha256(token.encode()).hexdigest()
        for name, entry in self._tokens.items():
            if hmac.compare_digest(entry["hash"], digest):
                return Account(name, Access(entry["access"]), digest)
        return None

    # ---- changing -----------------------------------------------------------------------------------------

    def set_user(self, name: str, password: str, access: Access) -> None:
        """Adds a user, or changes one. Raises ``ValueError`` with what is wrong, and ``OSError``."""
        if not NAME.fullmatch(name):
            raise ValueError(f"{name!r} is not a name: letters, digits and . _ @ - are allowed, 63 at most")
        if len(password) < LEAST_LENGTH:
            raise ValueError(f"the password is shorter than {LEAST_LENGTH} characters")
        self._users[name] = {"access": access.value, "hash": hash_password(password)}
        self._save()

    def add_token(self, name: str, access: Access) -> str:
        """Makes a token called ``name`` and returns it: nobody can read it later. Raises as ``set_user``."""
        if not NAME.fullmatch(name):
            raise ValueError(f"{name!r} is not a name: letters, digits and . _ @ - are allowed, 63 at most")
        if name in self._tokens:
            raise ValueError(f"there is a token {name} already; remove it first")
        token = secrets.token_urlsafe(32)
        self._tokens[name] = {"access": access.value, "hash": hashlib.sha256(token.encode()).hexdigest()}
        self._save()
        return token

    def remove(self, name: str, *, token: bool) -> bool:
        """Removes a user, or a token; returns whether there was one. Raises ``OSError``."""
        found = (self._tokens if token else self._users).pop(name, None) is not None
        if found:
            self._save()
        return found

    def _save(self) -> None:
        text = json.dumps({"users": self._users, "tokens": self._tokens}, indent=1) + "\n"
        write_atomic(self._path, text.encode(), 0o640)
        with contextlib.suppress(KeyError, PermissionError):
            os.chown(self._path, -1, grp.getgrnam(GROUP).gr_gid)
