from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class ListRequest(_message.Message):
    __slots__ = ("version",)
    VERSION_FIELD_NUMBER: _ClassVar[int]
    version: int
    def __init__(self, version: _Optional[int] = ...) -> None: ...

class Releases(_message.Message):
    __slots__ = ("version", "releases")
    VERSION_FIELD_NUMBER: _ClassVar[int]
    RELEASES_FIELD_NUMBER: _ClassVar[int]
    version: int
    releases: _containers.RepeatedCompositeFieldContainer[ReleaseLine]
    def __init__(self, version: _Optional[int] = ..., releases: _Optional[_Iterable[_Union[ReleaseLine, _Mapping]]] = ...) -> None: ...

class ReleaseLine(_message.Message):
    __slots__ = ("name", "digest", "study", "privacy", "bytes")
    NAME_FIELD_NUMBER: _ClassVar[int]
    DIGEST_FIELD_NUMBER: _ClassVar[int]
    STUDY_FIELD_NUMBER: _ClassVar[int]
    PRIVACY_FIELD_NUMBER: _ClassVar[int]
    BYTES_FIELD_NUMBER: _ClassVar[int]
    name: str
    digest: str
    study: str
    privacy: str
    bytes: int
    def __init__(self, name: _Optional[str] = ..., digest: _Optional[str] = ..., study: _Optional[str] = ..., privacy: _Optional[str] = ..., bytes: _Optional[int] = ...) -> None: ...

class DescribeRequest(_message.Message):
    __slots__ = ("version", "release")
    VERSION_FIELD_NUMBER: _ClassVar[int]
    RELEASE_FIELD_NUMBER: _ClassVar[int]
    version: int
    release: str
    def __init__(self, version: _Optional[int] = ..., release: _Optional[str] = ...) -> None: ...

class Description(_message.Message):
    __slots__ = ("version", "release", "sheet", "sums", "signature", "files", "shape", "most_pairs", "sheet_file")
    VERSION_FIELD_NUMBER: _ClassVar[int]
    RELEASE_FIELD_NUMBER: _ClassVar[int]
    SHEET_FIELD_NUMBER: _ClassVar[int]
    SUMS_FIELD_NUMBER: _ClassVar[int]
    SIGNATURE_FIELD_NUMBER: _ClassVar[int]
    FILES_FIELD_NUMBER: _ClassVar[int]
    SHAPE_FIELD_NUMBER: _ClassVar[int]
    MOST_PAIRS_FIELD_NUMBER: _ClassVar[int]
    SHEET_FILE_FIELD_NUMBER: _ClassVar[int]
    version: int
    release: ReleaseLine
    sheet: bytes
    sums: bytes
    signature: bytes
    files: _containers.RepeatedCompositeFieldContainer[ReleaseFile]
    shape: Shape
    most_pairs: int
    sheet_file: str
    def __init__(self, version: _Optional[int] = ..., release: _Optional[_Union[ReleaseLine, _Mapping]] = ..., sheet: _Optional[bytes] = ..., sums: _Optional[bytes] = ..., signature: _Optional[bytes] = ..., files: _Optional[_Iterable[_Union[ReleaseFile, _Mapping]]] = ..., shape: _Optional[_Union[Shape, _Mapping]] = ..., most_pairs: _Optional[int] = ..., sheet_file: _Optional[str] = ...) -> None: ...

class ReleaseFile(_message.Message):
    __slots__ = ("name", "bytes")
    NAME_FIELD_NUMBER: _ClassVar[int]
    BYTES_FIELD_NUMBER: _ClassVar[int]
    name: str
    bytes: int
    def __init__(self, name: _Optional[str] = ..., bytes: _Optional[int] = ...) -> None: ...

class Shape(_message.Message):
    __slots__ = ("image",)
    IMAGE_FIELD_NUMBER: _ClassVar[int]
    image: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, image: _Optional[_Iterable[int]] = ...) -> None: ...

class FetchRequest(_message.Message):
    __slots__ = ("version", "release", "digest", "file", "offset")
    VERSION_FIELD_NUMBER: _ClassVar[int]
    RELEASE_FIELD_NUMBER: _ClassVar[int]
    DIGEST_FIELD_NUMBER: _ClassVar[int]
    FILE_FIELD_NUMBER: _ClassVar[int]
    OFFSET_FIELD_NUMBER: _ClassVar[int]
    version: int
    release: str
    digest: str
    file: str
    offset: int
    def __init__(self, version: _Optional[int] = ..., release: _Optional[str] = ..., digest: _Optional[str] = ..., file: _Optional[str] = ..., offset: _Optional[int] = ...) -> None: ...

class Chunk(_message.Message):
    __slots__ = ("data",)
    DATA_FIELD_NUMBER: _ClassVar[int]
    data: bytes
    def __init__(self, data: _Optional[bytes] = ...) -> None: ...

class DrawRequest(_message.Message):
    __slots__ = ("version", "release", "digest", "n", "seed", "first", "batch")
    VERSION_FIELD_NUMBER: _ClassVar[int]
    RELEASE_FIELD_NUMBER: _ClassVar[int]
    DIGEST_FIELD_NUMBER: _ClassVar[int]
    N_FIELD_NUMBER: _ClassVar[int]
    SEED_FIELD_NUMBER: _ClassVar[int]
    FIRST_FIELD_NUMBER: _ClassVar[int]
    BATCH_FIELD_NUMBER: _ClassVar[int]
    version: int
    release: str
    digest: str
    n: int
    seed: int
    first: int
    batch: int
    def __init__(self, version: _Optional[int] = ..., release: _Optional[str] = ..., digest: _Optional[str] = ..., n: _Optional[int] = ..., seed: _Optional[int] = ..., first: _Optional[int] = ..., batch: _Optional[int] = ...) -> None: ...

class Pairs(_message.Message):
    __slots__ = ("shape", "first", "n", "images", "labels")
    SHAPE_FIELD_NUMBER: _ClassVar[int]
    FIRST_FIELD_NUMBER: _ClassVar[int]
    N_FIELD_NUMBER: _ClassVar[int]
    IMAGES_FIELD_NUMBER: _ClassVar[int]
    LABELS_FIELD_NUMBER: _ClassVar[int]
    shape: Shape
    first: int
    n: int
    images: bytes
    labels: bytes
    def __init__(self, shape: _Optional[_Union[Shape, _Mapping]] = ..., first: _Optional[int] = ..., n: _Optional[int] = ..., images: _Optional[bytes] = ..., labels: _Optional[bytes] = ...) -> None: ...
