"""A node that sends every answer twice: whole, and a few seconds later whole once more.

``WILLIS_TEST_TOLD`` is a file that gets a line for every repetition: what the hub said to it.
"""

import os
from typing import Any

import httpx

MODULE = "flwr.supernode.fleet_http_client"


def tamper(fleet: Any) -> None:
    client = fleet.FleetHttpClient
    announce, push, pull = client.PushMessages, client.PushObject, client.PullMessages
    last: list[Any] = []  # the announcement, then its objects

    def announcing(self, request, *rest, **more):
        last[:] = [request]
        return announce(self, request, *rest, **more)

    def pushing(self, request, *rest, **more):
        last.append(request)
        return push(self, request, *rest, **more)

    def pulling(self, request, *rest, **more):
        again, last[:] = tuple(last), []
        if again:
            said = repeat(self, again[0], again[1:])
            with open(os.environ["WILLIS_TEST_TOLD"], "a") as told:
                told.write(f"{said}\n")
        return pull(self, request, *rest, **more)

    def repeat(self, announcement, objects) -> str:
        try:
            session = announce(self, announcement).session_id
            for one in objects:
                one.session_id = session
                push(self, one)
        except httpx.HTTPStatusError as fault:
            return str(fault.response.status_code)
        return "taken"

    client.PushMessages, client.PushObject, client.PullMessages = announcing, pushing, pulling
