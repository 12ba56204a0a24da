"""``python -m edgesdk.app > docs/app.schema.json``: exports the JSON Schema of app.yaml."""

import json
import sys

from edgesdk.app.config import app_json_schema

sys.stdout.write(json.dumps(app_json_schema(), indent=2) + "\n")
