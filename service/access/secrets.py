"""What an API key looks like, and how it is told that one is right. Knows no database and no HTTP.

A key is `hs_ID_SECRET`. The id is public, and finds the row; of the secret only the sha256 is stored. A slow
hash is for what people choose: 256 random bits cannot be guessed, whatever one guess costs.
"""

import hashlib
import hmac
import re
import secrets
from dataclasses import dataclass, field

ID_BYTES = 8
SECRET_BYTES = 32
KEY = re.compile(r"hs_([0-9a-f]{16})_([A-Za-z0-9_-]{43})")
KEY_IN_TEXT = re.compile(rb"hs_[0-9a-f]{16}_")
# Of no secret: what an unknown id is compared with, so that it takes as long as a known one.
NO_DIGEST = hashlib.sha256(secrets.token_bytes(SECRET_BYTES)).hexdigest()


@dataclass(frozen=True)
class Secret:
    """A key as its holder has it."""

    id: str
    value: str = field(repr=False)

    @classmethod
    def new(cls) -> "Secret":
        return cls(secrets.token_hex(ID_BYTES), secrets.token_urlsafe(SECRET_BYTES))

    @classmethod
    def read(cls, text: str) -> "Secret | None":
        """The key that a text is; None if it has another form."""
        found = KEY.fullmatch(text)
        return None if found is None else cls(found[1], found[2])

    @property
    def text(self) -> str:
        """The whole key, to be shown once."""
        return f"hs_{self.id}_{self.value}"

    @property
    def digest(self) -> str:
        return hashlib.sha256(self.value.encode()).hexdigest()

    def matches(self, digest: str | None) -> bool:
        """Whether the digest is of this secret, in a time that does not depend on how alike they are.

        Parameters
        ----------
        digest : None if there is no key of this id.
        """
        same = hmac.compare_digest(self.digest, NO_DIGEST if digest is None else digest)
        return same and digest is not None
