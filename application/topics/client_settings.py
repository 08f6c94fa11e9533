"""The settings of librdkafka in a file, such as those of TLS and passwords."""

from pathlib import Path

from ...domain.errors import InvalidParameter


def read_client_settings(file: Path) -> dict[str, str]:
    """Return the settings in a file of lines KEY=VALUE; lines with # are comments. Raise InvalidParameter."""
    try:
        lines = [line.strip() for line in file.read_text().splitlines()]
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidParameter(f"Cannot read {file}: {error}.", field="config", value=str(file)) from None
    settings = [line.partition("=") for line in lines if line and not line.startswith("#")]
    if any(not equals for _, equals, _ in settings):
        raise InvalidParameter(f"Each line of {file} must be KEY=VALUE.", field="config", value=str(file))
    return {key.strip(): value.strip() for key, _, value in settings}
