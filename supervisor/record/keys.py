"""The supervisor's Ed25519 key pair, in a folder that only its user may enter.

Makes the pair once (safe when several processes start together), loads it, signs and verifies.
Does not cover: keeping the key from whoever can already act as the supervisor's user.
"""

from __future__ import annotations

import contextlib
import os
import uuid
from dataclasses import dataclass
from pathlib import Path

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from regent.errors import CannotRun

PRIVATE = "ledger.key"
PUBLIC = "ledger.pub"


@dataclass(frozen=True)
class KeyPair:
    """`private` is None where only the public half is at hand: it can verify and not sign."""

    public: Ed25519PublicKey
    private: Ed25519PrivateKey | None = None

    @property
    def public_hex(self) -> str:
        """The 32 raw bytes of the public key in hex, as the ledger's genesis row names it."""
        return self.public.public_bytes_raw().hex()

    def sign(self, data: bytes) -> str:
        """Ed25519 signature of `data` in hex. Raises CannotRun without the private half."""
        if self.private is None:
            raise CannotRun(
                f"the ledger's private key ({PRIVATE}) is missing; restore it to append rows"
            )
        return self.private.sign(data).hex()

    def signed(self, data: bytes, signature: str) -> bool:
        """Whether `signature` (hex) is this key's on `data`."""
        try:
            self.public.verify(bytes.fromhex(signature), data)
        except (InvalidSignature, ValueError, TypeError):
            return False
        return True


def load(folder: Path, *, public_only: bool = False) -> KeyPair | None:
    """The key pair kept in `folder` (or its public half), None if neither file is there.

    `public_only` reads the public half alone.

    Raises CannotRun if a key file is there but does not hold a key.
    """
    private, public = folder / PRIVATE, folder / PUBLIC
    try:
        if private.exists() and not public_only:
            key = serialization.load_pem_private_key(private.read_bytes(), password=None)
            if not isinstance(key, Ed25519PrivateKey):
                raise CannotRun(f"{private}: not an Ed25519 key; restore it from a copy")
            return KeyPair(key.public_key(), key)
        if public.exists():
            raw = bytes.fromhex(public.read_text().strip())
            return KeyPair(Ed25519PublicKey.from_public_bytes(raw))
    except (ValueError, TypeError) as error:
        raise CannotRun(f"{folder}: a key file is damaged; restore it from a copy") from error
    except OSError as error:
        raise CannotRun(f"{folder}: {error.strerror or error}; let its owner run this") from error
    return None


def make_or_load(folder: Path) -> KeyPair:
    """The key pair of `folder`, made there if none is: folder 0700, private key 0600."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        folder.chmod(0o700)
        if not (folder / PRIVATE).exists() and not (folder / PUBLIC).exists():
            pem = Ed25519PrivateKey.generate().private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            )
            _create_once(folder / PRIVATE, pem)
        pair = load(folder)
        if pair is None:
            raise CannotRun(f"{folder}: the ledger's key vanished while starting; start again")
        if pair.private is not None:
            _create_once(folder / PUBLIC, (pair.public_hex + "\n").encode())
    except OSError as error:
        raise CannotRun(
            f"{folder}: {error.strerror or error}; choose a folder that can be written"
        ) from error
    return pair


def _create_once(path: Path, data: bytes) -> None:
    """Write `path` whole and 0600, or leave what another process wrote first."""
    if path.exists():
        return
    partial = path.with_name(f"{path.name}.{uuid.uuid4().hex[:8]}.part")
    descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        with contextlib.suppress(FileExistsError):
            os.link(partial, path)
    finally:
        partial.unlink(missing_ok=True)
