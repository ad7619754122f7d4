"""The site's hours, protocols and hub, as site.toml says them."""

from datetime import datetime
from pathlib import Path

import pytest

from willis.client.cohort import read_cohort
from willis.client.site import SiteSettings, read_site
from willis.client.store import build_store
from willis.client.training import train_round
from willis.shared.errors import OutsideHours, SiteRefused, StateError
from willis.shared.networks.start import arrays_of, initial_generator
from willis.shared.update import REFUSAL_CODES, RoundOrder

LAW = 'name = "site-a"\ncohort = "cohort.csv"\nstate = "state"\nepsilon_cap = 8.0\ndelta = 1e-3\n'


def site(tmp_path: Path, more: str) -> SiteSettings:
    path = tmp_path / "site.toml"
    path.write_text(LAW + more)
    return read_site(path)


@pytest.mark.parametrize(
    ("hours", "now", "allowed"),
    [
        ('["20:00-06:00"]', "19:59", False),
        ('["20:00-06:00"]', "20:00", True),
        ('["20:00-06:00"]', "00:00", True),
        ('["20:00-06:00"]', "05:59", True),
        ('["20:00-06:00"]', "06:00", False),
        ('["12:00-13:00", "20:00-23:00"]', "12:30", True),
        ('["12:00-13:00", "20:00-23:00"]', "13:00", False),
        ("[]", "12:00", False),
    ],
)
def test_hours_by_hand(tmp_path, hours, now, allowed):
    settings = site(tmp_path, f"hours = {hours}\n")
    at = datetime.fromisoformat(f"2026-03-01T{now}")
    if allowed:
        settings.check_hours(at)
    else:
        with pytest.raises(OutsideHours, match=now):
            settings.check_hours(at)


def test_without_hours_it_is_always_time(tmp_path):
    site(tmp_path, "").check_hours(datetime(2026, 3, 1, 3, 0))


def test_a_round_outside_the_hours_is_refused_unpaid(tmp_path, phantom_cohort, tiny_study):
    study = tiny_study()
    settings = site(tmp_path, "hours = []\n")
    build_store(read_cohort(phantom_cohort(sites=("site-a",))), study.patch, settings.store, seed=study.seed)
    order = RoundOrder(
        study_json=study.model_dump_json(),
        study_digest=study.digest(),
        run="run-1",
        round=1,
        arrays=arrays_of(initial_generator(study)),
    )
    with pytest.raises(OutsideHours) as caught:
        train_round(order, settings)
    assert caught.value.code == "hours"
    assert caught.value.code in REFUSAL_CODES
    assert not settings.ledger.exists()


def test_a_protocol_that_the_site_takes_no_part_in_is_refused(tmp_path, tiny_study):
    settings = site(tmp_path, 'protocols = ["pooled"]\n')
    with pytest.raises(SiteRefused, match=r"training\.protocol is local, the site takes part in pooled"):
        settings.check_study(tiny_study())


def test_where_the_hub_is(tmp_path):
    settings = site(tmp_path, '[hub]\naddress = "hub.example:8443"\n')
    assert settings.hub is not None
    assert (settings.hub.host, settings.hub.port) == ("hub.example", 8443)
    assert settings.hub.ca == tmp_path / "ca.crt"
    six = site(tmp_path, '[hub]\naddress = "[::1]:443"\n').hub
    assert six is not None
    assert (six.host, six.port) == ("::1", 443)


@pytest.mark.parametrize(
    "more",
    [
        'hours = ["8-17"]',
        'hours = ["08:00-08:00"]',
        'hours = ["24:00-01:00"]',
        'protocols = ["secure"]',
        'bundles = ["short"]',
        '[hub]\naddress = "hub.example"',
        '[hub]\naddress = "https://hub.example:443"',
        '[hub]\nca = "ca.crt"',
    ],
)
def test_what_does_not_fit_is_refused(tmp_path, more):
    with pytest.raises(StateError, match="does not fit"):
        site(tmp_path, more + "\n")
