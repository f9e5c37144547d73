"""`python -m parapet.schemas`: write genome.schema.json from the genes of the catalogue."""

from __future__ import annotations

import json
from pathlib import Path

from parapet.schemas.genome import genome_schema

if __name__ == "__main__":
    path = Path(__file__).with_name("genome.schema.json")
    path.write_text(json.dumps(genome_schema(), indent=1) + "\n", encoding="utf-8")
    print(path)
