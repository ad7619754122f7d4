"""The texts that a hub writes: its nginx configuration, units and compose files, and a site's startup kit."""

from pathlib import Path

import jinja2

_ROOM = Path(__file__).with_name("templates")


def render(name: str, /, **values: object) -> str:
    """Fill in one template.

    Args:
        name: Its file name in ``templates/``, such as ``nginx.conf.jinja``.
        values: By the names that the template uses; one that is missing raises.

    Raises:
        jinja2.UndefinedError: A value is missing.
        jinja2.TemplateNotFound: There is no such template.
    """
    room = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_ROOM),
        undefined=jinja2.StrictUndefined,
        keep_trailing_newline=True,
        autoescape=False,  # configuration files, no HTML
    )
    return room.get_template(name).render(**values)
