"""The tiny study under protocol ``pooled``."""

import pytest

from willis.shared.study import Study


@pytest.fixture
def pooled(tiny_study):
    """Build the tiny study under protocol ``pooled``, with changes."""

    def build(*, training: dict | None = None, recipe: dict | None = None, **changes) -> Study:
        base = {"protocol": "pooled", "critic_steps": 1, "critic_lr": 0.01, "generator_lr": 0.01}
        named = {"name": "dp-wgan"} | (recipe or {})
        return tiny_study(training=base | (training or {}), recipe=named, **changes)

    return build


@pytest.fixture
def made(pooled):
    """Build the tiny study of a translation, with changes: ``made("spade", recipe={"levels": 2})``."""

    def build(name: str = "pix2pix", *, recipe: dict | None = None, **changes) -> Study:
        return pooled(recipe={"name": name} | (recipe or {}), **changes)

    return build
