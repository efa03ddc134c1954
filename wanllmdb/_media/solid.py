"""Things in space: objects, clouds of points, molecules."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from wanllmdb import _json, _values
from wanllmdb._media.arrays import as_numpy
from wanllmdb._media.base import (
    Document,
    Media,
    Place,
    caption_of,
    captions,
    extension_of,
    is_path,
    read_all,
    refuse_remote,
)
from wanllmdb._media.content import Content
from wanllmdb.errors import InvalidInputError

_CLOUD = ".pts.json"


class _Solid(Media):
    """A file that says what is in space."""

    EXTENSIONS: ClassVar[tuple[str, ...]]
    LIST_TYPE: ClassVar[str]

    def _take(self, data: Any, file_type: str | None) -> None:
        """Take over the bytes of a path, or of an open file."""
        what = type(self).__name__
        if is_path(data):
            refuse_remote(data, what)
            extension = extension_of(data, self.EXTENSIONS)
        else:
            extension = f".{file_type}"
        if extension not in self.EXTENSIONS:
            known = ", ".join(known[1:] for known in self.EXTENSIONS)
            raise InvalidInputError(
                f"{what} is not {extension[1:]!r}.",
                hint=f"Use {known}; of an open file, say file_type=.",
            )
        self._extension = extension
        self._content = (
            Content.of_file(data) if is_path(data) else Content.of(read_all(data, what))
        )

    @classmethod
    def _of(cls, document: Mapping[str, Any], reader: Any) -> Any:
        made = super()._of(document, reader)
        made._extension = extension_of(document["path"], cls.EXTENSIONS)
        return made

    @classmethod
    def _reference_of_all(cls, items: Sequence[_Solid], place: Place) -> Document:
        return {
            "_type": cls.LIST_TYPE,
            "filenames": [item._reference(place)["path"] for item in items],
            "count": len(items),
            **captions(items),
        }


class Object3D(_Solid):
    """An object in space, or a cloud of points.

    Its bytes are taken at the call.

    Args:
        data_or_path: The path of an obj, gltf, glb, babylon, stl or pts.json file, or
            an open one; points as an array of (n, 3), of (n, 4) with a category, or of
            (n, 6) with a color; or a scene, ``{"type": "lidar/beta", "points": ...,
            "boxes": ..., "vectors": ...}``.
        caption: For people.
        file_type: Of an open file: ``obj``, ``gltf``, ...

    Raises:
        InvalidInputError: it cannot be read, or is none of these.
    """

    TYPE = "object3D-file"
    FOLDER = "object3D"
    LIST_TYPE = "object3D"
    EXTENSIONS = (_CLOUD, ".obj", ".gltf", ".glb", ".babylon", ".stl")

    def __init__(
        self,
        data_or_path: Any,
        caption: str | None = None,
        file_type: str | None = None,
    ) -> None:
        self._caption = caption_of(caption)
        if is_path(data_or_path) or hasattr(data_or_path, "read"):
            self._take(data_or_path, file_type)
            return
        self._extension = _CLOUD
        is_scene = isinstance(data_or_path, Mapping)
        made = _scene(data_or_path) if is_scene else _points(data_or_path)
        self._content = Content.of(_json.dumps(made).encode())

    @classmethod
    def from_file(cls, data_or_path: Any, file_type: str | None = None) -> Object3D:
        """An object of a file; see the class."""
        return cls(data_or_path, file_type=file_type)

    @classmethod
    def from_numpy(cls, data: Any) -> Object3D:
        """A cloud of an array of points; see the class."""
        return cls(data)

    @classmethod
    def from_point_cloud(
        cls,
        points: Sequence[Any],
        boxes: Sequence[Any],
        vectors: Sequence[Any] | None = None,
        point_cloud_type: str = "lidar/beta",
    ) -> Object3D:
        """A scene.

        Args:
            points: As the class takes them.
            boxes: Mappings with eight ``corners``, a ``color``, and maybe a ``label``.
            vectors: Mappings with a ``start`` and an ``end``.
            point_cloud_type: ``lidar/beta``.

        Raises:
            InvalidInputError: there is no such type, or one of these is no list.
        """
        scene = {"points": points, "boxes": boxes, "vectors": vectors or ()}
        return cls({"type": point_cloud_type, **scene})


def _points(data: Any) -> list[Any]:
    points = as_numpy(data, "Object3D")
    if points.ndim != 2 or points.shape[1] not in (3, 4, 6):
        raise InvalidInputError(
            f"Points are no array of shape {points.shape}.",
            hint="Give (n, 3), (n, 4) with a category, or (n, 6) with a color.",
        )
    found: list[Any] = points.tolist()
    return found


def _scene(data: Mapping[Any, Any]) -> dict[str, Any]:
    if data.get("type") != "lidar/beta":
        raise InvalidInputError(
            f"There is no scene of type {data.get('type')!r}.", hint="Use lidar/beta."
        )
    made: Document = {"type": "lidar/beta"}
    for part in ("points", "boxes", "vectors"):
        found: Any = _values.config_value(data.get(part, ()))
        if not isinstance(found, list):
            raise InvalidInputError(
                f"The {part} of a scene are no list or array.", hint="Give a list."
            )
        made[part] = found
    return made


class Molecule(_Solid):
    """A molecule.

    Its bytes are taken at the call.

    Args:
        data_or_path: The path of a pdb, pqr, mmcif, mcif, cif, sdf, sd, gro, mol2 or
            mmtf file, or an open one.
        caption: For people.
        file_type: Of an open file: ``pdb``, ``sdf``, ...

    Raises:
        InvalidInputError: it cannot be read, or is none of these.
    """

    TYPE = "molecule-file"
    FOLDER = "molecule"
    LIST_TYPE = "molecule"
    EXTENSIONS = (
        ".pdb", ".pqr", ".mmcif", ".mcif", ".cif", ".sdf", ".sd", ".gro", ".mol2",
        ".mmtf",
    )  # fmt: skip

    def __init__(
        self,
        data_or_path: Any,
        caption: str | None = None,
        file_type: str | None = None,
    ) -> None:
        self._caption = caption_of(caption)
        if not is_path(data_or_path) and not hasattr(data_or_path, "read"):
            raise InvalidInputError(
                f"Molecule takes a file, not a {type(data_or_path).__name__}.",
                hint="Give its path, or an open one and file_type=.",
            )
        self._take(data_or_path, file_type)
