"""Sites of one secure sum, as far as each step."""

import pytest
from harness.secure_trial import NAMES, UNIT, cards_of, inboxes_of, site

from willis.client.secure_site import SecureSite
from willis.shared.secure_sum.messages import CardList, Inbox


@pytest.fixture
def sites() -> dict[str, SecureSite]:
    return {name: site(name) for name in NAMES}


@pytest.fixture
def cards(sites) -> CardList:
    return cards_of(sites)


@pytest.fixture
def inboxes(sites, cards) -> dict[str, Inbox]:
    return inboxes_of(sites, cards)


@pytest.fixture
def all_sent(sites, inboxes) -> dict[str, SecureSite]:
    for name, each in sites.items():
        each.masked(inboxes[name], [UNIT])
    return sites
