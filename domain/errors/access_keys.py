"""Errors of access keys: unknown or invalid."""

from .base import NotFound, PermissionDenied


class AccessKeyNotFound(NotFound):
    """No access key has this id."""

    code = "access_key_not_found"


class InvalidAccessKey(PermissionDenied):
    """The access key is malformed, unknown, wrong or revoked."""

    code = "invalid_access_key"
    http_status = 401
