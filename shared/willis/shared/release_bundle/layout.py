"""Where everything lies in a release's folder: the layout of a MONAI bundle, and what Willis adds to it."""

from willis.shared.release_signature import SUMS as SUMS  # digests of all the others; no digest of itself

WEIGHTS = "models/model.safetensors"
STATE_DICT = "models/model.pt"
SHEET = "release.json"
CARD = "docs/README.md"
STATEMENT = "docs/privacy_statement.json"
STATEMENT_SCHEMA = "docs/privacy_statement.schema.json"
STATEMENT_PROSE = "docs/privacy_statement.md"
METADATA = "configs/metadata.json"
INFERENCE = "configs/inference.json"
DRAWING = "configs/drawing.json"
SCRIPT = "scripts/generator.py"
SOURCES = "scripts/source.zip"  # where the script needs more than itself
LICENCE = "LICENSE"

# What every release holds; a release whose recipe is no network alone holds its sources too.
FILES = (
    LICENCE,
    DRAWING,
    INFERENCE,
    METADATA,
    CARD,
    STATEMENT,
    STATEMENT_PROSE,
    STATEMENT_SCHEMA,
    STATE_DICT,
    WEIGHTS,
    SHEET,
    SCRIPT,
)
