"""Credentials in the URLs of object stores and checkpoint destinations: rejected, and never shown."""

import traceback
from collections.abc import Callable
from types import SimpleNamespace
from typing import cast

import pytest
from tallybook.application import InvalidArchive, InvalidParameter, InvalidUsageSource, Metering, TallybookError
from tallybook.application.archive.locations import resolve_destination as resolve_archive
from tallybook.application.checkpoints.checkpoint_file import SignedCheckpoint
from tallybook.application.checkpoints.destinations import UrlDestination, resolve_destination
from tallybook.application.object_import.importer import ObjectImporter
from tallybook.application.object_stores import first_line
from tallybook.application.redaction import has_user_info

SECRET = "sesame"
WITH_SECRETS = [
    f"s3://AKIA:{SECRET}@bucket/prefix",
    f"s3://{SECRET}@bucket/prefix",
    f"https://ops:{SECRET}@host/prefix",
    f"foo://ops:{SECRET}@host/prefix",
    f"abfss://container:{SECRET}@account.dfs.core.windows.net/prefix",
    f"az://container/prefix?sig={SECRET}",
    f"https://account.blob.core.windows.net/container?sv=1&sig={SECRET}",
]


def import_objects(url: str) -> object:
    with Metering.open("sqlite://") as metering:
        return ObjectImporter(metering, url)


USES: dict[Callable[[str], object], type[TallybookError]] = {
    import_objects: InvalidUsageSource,
    resolve_archive: InvalidArchive,
    resolve_destination: InvalidParameter,
}


@pytest.mark.parametrize("url", WITH_SECRETS)
def test_a_url_with_credentials_is_rejected(url: str) -> None:
    """Neither the error nor its traceback has them. A checkpoint may be sent to an HTTP URL with a query."""
    for use, expected in USES.items():
        if use is resolve_destination and "?" in url and url.startswith("http"):
            continue
        with pytest.raises(expected) as raised:
            use(url)
        assert SECRET not in "".join(traceback.format_exception(raised.value))
        assert SECRET not in raised.value.message + str(raised.value.value)
        assert "leave them out" in raised.value.message


@pytest.mark.parametrize("url", [f"http:///ops:{SECRET}@host/x", f"http://[ops:{SECRET}@host/x", "http://"])
def test_a_url_without_a_host_is_rejected(url: str) -> None:
    """Also one that can't be parsed."""
    with pytest.raises(InvalidParameter, match="has no valid host") as raised:
        resolve_destination(url)
    assert SECRET not in raised.value.message


@pytest.mark.parametrize("url", ["http://127.0.0.1:1/x?sig=sesame", "http://127.0.0.1:1/x?sig=sesame and more"])
def test_the_query_of_a_destination_is_not_shown(url: str) -> None:
    """When the receiver can't be reached, and when the client library rejects the URL."""
    destination = resolve_destination(url)
    assert isinstance(destination, UrlDestination)
    with pytest.raises(TallybookError, match=r"can't be sent to http://127.0.0.1/x: \w+") as raised:
        destination.add(cast(SignedCheckpoint, SimpleNamespace(note="a note")))
    assert SECRET not in "".join(traceback.format_exception(raised.value))


def test_the_container_of_an_azure_url_is_no_user() -> None:
    """Nor is an at sign in a path."""
    assert not has_user_info("abfss://container@account.dfs.core.windows.net/prefix")
    assert not has_user_info("file:///incoming/a@b.csv")
    assert not has_user_info("s3://bucket/a@b.csv")
    assert has_user_info("https:\\\\ops@host/x")


def test_the_query_of_a_signed_request_is_not_shown() -> None:
    """The credential may be in the environment, and in the error of the store."""
    error = OSError(f"error sending request for url (https://host/a.csv?sig={SECRET}&x=1): refused\nDebug source:")
    assert first_line(error) == "error sending request for url (https://host/a.csv?…): refused"
