"""Entry point of a worker process that serves the API and the console."""

import sys

from starlette.applications import Starlette

from ..http.app import create_app
from ..http.observability.metrics import Observer
from ..http.process.worker import main
from ..http.settings import ServerSettings
from .app import served_routes


def create_app_with_console(settings: ServerSettings, observer: Observer) -> Starlette:
    """Return the application of the API with the console."""
    return create_app(settings, observer, served_routes(settings, observer))


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]), create_app_with_console))
