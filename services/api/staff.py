"""Staff: users with argon2id passwords, sign-in, and the tokens they carry.

Passwords are hashed and verified in a thread of their own: argon2 takes tens of milliseconds and 64 MiB on purpose.
"""

import asyncio
import secrets
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import Any, NoReturn

from pwdlib import PasswordHash
from sqlalchemy import select, update
from sqlalchemy.orm import Session
from sqlmodel import col

from services.api.fields import EMAIL_MAX_BYTES
from services.api.tables import Role, User
from shared.database import Database
from shared.dialect import take_turns
from shared.looks import Looks
from shared.problems import Problem, ProblemType
from shared.processors import run_on_rest
from shared.tokens import TokenRefused, Tokens

PASSWORD_MIN_LENGTH = 12
"""NIST SP 800-63B asks for length, not for kinds of characters."""

PASSWORD_MAX_BYTES = 1024
HASHING_THREADS = 2

_ADDING = "adding a user"


class UserError(Exception):
    """What is wrong with a request about users, in words for the person at the terminal."""


@dataclass(frozen=True)
class SignedIn:
    """A token and its lifetime."""

    token: str
    lifetime_seconds: int


class Staff:
    """Signs people in, and knows who a token belongs to right now."""

    def __init__(self, database: Database, looks: Looks, tokens: Tokens, token_lifetime_seconds: int) -> None:
        self._database = database
        self._tokens = tokens
        self._lifetime = token_lifetime_seconds
        self._passwords = Passwords()
        self._looks = looks

    async def sign_in(self, username: str, password: str) -> SignedIn:
        """A token for a right password. Raises `Problem` 401, the same and as slow for an unknown name."""
        user = await self._database.read(partial(get_user, email=username))
        right = await self._passwords.verify(password, user.password_hash if user else None)
        if user is None or user.disabled_at is not None or not right:
            _unauthenticated("The name or the password is wrong.")
        token = self._tokens.issue(user.email, self._lifetime, role=user.role, ver=user.token_version)
        return SignedIn(token, self._lifetime)

    async def of_token(self, token: str) -> User:
        """The user behind a token. Raises `Problem` 401 if it is not good, or the user is disabled by now."""
        try:
            claims = self._tokens.verify(token)
        except TokenRefused:
            _unauthenticated("The token is missing, expired or not one of ours: sign in again.")
        user = await self._looks.ask(find_users, claims["sub"])
        if user is None or user.disabled_at is not None or user.token_version != claims.get("ver"):
            _unauthenticated("This token is no longer valid: sign in again.")
        return user

    def public_keys(self) -> dict[str, Any]:
        """The JWK Set that verifies the tokens; empty unless they are signed with RS256."""
        return self._tokens.jwks()

    def close(self) -> None:
        """End the hashing threads."""
        self._passwords.close()


class Passwords:
    """argon2id, off the event loop."""

    def __init__(self) -> None:
        self._hasher = PasswordHash.recommended()
        self._threads = ThreadPoolExecutor(HASHING_THREADS, thread_name_prefix="argon2", initializer=run_on_rest)
        self._nobodys_hash: str | None = None

    async def hash(self, password: str) -> str:
        """The hash to keep."""
        return await asyncio.get_running_loop().run_in_executor(self._threads, self._hasher.hash, password)

    async def verify(self, password: str, password_hash: str | None) -> bool:
        """Whether the password fits. Without a hash the same work is done in vain, so that time tells nothing."""
        if len(password.encode()) > PASSWORD_MAX_BYTES:
            return False
        return await asyncio.get_running_loop().run_in_executor(self._threads, self._verify, password, password_hash)

    def close(self) -> None:
        """End the threads."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    def _verify(self, password: str, password_hash: str | None) -> bool:
        if password_hash is None:
            if self._nobodys_hash is None:
                self._nobodys_hash = self._hasher.hash(secrets.token_urlsafe())
            self._hasher.verify(password, self._nobodys_hash)
            return False
        return self._hasher.verify(password, password_hash)


def find_users(session: Session, emails: Sequence[str]) -> list[User | None]:
    """The users who have these addresses, written as they are kept."""
    found = session.execute(select(User).where(col(User.email).in_(set(emails)))).scalars()
    users = {user.email: user for user in found}
    return [users.get(email) for email in emails]


def get_user(session: Session, email: str) -> User | None:
    """The user of that e-mail address, in whatever case it is typed."""
    return session.get(User, email.strip().casefold())


def list_users(session: Session) -> Sequence[User]:
    """All users, in order of their names."""
    return list(session.execute(select(User).order_by(col(User.email))).scalars())


async def add_user(database: Database, email: str, password: str, role: Role) -> None:
    """A new user. Raises `UserError` when there is one of that name, or the password is too short."""
    await database.write(partial(_insert, user=await _new_user(email, password, role)))


async def add_first_user(database: Database, email: str, password: str, role: Role) -> bool:
    """A new user, unless there is one already, of whatever name; says whether it was made. Raises `UserError`."""
    return await database.write(partial(_insert_first, user=await _new_user(email, password, role)))


async def _new_user(email: str, password: str, role: Role) -> User:
    _check_password(password)
    if "@" not in email.strip()[1:-1] or len(email.encode()) > EMAIL_MAX_BYTES:
        raise UserError(f"{email!r} is not an e-mail address.")
    return User(
        email=email.strip().casefold(),
        password_hash=await _hash(password),
        role=role,
        created_at=datetime.now(UTC),
    )


async def disable_user(database: Database, email: str) -> None:
    """Lock a user out at once: every request asks for the user's row. Raises `UserError` for an unknown one."""
    change = {"disabled_at": datetime.now(UTC), "token_version": User.token_version + 1}
    await database.write(partial(_change, email=email, change=change))


async def set_password(database: Database, email: str, password: str) -> None:
    """A new password; tokens made before are refused, a disabled user is let in again. Raises `UserError`."""
    _check_password(password)
    change = {
        "password_hash": await _hash(password),
        "token_version": User.token_version + 1,
        "disabled_at": None,
    }
    await database.write(partial(_change, email=email, change=change))


def _insert(session: Session, user: User) -> None:
    take_turns(session, [_ADDING])
    if get_user(session, user.email) is not None:
        raise UserError(f"There is already a user {user.email}.")
    session.add(user)


def _insert_first(session: Session, user: User) -> bool:
    take_turns(session, [_ADDING])
    if list_users(session):
        return False
    session.add(user)
    return True


def _change(session: Session, email: str, change: dict[str, object]) -> None:
    statement = update(User).where(col(User.email) == email.strip().casefold()).values(**change)
    if not session.connection().execute(statement).rowcount:
        raise UserError(f"There is no user {email.strip().casefold()}.")


async def _hash(password: str) -> str:
    passwords = Passwords()
    try:
        return await passwords.hash(password)
    finally:
        passwords.close()


def _check_password(password: str) -> None:
    if len(password) < PASSWORD_MIN_LENGTH:
        raise UserError(f"A password needs at least {PASSWORD_MIN_LENGTH} characters.")
    if len(password.encode()) > PASSWORD_MAX_BYTES:
        raise UserError(f"A password has at most {PASSWORD_MAX_BYTES} bytes.")


def _unauthenticated(detail: str) -> NoReturn:
    raise Problem(ProblemType.UNAUTHENTICATED, detail, headers={"WWW-Authenticate": "Bearer"})
