"""``python -m edgesdk_converters.sweep > docs/sweep.schema.json``: exports the JSON Schema of sweep.yaml."""

import json
import sys

from edgesdk_converters.sweep.file import sweep_json_schema

sys.stdout.write(json.dumps(sweep_json_schema(), indent=2) + "\n")
