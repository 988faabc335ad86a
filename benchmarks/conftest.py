"""``pytest benchmarks --benchmark-only`` wins over the project's ``--benchmark-skip``."""

import pytest


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    if config.getoption("benchmark_only", default=False):
        config.option.benchmark_skip = False
