"""References to secrets: where a password is found."""

from __future__ import annotations

from tortie.resources.spec import Spec


class SecretKeyRef(Spec, frozen=True):
    """A key of a Kubernetes Secret."""

    name: str = ""
    key: str = ""
    optional: bool | None = None


class BGPPassword(Spec, frozen=True):
    """The password of a BGP session, by reference."""

    secret_key_ref: SecretKeyRef | None = None
