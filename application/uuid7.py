"""Time-ordered UUIDs: the standard library's from Python 3.14 on, those of uuid_utils before."""

import sys

if sys.version_info >= (3, 14):
    from uuid import uuid7
else:
    from uuid_utils import uuid7

__all__ = ["uuid7"]
