"""Whether somebody serves a hub's releases, asked as a collector would; light, for it is asked often."""

import grpc
from grpc_health.v1 import health_pb2

from willis.server.hub.folder import HubFolder
from willis.shared.collection import collection_pb2 as words
from willis.shared.errors import Unreachable

SERVICE = words.DESCRIPTOR.services_by_name["Collection"].full_name
HEALTH = health_pb2.DESCRIPTOR.services_by_name["Health"].full_name
_ANSWER_S = 10.0


def check_serving(hub: HubFolder) -> None:
    """Ask whoever serves this hub, as a collector reaches it, whether it does.

    Raises:
        Unreachable: Nobody answers, or it is stopping.
    """
    address = f"{hub.settings.own_door}:{hub.settings.collection.port}"
    trusted = grpc.ssl_channel_credentials(hub.authority[1].read_bytes())
    with grpc.secure_channel(
        address, trusted, options=[("grpc.ssl_target_name_override", "localhost")]
    ) as channel:
        try:
            request = health_pb2.HealthCheckRequest(service=SERVICE)
            ask = channel.unary_unary(
                f"/{HEALTH}/Check",
                request_serializer=health_pb2.HealthCheckRequest.SerializeToString,
                response_deserializer=health_pb2.HealthCheckResponse.FromString,
            )
            told = ask(request, timeout=_ANSWER_S)
        except grpc.RpcError as fault:
            raise Unreachable(f"nobody serves at {address}; `willis hub serve {hub.path}` does") from fault
    if told.status != health_pb2.HealthCheckResponse.SERVING:
        raise Unreachable(f"the hub at {address} is stopping")
