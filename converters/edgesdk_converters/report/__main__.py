"""``python -m edgesdk_converters.report > docs/report.schema.json``: exports the JSON Schema of a report's JSON."""

import json
import sys

from edgesdk_converters.report.write import record_schema

sys.stdout.write(json.dumps(record_schema(), indent=2) + "\n")
