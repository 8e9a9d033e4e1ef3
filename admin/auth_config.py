"""The wire form of a connector's `authConfig`: one schema for each way to authenticate."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from marshmallow import ValidationError, fields, validate

from admin.fields import Pairs, Switch, Wire, matches, says, sentence, text
from gateway.http.header_fields import TCHARS
from gateway.transform.auth import (
    AuthFault,
    AwsSigV4,
    Basic,
    Bearer,
    Passthrough,
    Query,
    check_field,
)
from gateway.transform.request import check_passed

_SECRET_NAME: Final = matches(r"[A-Za-z0-9_-]{1,64}", "Not a secret's name: A-Z a-z 0-9 _ -")
_BEARER: Final = Bearer()
_BASIC: Final = Basic()
_QUERY: Final = Query()
_AWS: Final = AwsSigV4(region="any")
_PASSTHROUGH: Final = Passthrough()
_SCOPE: Final = matches(r"[A-Za-z0-9-]{1,64}", "Not 1 to 64 of A-Z a-z 0-9 -")


@says(pattern=f"^{TCHARS}$")
def header_name(given: str) -> None:
    """Raises ValidationError for what is not the name of a field that may be set."""
    _check_field(given, "")


@says(pattern=r"^[^\x00-\x08\x0a-\x1f\x7f]*$")
def header_value(given: str) -> None:
    """Raises ValidationError for what would break the message."""
    _check_field("Header", given)


def _check_field(name: str, value: str) -> None:
    try:
        check_field(name, value)
    except AuthFault as fault:
        raise ValidationError(sentence(fault)) from None


@says(pattern=header_name.says["pattern"])
def _passed(given: str) -> None:
    """Raises ValidationError for a field that a caller's credential for the gateway is in, or ours."""
    header_name(given)
    try:
        check_passed(given)
    except AuthFault as fault:
        raise ValidationError(sentence(fault)) from None


def _secret_name(default: str | None) -> fields.String:
    return text(64, rules=(_SECRET_NAME,), load_default=default)


class NoAuthConfig(Wire):
    """Nothing."""


class BearerConfig(Wire):
    """Which secret is the token."""

    token_ref = _secret_name(_BEARER.token_ref)


class BasicConfig(Wire):
    """Which secrets are the user name and the password."""

    username_ref = _secret_name(_BASIC.username_ref)
    password_ref = _secret_name(_BASIC.password_ref)


class HeaderConfig(Wire):
    """Header fields with `{{secrets.name}}` in their values."""

    headers = Pairs(
        keys=text(128, least=1, rules=(header_name,)),
        values=text(2048, rules=(header_value,)),
        validate=validate.Length(1, 20),
        required=True,
    )


class QueryConfig(Wire):
    """Which parameter holds which secret."""

    param_name = text(128, least=1, load_default=_QUERY.param_name)
    secret_ref = _secret_name(_QUERY.secret_ref)


class AwsSigV4Config(Wire):
    """Which secrets are the two halves of an access key, and what it is for."""

    access_key_ref = _secret_name(_AWS.access_key_ref)
    secret_key_ref = _secret_name(_AWS.secret_key_ref)
    session_token_ref = _secret_name(_AWS.session_token_ref)
    region = text(64, rules=(_SCOPE,), required=True)
    service = text(64, rules=(_SCOPE,), load_default=_AWS.service)
    sign_payload = Switch(load_default=_AWS.sign_payload)


class PassthroughConfig(Wire):
    """Which of the caller's header fields goes upstream as it is."""

    header_name = text(128, rules=(_passed,), load_default=_PASSTHROUGH.header_name)


SCHEMAS: Final[Mapping[str, Wire]] = {
    "none": NoAuthConfig(),
    "bearer": BearerConfig(),
    "basic": BasicConfig(),
    "header": HeaderConfig(),
    "query": QueryConfig(),
    "aws-sigv4": AwsSigV4Config(),
    "passthrough": PassthroughConfig(),
}


class AuthConfig(fields.Field[dict[str, Any]]):
    """The object that the `authType` beside it asks for."""

    def _deserialize(
        self, value: Any, attr: str | None, data: Any, **kwargs: Any
    ) -> dict[str, Any]:
        kind = data.get("authType", "none")
        schema = SCHEMAS.get(kind) if isinstance(kind, str) else None
        # An unknown type is the other field's fault.
        loaded: dict[str, Any] = {} if schema is None else schema.load(value)
        return loaded

    def _serialize(self, value: Any, attr: str | None, obj: Any, **kwargs: Any) -> Any:
        return SCHEMAS[obj["auth_type"]].dump(value)
