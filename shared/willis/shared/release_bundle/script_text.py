"""The script that a release carries: Willis' own files put one after the other, nothing written anew.

A release whose sampler is a network alone gets one file that needs torch and nothing else. Any other gets
the recipe's modules beside it, copied as they are, in a zip that Python imports from.
"""

import ast
import inspect
import io
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath
from types import ModuleType

import willis.shared.networks.batch_statistics as batch_statistics
import willis.shared.networks.doubling_generator as doubling_generator
import willis.shared.networks.first_weights as first_weights
import willis.shared.networks.generator as generator
import willis.shared.release_bundle.joint_network as joint_network
import willis.shared.release_bundle.latent_network as latent_network
import willis.shared.release_bundle.network_drawing as network_drawing
import willis.shared.release_bundle.pairs_script as pairs_script
import willis.shared.release_bundle.recipe_drawing as recipe_drawing
from willis.shared.networks.build import public_generator
from willis.shared.networks.doubling_generator import DoublingGenerator
from willis.shared.networks.generator import Generator
from willis.shared.recipes.network_sampler import draw_blocks

_ROOT = Path(pairs_script.__file__).parents[3]  # holds the folder willis/ of this room
_EPOCH = (1980, 1, 1, 0, 0, 0)  # a zip's earliest: the same bytes for the same files
_OURS, _ANNOTATIONS = "willis", "jaxtyping"  # imports that a script does without
_NETWORKS: dict[type, tuple[ModuleType, ...]] = {
    Generator: (generator, latent_network),
    DoublingGenerator: (batch_statistics, first_weights, doubling_generator, joint_network),
}


def network_script(network: type) -> str:
    """Return the script that draws from a network with torch alone.

    Args:
        network: Class of the generator.

    Raises:
        ValueError: It is none that a script can hold.
    """
    if network not in _NETWORKS:
        raise ValueError(f"no script can hold a {network.__name__} alone")
    return _joined([public_generator, *_NETWORKS[network], draw_blocks, network_drawing, pairs_script])


def recipe_script() -> str:
    """Return the script that draws by the sources beside it."""
    return _joined([recipe_drawing, pairs_script])


def recipe_sources(module: str) -> bytes:
    """Return a zip of the files of this room that a recipe's module imports, itself among them.

    Args:
        module: As it is imported.
    """
    found: dict[str, Path] = {}
    waiting = [module, "willis.shared.study"]
    while waiting:
        name = waiting.pop()
        path = _ROOT / f"{name.replace('.', '/')}.py"
        if name in found or not path.is_file():
            continue
        found[name] = path
        waiting += [one for one in _imported(path) if one.split(".")[0] == _OURS]
    return _zipped({f"{name.replace('.', '/')}.py": path.read_bytes() for name, path in found.items()})


def _zipped(files: Mapping[str, bytes]) -> bytes:
    """Folders are entries of their own: Python before 3.13 finds no namespace package in a zip otherwise."""
    folders = {f"{folder}/" for name in files for folder in PurePosixPath(name).parents if folder.name}
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w") as archive:
        for name in sorted({*files, *folders}):
            entry = zipfile.ZipInfo(name, date_time=_EPOCH)
            entry.external_attr = (0o40755 << 16 | 0x10) if name in folders else 0o100644 << 16
            archive.writestr(entry, files.get(name, b""), compress_type=zipfile.ZIP_STORED)
    return data.getvalue()


def _imported(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def _joined(parts: Sequence[ModuleType | Callable]) -> str:
    """Put texts together: one docstring, the last module's; one block of imports; no name twice."""
    texts = [inspect.getsource(part) for part in parts]
    trees = [ast.parse(text) for text in texts]
    imports: set[str] = {"import hashlib", "from math import prod"}  # of the two functions' modules
    bodies, names = [], []
    for text, tree in zip(texts, trees, strict=True):
        imports |= set(_kept_imports(tree))
        bodies.append(_body(text, tree))
        names += _defined(tree)
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise ValueError(f"a script cannot define a name twice: {', '.join(twice)}")
    imports = {line for line in imports if _used(line, bodies)}
    head = f'"""{ast.get_docstring(trees[-1], clean=False)}"""\n\nfrom __future__ import annotations\n'
    plain = sorted(line for line in imports if line.startswith("import "))
    chosen = sorted(line for line in imports if line.startswith("from "))
    tail = 'if __name__ == "__main__":\n    main()\n'
    return "\n".join((head, *plain, *chosen)) + "\n\n" + "\n\n\n".join((*bodies, tail))


def _kept_imports(tree: ast.Module) -> Iterator[str]:
    """One line for every name that is imported from elsewhere."""
    for node in tree.body:
        if isinstance(node, ast.ImportFrom) and node.module not in (None, "__future__"):
            if node.module.split(".")[0] not in (_OURS, _ANNOTATIONS):
                yield from (f"from {node.module} import {alias.name}" for alias in node.names)
        elif isinstance(node, ast.Import):
            yield from (f"import {alias.name}" for alias in node.names if not alias.asname)


def _used(line: str, bodies: Sequence[str]) -> bool:
    name = line.split()[-1].split(".")[0]
    named = (node for body in bodies for node in ast.walk(ast.parse(body)) if isinstance(node, ast.Name))
    return any(node.id == name for node in named)


def _body(text: str, tree: ast.Module) -> str:
    """Return a text without its docstring and imports; comments stay."""
    lines = text.splitlines()
    for node in tree.body:
        docstring = isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
        if docstring or isinstance(node, ast.Import | ast.ImportFrom):
            for at in range(node.lineno - 1, node.end_lineno or node.lineno):
                lines[at] = ""
    return "\n".join(lines).strip("\n")


def _defined(tree: ast.Module) -> Iterator[str]:
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            yield node.name
        elif isinstance(node, ast.Assign):
            yield from (target.id for target in node.targets if isinstance(target, ast.Name))
