"""Write the example units and compose files beside this one, from the templates that ``willis hub`` fills in.

Run ``python deploy/render.py`` after a change of a template; a test compares byte by byte.
"""

from pathlib import Path

from willis.server.hub.templates import render

DEPLOY = Path(__file__).resolve().parent

EXAMPLE: dict[str, str | int | tuple[int, int]] = {
    "hub": "/srv/willis/hub",
    "site": "/srv/willis/site",
    "willis": "/opt/willis/bin/willis",
    "user": "willis",
    "port": 8443,
    "collection_ports": (8444, 8445),
    "image": "localhost/willis",
}
WRITTEN = {
    "coordinator/willis-hub.service": "hub.service.jinja",
    "coordinator/willis-serving.service": "serving.service.jinja",
    "coordinator/compose.yaml": "coordinator.compose.yaml.jinja",
    "hospital/willis-site.service": "site.service.jinja",
    "hospital/compose.yaml": "site.compose.yaml.jinja",
}


def main() -> None:
    """Write every example."""
    for name, template in WRITTEN.items():
        (DEPLOY / name).write_text(render(template, **EXAMPLE), encoding="utf-8")


if __name__ == "__main__":
    main()
