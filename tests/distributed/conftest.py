"""Process groups that the tests of this folder share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from process_groups import ProcessGroups


@pytest.fixture(scope="session")
def every_group() -> Iterator[ProcessGroups]:
    groups = ProcessGroups()
    yield groups
    groups.close()


@pytest.fixture
def groups(every_group: ProcessGroups, request: pytest.FixtureRequest) -> Iterator[ProcessGroups]:
    """A failed test may leave its ranks out of step: the next one gets new processes."""
    failed = request.session.testsfailed
    yield every_group
    if request.session.testsfailed > failed:
        every_group.close()
