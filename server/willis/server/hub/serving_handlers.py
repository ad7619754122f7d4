"""The methods of ``willis hub serve``, each parsing its own request.

gRPC's own parsing is not used: of a request that it cannot parse it (1.85) never ends the HTTP/2 stream, so
that 64 of them would close a connection to whoever shares it.
"""

from collections.abc import Callable
from typing import NoReturn, TypeVar

import grpc
from google.protobuf.message import DecodeError, Message
from grpc_health.v1 import health, health_pb2

from willis.server.hub.serving_answers import CollectionAnswers
from willis.server.hub.serving_check import HEALTH, SERVICE
from willis.shared.collection import collection_pb2 as words

Request = TypeVar("Request", bound=Message)
Answer = TypeVar("Answer")


def collection_handler(answers: CollectionAnswers) -> grpc.GenericRpcHandler:
    """Return the methods of the collection service."""
    one, many = grpc.unary_unary_rpc_method_handler, grpc.unary_stream_rpc_method_handler
    methods = {
        "List": one(_parsing(words.ListRequest, answers.List), None, _bytes_of),
        "Describe": one(_parsing(words.DescribeRequest, answers.Describe), None, _bytes_of),
        "Fetch": many(_parsing(words.FetchRequest, answers.Fetch), None, _bytes_of),
        "Draw": many(_parsing(words.DrawRequest, answers.Draw), None, _bytes_of),
    }
    return grpc.method_handlers_generic_handler(SERVICE, methods)


def health_handler(told: health.HealthServicer) -> grpc.GenericRpcHandler:
    """Return the one method of the health service that is served; the protocol allows the other to lack.

    ``Watch`` would let somebody unknown hold calls open.
    """
    check = _parsing(health_pb2.HealthCheckRequest, told.Check)
    return grpc.method_handlers_generic_handler(
        HEALTH, {"Check": grpc.unary_unary_rpc_method_handler(check, None, _bytes_of)}
    )


def _parsing(
    kind: type[Request], answer: Callable[[Request, grpc.ServicerContext], Answer]
) -> Callable[[bytes, grpc.ServicerContext], Answer]:
    def parsed(data: bytes, context: grpc.ServicerContext) -> Answer:
        try:
            request = kind.FromString(data)
        except DecodeError:
            _refuse(context, kind.DESCRIPTOR.name)
        return answer(request, context)

    return parsed


def _refuse(context: grpc.ServicerContext, name: str) -> NoReturn:
    context.abort(grpc.StatusCode.INVALID_ARGUMENT, f"the request is no {name}")
    raise AssertionError("abort returned")


def _bytes_of(message: Message) -> bytes:
    return message.SerializeToString()
