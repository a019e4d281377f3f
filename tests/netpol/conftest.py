"""One lab for the whole folder."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from tests.netpol.cluster import Cluster, cluster


@pytest.fixture(scope="package")
def shared() -> Iterator[Cluster]:
    with cluster(f"tt-{os.getpid()}-netpol") as made:
        yield made
